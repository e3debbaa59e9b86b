//! Days in UTC, as `visits.visit_date` and the commands count them.

use std::fmt;

use jiff::civil::Date;
use thiserror::Error;

const DAY_MS: u64 = 86_400_000;

/// A day, by its number since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

/// Why a text is no day.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a day: write it as 2026-10-01")]
pub struct DayError(String);

impl Day {
    /// The day of an instant in milliseconds since the epoch.
    #[must_use]
    pub fn of_ms(at_ms: u64) -> Self {
        Self(u32::try_from(at_ms / DAY_MS).unwrap_or(u32::MAX))
    }

    #[must_use]
    pub fn from_number(days_since_epoch: u32) -> Self {
        Self(days_since_epoch)
    }

    /// Reads `2026-10-01`.
    pub fn parse(text: &str) -> Result<Self, DayError> {
        let error = || DayError(text.chars().take(40).collect());
        let date: Date = text.parse().map_err(|_| error())?;
        let since = date.since(Date::constant(1970, 1, 1)).map_err(|_| error())?;
        let day = u32::try_from(since.get_days()).map(Self).map_err(|_| error())?;
        // The parser takes times and shorter forms as well, and forgets them.
        if day.to_string() == text { Ok(day) } else { Err(error()) }
    }

    /// The first instant of the day.
    #[must_use]
    pub fn start_ms(self) -> u64 {
        u64::from(self.0) * DAY_MS
    }

    /// The first instant after the day.
    #[must_use]
    pub fn end_ms(self) -> u64 {
        self.start_ms() + DAY_MS
    }

    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    #[must_use]
    pub fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = jiff::Span::new().try_days(i64::from(self.0)).map_err(|_| fmt::Error)?;
        let date = Date::constant(1970, 1, 1).checked_add(span).map_err(|_| fmt::Error)?;
        write!(f, "{date}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_back_as_it_prints() {
        for text in ["1970-01-01", "2024-02-29", "2026-10-01"] {
            assert_eq!(Day::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Day::of_ms(Day::parse("2026-10-01").unwrap().end_ms() - 1).to_string(), "2026-10-01");
        for text in ["", "2026-13-01", "yesterday", "1969-12-31", "2026-10-01T00:00"] {
            assert!(Day::parse(text).is_err(), "{text}");
        }
    }
}
