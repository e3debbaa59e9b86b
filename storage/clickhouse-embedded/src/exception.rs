//! Errors as ClickHouse clients know them: a code, a text, an HTTP status.
//!
//! Duty: keep the engine's own text; map codes to statuses as the server does.
//! It never invents a success.

use hyper::StatusCode;

/// Codes that the front itself gives; the engine gives the others.
pub(crate) mod code {
    pub(crate) const NOT_IMPLEMENTED: u32 = 48;
    pub(crate) const LOGICAL_ERROR: u32 = 49;
    pub(crate) const SYNTAX_ERROR: u32 = 62;
    pub(crate) const UNKNOWN_TYPE_OF_QUERY: u32 = 78;
    pub(crate) const UNKNOWN_COMPRESSION_METHOD: u32 = 89;
    pub(crate) const BAD_ARGUMENTS: u32 = 36;
    pub(crate) const CANNOT_READ_ALL_DATA: u32 = 33;
    pub(crate) const UNKNOWN_SETTING: u32 = 115;
    pub(crate) const READONLY: u32 = 164;
    pub(crate) const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
    pub(crate) const SOCKET_TIMEOUT: u32 = 209;
    pub(crate) const QUERY_IS_TOO_LARGE: u32 = 229;
    pub(crate) const CANNOT_DECOMPRESS: u32 = 271;
    pub(crate) const INTO_OUTFILE_NOT_ALLOWED: u32 = 358;
    pub(crate) const AUTHENTICATION_FAILED: u32 = 516;
}

/// An error that ends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) code: u32,
    text: String,
}

impl Exception {
    /// An error of the front itself; `name` is ClickHouse's name of the code.
    pub(crate) fn new(code: u32, name: &str, message: &str) -> Self {
        Self { code, text: format!("Code: {code}. DB::Exception: {message}. ({name})") }
    }

    /// An error text as the engine wrote it.
    pub(crate) fn from_engine(text: &str) -> Self {
        let text = text.trim();
        let digits = text
            .find("Code: ")
            .map(|at| &text[at + "Code: ".len()..])
            .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(code) => Self { code, text: text.strip_prefix("Error: ").unwrap_or(text).to_owned() },
            None => Self::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", text.trim_end_matches('.')),
        }
    }

    /// The body of an error answer, in the server's shape.
    pub(crate) fn body(&self, engine_version: &str) -> String {
        format!("{} (version {engine_version} (official build))\n", self.text)
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 512 | 516 => StatusCode::FORBIDDEN,
            6 | 25 | 26 | 27 | 32 | 33 | 36 | 37 | 38 | 41 | 43 | 44 | 53 | 62 | 69 | 70 | 72 | 89 | 117
            | 123 | 271 | 321 | 376 | 427 | 441 | 456 | 675 | 676 | 15 | 20 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 372 | 511 => StatusCode::NOT_FOUND,
            159 => StatusCode::REQUEST_TIMEOUT,
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            48 => StatusCode::NOT_IMPLEMENTED,
            202 | 209 | 76 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            381 => StatusCode::LENGTH_REQUIRED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl std::fmt::Display for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Exception {}

/// Shorthands for the errors of the front.
impl Exception {
    pub(crate) fn bad_arguments(message: &str) -> Self {
        Self::new(code::BAD_ARGUMENTS, "BAD_ARGUMENTS", message)
    }

    pub(crate) fn not_implemented(message: &str) -> Self {
        Self::new(code::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message)
    }

    pub(crate) fn syntax(message: &str) -> Self {
        Self::new(code::SYNTAX_ERROR, "SYNTAX_ERROR", message)
    }

    pub(crate) fn read_only(message: &str) -> Self {
        Self::new(code::READONLY, "READONLY", message)
    }

    pub(crate) fn busy(message: &str) -> Self {
        Self::new(code::TOO_MANY_SIMULTANEOUS_QUERIES, "TOO_MANY_SIMULTANEOUS_QUERIES", message)
    }

    pub(crate) fn cut_off(message: &str) -> Self {
        Self::new(code::CANNOT_READ_ALL_DATA, "CANNOT_READ_ALL_DATA", message)
    }

    pub(crate) fn stalled(message: &str) -> Self {
        Self::new(code::SOCKET_TIMEOUT, "SOCKET_TIMEOUT", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_texts_keep_their_code_and_words() {
        let error =
            Exception::from_engine("Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)");
        assert_eq!((error.code, error.status()), (60, StatusCode::NOT_FOUND));
        assert_eq!(
            error.body("26.7"),
            "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE) (version 26.7 (official build))\n"
        );
        assert_eq!(Exception::from_engine("strange.").code, code::LOGICAL_ERROR);
    }
}
