//! Money as analysts store it: `Decimal(18, 4)`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in ten-thousandths of the site's currency unit.
///
/// Decimal, never floating point: sums must not depend on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Money(i64);

impl Money {
    /// Ten-thousandths in one unit: the scale of `Decimal(18, 4)`.
    pub const SCALE: i64 = 10_000;
    /// The largest magnitude of `Decimal(18, 4)`, in ten-thousandths.
    pub const MAX: i64 = 999_999_999_999_999_999;

    #[must_use]
    pub fn from_ten_thousandths(n: i64) -> Self {
        Self(n.clamp(-Self::MAX, Self::MAX))
    }

    #[must_use]
    pub fn ten_thousandths(self) -> i64 {
        self.0
    }

    /// Reads a decimal number as SDKs write it: sign, digits, fraction, and an
    /// exponent such as `1e+21`. Digits past the fourth decimal are rounded half
    /// away from zero. `None` when it is no number or exceeds `Decimal(18, 4)`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match digits.find(['e', 'E']) {
            Some(at) => (&digits[..at], digits[at + 1..].parse::<i32>().ok()?),
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = whole.bytes().chain(fraction.bytes());
        if (whole.len() + fraction.len()) == 0 || !all.clone().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // Value = digits x 10^(exponent - fraction digits); in ten-thousandths add 4.
        let shift = i64::from(exponent) - i64::try_from(fraction.len()).ok()? + 4;
        let magnitude = scaled(all, shift)?;
        Some(Self(if negative { -magnitude } else { magnitude }))
    }

    /// Adds, and stays inside `Decimal(18, 4)`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self::from_ten_thousandths(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub fn negated(self) -> Self {
        Self(-self.0)
    }
}

/// The decimal digits times `10^shift`, rounded half away from zero.
fn scaled(digits: impl Iterator<Item = u8>, shift: i64) -> Option<i64> {
    let digits: Vec<u8> = digits.skip_while(|b| *b == b'0').collect();
    let kept = i64::try_from(digits.len()).ok()?.checked_add(shift)?;
    if digits.is_empty() || kept < 0 {
        return Some(0);
    }
    if kept > 18 {
        return None;
    }
    let kept = usize::try_from(kept).ok()?;
    let digit = |i: usize| i64::from(digits.get(i).map_or(0, |b| b - b'0'));
    let mut value = (0..kept).fold(0_i64, |sum, i| sum * 10 + digit(i));
    if digit(kept) >= 5 {
        value += 1;
    }
    (value <= Money::MAX).then_some(value)
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.unsigned_abs() / 10_000, self.0.unsigned_abs() % 10_000);
        write!(f, "{}{whole}.{part:04}", if self.0 < 0 { "-" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_what_sdks_write() {
        for (text, value) in [
            ("0", 0),
            ("0.0", 0),
            ("12.5", 125_000),
            ("-3.14159", -31_416),
            ("1e2", 1_000_000),
            ("1E-4", 1),
            ("0.00005", 1),
            ("0.00004", 0),
            ("1e-400", 0),
            (".5", 5_000),
            ("99999999999999.9999", Money::MAX),
        ] {
            assert_eq!(Money::parse(text).map(Money::ten_thousandths), Some(value), "{text}");
        }
    }

    #[test]
    fn money_refuses_what_does_not_fit() {
        for text in
            ["", "-", "abc", "1.2.3", "1e", "1e+21", "100000000000000", "NaN", "inf", "0x1", "1 2", "."]
        {
            assert_eq!(Money::parse(text), None, "{text}");
        }
    }

    #[test]
    fn money_prints_four_decimals() {
        assert_eq!(Money::from_ten_thousandths(-31_416).to_string(), "-3.1416");
        assert_eq!(Money::from_ten_thousandths(5).to_string(), "0.0005");
    }
}
