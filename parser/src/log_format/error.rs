//! Why a `log_format` cannot be read, where, and what helps.

use std::fmt;

use thiserror::Error;

use super::escape::Escape;

/// A format that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}{fault}")]
pub struct FormatError {
    pub place: Place,
    pub fault: FormatFault,
}

/// Where in the text that was given. The whole of it when `offset` is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Bytes before the place.
    pub offset: Option<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
}

impl Place {
    pub(super) const WHOLE: Self = Self { offset: None, line: 1, column: 1 };

    pub(super) fn at(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        Self { offset: Some(offset), line, column: before.len() - line_start + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "byte {offset} (line {}, column {}): ", self.line, self.column),
            None => Ok(()),
        }
    }
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatFault {
    #[error("the format is longer than {max} bytes: name it `log_format NAME 'string';` and nothing else")]
    TooLong { max: usize },
    #[error(
        "the format has more than {max} variables: leave out those behind the last one that beacons need"
    )]
    TooManyVariables { max: usize },
    #[error(
        "`{text}` has no variable and is no name of a format: give `fanal`, `combined`, `main`, or the `log_format` of nginx.conf as it stands there"
    )]
    UnknownName { text: String },
    #[error("this string has no end: write its closing {quote}")]
    OpenString { quote: char },
    #[error("a string ends here and something follows at once: put a space between, or `;`")]
    NoSpace,
    #[error("something stands behind the `;` that ends the directive: give one `log_format` only")]
    BehindTheEnd,
    #[error("`log_format` needs a name and at least one string: `log_format NAME 'string' …;`")]
    NoString,
    #[error("`escape={word}` is unknown: nginx knows `default`, `json` and `none`")]
    UnknownEscape { word: String },
    #[error("a `$` that no name follows: nginx refuses it; write the variable's name")]
    NoVariableName,
    #[error("`${{{name}` has no closing brace: write `${{{name}}}`")]
    OpenBrace { name: String },
    #[error(
        "a line feed or carriage return inside of the format spreads a record over several lines: write all on one line of the log"
    )]
    LineEnd,
    #[error(
        "`${before}` and `${behind}` stand side by side, so nothing says where the first ends: put a separator between them, such as a tab (`\\t`) or quotes"
    )]
    SideBySide { before: String, behind: String },
    #[error("{}", .0)]
    Ambiguous(Ambiguity),
    #[error(
        "`escape=none` writes a line feed of `${variable}` as it is, so one request could write several lines of log, or forge one: use `escape=default` or `escape=json`"
    )]
    BreaksLines { variable: String },
    #[error(
        "the format has no time of the request: add `$msec` (or `$time_iso8601`, `$time_local`); {}",
        "`$date_gmt`, `$date_local` change with the configuration and are not read"
    )]
    NoTime,
    #[error("the format has no status: add `$status`; only requests that were answered with 2xx count")]
    NoStatus,
    #[error(
        "the format does not say what was asked for: add `$request_uri` (or `$request`, or `$uri` with `$args`)"
    )]
    NoUri,
    #[error(
        "the format has `$uri` without `$args`, so the query, which names the site, is lost: add `$args`, or `$request_uri` instead of both"
    )]
    NoQuery,
}

/// A separator that does not separate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguity {
    pub variable: String,
    /// What the format has behind it.
    pub separator: String,
    pub escape: Escape,
    /// The next variable whose end is open as well, if that is what fails.
    pub other: Option<String>,
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, separator, escape, other } = self;
        let name = escape.name();
        write!(
            f,
            "`${variable}` ends where {} begins, but its value may hold that as well under `escape={name}`",
            shown(separator)
        )?;
        if let Some(other) = other {
            write!(f, ", and so it is with `${other}` behind it")?;
        }
        f.write_str(match escape {
            Escape::Default | Escape::Json => {
                ": put `\"` before and behind the variable, or tabs (`\\t`) between all variables"
            }
            Escape::None => ": use `escape=default` or `escape=json`, with `\"` around the variable",
        })?;
        f.write_str(
            "; of logs that are written already, what stands behind the last variable that you need may be one variable of any name, such as `$rest`",
        )
    }
}

/// A separator for people.
pub(super) fn shown(separator: &str) -> String {
    match separator {
        " " => "a space".to_owned(),
        "\t" => "a tab".to_owned(),
        other => format!("`{}`", other.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")),
    }
}

pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes))
}
