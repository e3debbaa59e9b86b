//! How a value is found, for people and for whoever does it again byte by byte.
//!
//! Never searches: [`super::locate`] does.

use std::fmt;

use serde::Serialize;

use super::error::shown_bytes;
use super::plan::{Anchor, Back, Find};

/// How a value's end, or its beginning, is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Search {
    /// Ends `before` bytes before the first such byte.
    Byte {
        byte: u8,
        before: usize,
    },
    /// As `Byte` for `"`, without those that a backslash escapes.
    Quote {
        before: usize,
    },
    Width {
        bytes: usize,
    },
    /// Ends with the line, less the last literal; does not hold `never`.
    End {
        never: Option<u8>,
    },
    /// Is what the next `values` leave, which are found backwards; the last of them
    /// ends as `anchor` says.
    Open {
        values: usize,
        anchor: OpenEnd,
    },
    BackWidth {
        bytes: usize,
    },
    /// Begins `after` bytes behind the last such byte.
    BackByte {
        byte: u8,
        after: usize,
    },
    BackQuote {
        after: usize,
    },
}

/// The end of the last value behind an open one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum OpenEnd {
    Byte { byte: u8, before: usize },
    Quote { before: usize },
    End,
}

impl Search {
    pub(super) fn of(find: Find, at: usize) -> Self {
        match find {
            Find::Column(byte) => Self::Byte { byte, before: 0 },
            Find::Byte { byte, before } => Self::Byte { byte, before },
            Find::Quote { before } => Self::Quote { before },
            Find::Width(bytes) => Self::Width { bytes },
            Find::Tail { never } => Self::End { never },
            Find::Open { last, anchor } => Self::Open {
                values: last - at,
                anchor: match anchor {
                    Anchor::Byte { byte, before } => OpenEnd::Byte { byte, before },
                    Anchor::Quote { before } => OpenEnd::Quote { before },
                    Anchor::Tail => OpenEnd::End,
                },
            },
            Find::Backwards(Back::Width(bytes)) => Self::BackWidth { bytes },
            Find::Backwards(Back::Byte { byte, after }) => Self::BackByte { byte, after },
            Find::Backwards(Back::Quote { after }) => Self::BackQuote { after },
        }
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let byte = |byte: u8| shown_bytes(&[byte]);
        match *self {
            Self::Byte { byte: at, .. } => write!(f, "to the first {}", byte(at)),
            Self::Quote { .. } => f.write_str("to the first `\"` without a backslash"),
            Self::Width { bytes } => write!(f, "{bytes} bytes"),
            Self::End { never: Some(never) } => write!(f, "to the end of the line, without {}", byte(never)),
            Self::End { never: None } => f.write_str("to the end of the line"),
            Self::Open { values, anchor } => {
                let end = match anchor {
                    OpenEnd::Byte { byte: at, .. } => format!("the first {}", byte(at)),
                    OpenEnd::Quote { .. } => "the first `\"` without a backslash".to_owned(),
                    OpenEnd::End => "the end of the line".to_owned(),
                };
                let next = if values == 1 {
                    "the next value leaves".to_owned()
                } else {
                    format!("the next {values} values leave")
                };
                write!(f, "what {next}, backwards from {end}")
            }
            Self::BackWidth { bytes } => write!(f, "{bytes} bytes, backwards"),
            Self::BackByte { byte: at, .. } => write!(f, "backwards to {}", byte(at)),
            Self::BackQuote { .. } => f.write_str("backwards to `\"` without a backslash"),
        }
    }
}
