//! Names that come from outside, checked once at the door.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The longest visitor code that SDKs send, in characters (Unicode scalar values).
pub const VISITOR_CODE_CHARS_MAX: usize = 255;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    #[error(
        "a site code is 1 to 64 of the characters A-Z a-z 0-9 - _ . and `{0}` is not; use the code that the SDK is given"
    )]
    SiteCode(String),
}

/// A site, as the customer writes it: 1 to 64 of `A-Z a-z 0-9 - _ .`.
///
/// Cheap to clone: every record, row and metric carries one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteCode(Arc<str>);

impl SiteCode {
    /// The longest site code, in bytes: it stands in keys, file names and labels.
    pub const BYTES_MAX: usize = 64;

    /// Checks the characters; the set is what is safe in URLs, file names and
    /// metric labels without escaping.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if fits && plain && text != "." && text != ".." {
            Ok(Self(Arc::from(text)))
        } else {
            let shown: String = text.chars().take(Self::BYTES_MAX).collect();
            Err(IdError::SiteCode(shown))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SiteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for SiteCode {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_code_is_safe_in_a_path() {
        for good in ["abcdefghij", "a", "shop-1.eu_2"] {
            assert_eq!(SiteCode::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\0b", &"x".repeat(65)] {
            assert!(SiteCode::parse(bad).is_err(), "{bad:?}");
        }
    }
}
