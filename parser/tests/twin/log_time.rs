//! Times of nginx, counted day by day from 1970.

/// Seconds since 1970; `None` where nginx cannot have written it.
pub(crate) fn seconds(text: &str, is_iso: bool) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let shape = if is_iso { "0000-00-00T00:00:00+00:00" } else { "00/AAA/0000:00:00:00 +0000" };
    let fits = |(a, b): (char, char)| match b {
        '0' => a.is_ascii_digit(),
        'A' => a.is_ascii_alphabetic(),
        '+' => a == '+' || a == '-',
        other => a == other,
    };
    if !text.is_ascii() || text.len() != shape.len() || !text.chars().zip(shape.chars()).all(fits) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day, clock) = match is_iso {
        true => (number(0..4), usize::try_from(number(5..7)).unwrap(), number(8..10), 11),
        false => (number(7..11), MONTHS.iter().position(|m| *m == &text[3..6])? + 1, number(0..2), 12),
    };
    let (hour, minute, second) =
        (number(clock..clock + 2), number(clock + 3..clock + 5), number(clock + 6..clock + 8));
    let zone = clock + if is_iso { 8 } else { 9 };
    let (zone_hours, zone_minutes) =
        (number(zone + 1..zone + 3), number(if is_iso { zone + 4..zone + 6 } else { zone + 3..zone + 5 }));
    let length = |year: i64, month: usize| match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 400 == 0 || (year % 4 == 0 && year % 100 != 0) => 29,
        2 => 28,
        _ => 31,
    };
    let is_date = year >= 1970 && (1..=12).contains(&month) && day >= 1 && day <= length(year, month);
    if !is_date || hour > 23 || minute > 59 || second > 60 || zone_hours > 23 || zone_minutes > 59 {
        return None;
    }
    let mut days = day - 1;
    for earlier in 1970..year {
        days += (1..=12).map(|month| length(earlier, month)).sum::<i64>();
    }
    days += (1..month).map(|month| length(year, month)).sum::<i64>();
    let sign = if text.as_bytes()[zone] == b'-' { -1 } else { 1 };
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    u64::try_from(seconds - sign * (zone_hours * 3600 + zone_minutes * 60)).ok()
}
