//! The three ways in which nginx writes the time of a request.
//!
//! Never reads a clock. What must stay true: a time that nginx did not write in the
//! last decades is damage, and refused.

/// From 2000 to 2100: another time is damage, and a day of it would never be looked at.
const PLAUSIBLE_SECONDS: std::ops::Range<i64> = 946_684_800..4_102_444_800;
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The variable that tells the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeForm {
    /// `1700000000.123`
    Msec,
    /// `2023-11-14T22:13:20+00:00`
    Iso8601,
    /// `14/Nov/2023:22:13:20 +0000`
    Local,
}

impl TimeForm {
    /// Milliseconds since 1970.
    pub(super) fn milliseconds(self, text: &[u8]) -> Option<u64> {
        match self {
            Self::Msec => of_msec(text),
            Self::Iso8601 => whole(of_iso8601(text)?),
            Self::Local => whole(of_local(text)?),
        }
    }
}

fn of_msec(text: &[u8]) -> Option<u64> {
    let (seconds, fraction) = text.split_at_checked(text.len().checked_sub(4)?)?;
    let [b'.', fraction @ ..] = fraction else { return None };
    if seconds.is_empty() {
        return None;
    }
    let seconds = whole(i64::try_from(number(seconds)?).ok()?)?;
    seconds.checked_add(number(fraction)?)
}

fn whole(seconds: i64) -> Option<u64> {
    let seconds = Some(seconds).filter(|at| PLAUSIBLE_SECONDS.contains(at))?;
    u64::try_from(seconds).ok()?.checked_mul(1_000)
}

fn of_iso8601(text: &[u8]) -> Option<i64> {
    let text: &[u8; 25] = text.try_into().ok()?;
    let marks = [text[4], text[7], text[10], text[13], text[16], text[22]];
    if marks != *b"--T:::" {
        return None;
    }
    let date = days(two(text, 0)? * 100 + two(text, 2)?, two(text, 5)?, two(text, 8)?)?;
    let zone = offset(text[19], two(text, 20)?, two(text, 23)?)?;
    Some(date + clock(two(text, 11)?, two(text, 14)?, two(text, 17)?)? - zone)
}

fn of_local(text: &[u8]) -> Option<i64> {
    let text: &[u8; 26] = text.try_into().ok()?;
    let marks = [text[2], text[6], text[11], text[14], text[17], text[20]];
    if marks != *b"//::: " {
        return None;
    }
    let month = MONTHS.iter().position(|name| name[..] == text[3..6])?;
    let date = days(two(text, 7)? * 100 + two(text, 9)?, i64::try_from(month).ok()? + 1, two(text, 0)?)?;
    let zone = offset(text[21], two(text, 22)?, two(text, 24)?)?;
    Some(date + clock(two(text, 12)?, two(text, 15)?, two(text, 18)?)? - zone)
}

fn two(text: &[u8], at: usize) -> Option<i64> {
    let digit = |byte: u8| byte.checked_sub(b'0').filter(|digit| *digit <= 9);
    Some(i64::from(digit(text[at])? * 10 + digit(text[at + 1])?))
}

/// The seconds of a day of the calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = LENGTHS.get(before)? + i64::from(is_leap && month == 2);
    if year < 1970 || !(1..=length).contains(&day) {
        return None;
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let this_year = LENGTHS[..before].iter().sum::<i64>() + i64::from(is_leap && month > 2) + day - 1;
    Some(((year - 1970) * 365 + leap_days + this_year) * 86_400)
}

fn clock(hour: i64, minute: i64, second: i64) -> Option<i64> {
    // A leap second is written as 60.
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3_600 + minute * 60 + second)
}

fn offset(sign: u8, hours: i64, minutes: i64) -> Option<i64> {
    let seconds = (hours < 24 && minutes < 60).then_some(hours * 3_600 + minutes * 60)?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// A status has three digits, in every version.
pub(super) fn status(text: &[u8]) -> Option<u16> {
    if text.len() != 3 {
        return None;
    }
    u16::try_from(number(text)?).ok()
}

/// Up to as many digits as cannot overflow.
fn number(digits: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 18;
    if digits.len() > DIGITS_MAX {
        return None;
    }
    let mut number = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_tell_the_same_time() {
        for (form, text) in [
            (TimeForm::Msec, "1700000000.000"),
            (TimeForm::Iso8601, "2023-11-14T22:13:20+00:00"),
            (TimeForm::Iso8601, "2023-11-15T03:43:20+05:30"),
            (TimeForm::Local, "14/Nov/2023:22:13:20 +0000"),
            (TimeForm::Local, "14/Nov/2023:14:13:20 -0800"),
        ] {
            assert_eq!(form.milliseconds(text.as_bytes()), Some(1_700_000_000_000), "{text}");
        }
    }

    #[test]
    fn days_are_counted_as_the_calendar_counts_them() {
        for (text, seconds) in [
            ("2000-01-01T00:00:00+00:00", 946_684_800),
            ("2000-02-29T00:00:00+00:00", 951_782_400),
            ("2024-03-01T00:00:00+00:00", 1_709_251_200),
            ("2038-01-19T03:14:08+00:00", 2_147_483_648),
            ("2099-12-31T23:59:59+00:00", 4_102_444_799),
        ] {
            assert_eq!(TimeForm::Iso8601.milliseconds(text.as_bytes()), Some(seconds * 1_000), "{text}");
        }
        let mut day = 946_684_800;
        for year in 2000..2100 {
            for month in 1..=12 {
                assert_eq!(days(year, month, 1), Some(day), "{year}-{month}");
                let length = (28..=31).rev().find(|length| days(year, month, *length).is_some()).unwrap();
                day += length * 86_400;
            }
        }
        assert_eq!(day, PLAUSIBLE_SECONDS.end);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-",
            ".123",
            "1700000000",
            "1700000000.12",
            "99999999999999999999.000",
            "1.000",
            "1700000000.+12",
        ] {
            assert_eq!(TimeForm::Msec.milliseconds(text.as_bytes()), None, "{text}");
        }
        for text in [
            "1999-12-31T23:59:59+00:00",
            "2023-02-29T00:00:00+00:00",
            "2023-13-01T00:00:00+00:00",
            "2023-11-14T24:00:00+00:00",
            "2023-11-14 22:13:20+00:00",
            "2023-11-14T22:13:20Z",
        ] {
            assert_eq!(TimeForm::Iso8601.milliseconds(text.as_bytes()), None, "{text}");
        }
        for text in [
            "14/nov/2023:22:13:20 +0000",
            "00/Nov/2023:22:13:20 +0000",
            "14/Nov/2023:22:13:20 00000",
            "14/Nov/2023:22:13:2x +0000",
        ] {
            assert_eq!(TimeForm::Local.milliseconds(text.as_bytes()), None, "{text}");
        }
        for text in ["", "20", "+20", "20x", "2000"] {
            assert_eq!(status(text.as_bytes()), None, "{text}");
        }
    }
}
