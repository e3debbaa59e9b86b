//! Sizes and durations as people type them in configuration.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Why a value with a unit is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    #[error("`{0}` is not a size: write a whole number and one of B, KiB, MiB, GiB, such as `4MiB`")]
    Size(String),
    #[error("`{0}` is not a duration: write a whole number and one of ms, s, min, h, d, such as `30min`")]
    Duration(String),
    #[error("`{given}` is not one of: {choices}")]
    Choice { given: String, choices: &'static str },
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// Reads `4MiB`, `64 KiB`, `100B`.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        number_and_unit(text, &Self::UNITS).map(Self).ok_or_else(|| UnitError::Size(clip(text)))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_with_unit(f, self.0, &Self::UNITS)
    }
}

/// A duration of whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    const UNITS: [(&'static str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

    /// Reads `500ms`, `30 s`, `30min`, `2h`, `7d`.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        number_and_unit(text, &Self::UNITS)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| UnitError::Duration(clip(text)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_with_unit(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &Self::UNITS)
    }
}

fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn print_with_unit(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |factor: &u64| value >= *factor && value.is_multiple_of(*factor);
    let (name, factor) = units.iter().find(|(_, factor)| fits(factor)).unwrap_or(&units[units.len() - 1]);
    write!(f, "{}{name}", value / factor)
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_back_as_they_print() {
        for text in ["4MiB", "1GiB", "100B", "1536KiB"] {
            assert_eq!(ByteSize::parse(text).unwrap().to_string(), text);
        }
        for text in ["500ms", "30min", "2h", "7d", "90s"] {
            assert_eq!(HumanDuration::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ByteSize::parse(" 64 KiB ").unwrap().0, 65_536);
    }

    #[test]
    fn a_value_without_a_unit_is_refused_with_an_example() {
        for text in ["", "10", "MiB", "1.5MiB", "4mb", "-1B", "99999999999999999999GiB"] {
            assert!(ByteSize::parse(text).unwrap_err().to_string().contains("4MiB"), "{text}");
            assert!(HumanDuration::parse(text).is_err(), "{text}");
        }
    }
}
