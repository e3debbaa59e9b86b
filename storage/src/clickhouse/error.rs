//! Why ClickHouse did not do what was asked, and whether asking again can help.
//!
//! Must stay true: an error that a person must end is not retryable, so that
//! nothing waits silently for what never comes; no text holds a password.

use std::error::Error as StdError;

use clickhouse::error::Error as Source;
use thiserror::Error;

use super::client::STATEMENT_SECONDS_MAX;

/// Characters of a server's text that are passed on; it may quote a whole statement.
const REASON_CHARS_MAX: usize = 600;

/// The server has more work than it can do; it says so before or while it works.
const OVERLOAD: &[u32] = &[
    159, // TIMEOUT_EXCEEDED
    160, // TOO_SLOW
    201, // QUOTA_EXCEEDED
    202, // TOO_MANY_SIMULTANEOUS_QUERIES
    203, // NO_FREE_CONNECTION
    241, // MEMORY_LIMIT_EXCEEDED
    243, // NOT_ENOUGH_SPACE
    252, // TOO_MANY_PARTS
    439, // CANNOT_SCHEDULE_TASK
    473, // DEADLOCK_AVOIDED
    692, // TOO_MANY_MUTATIONS
    745, // SERVER_OVERLOADED
];

/// A part of the cluster or the way to it is gone for a while.
const PASSING: &[u32] = &[
    32,  // ATTEMPT_TO_READ_AFTER_EOF
    33,  // CANNOT_READ_ALL_DATA
    198, // DNS_ERROR
    209, // SOCKET_TIMEOUT
    210, // NETWORK_ERROR
    225, // NO_ZOOKEEPER
    236, // ABORTED
    242, // TABLE_IS_READ_ONLY
    254, // NO_ACTIVE_REPLICAS
    265, // NO_AVAILABLE_REPLICA
    279, // ALL_CONNECTION_TRIES_FAILED
    285, // TOO_FEW_LIVE_REPLICAS
    286, // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    319, // UNKNOWN_STATUS_OF_INSERT
    341, // UNFINISHED
    369, // ALL_REPLICAS_ARE_STALE
    394, // QUERY_WAS_CANCELLED
    517, // CANNOT_ASSIGN_ALTER
    519, // NO_REMOTE_SHARD_AVAILABLE
    722, // ASYNC_LOAD_WAIT_FAILED
    999, // KEEPER_EXCEPTION
];

/// The server does not take us for who we say, or not for this.
const ACCESS: &[u32] = &[
    192, // UNKNOWN_USER
    193, // WRONG_PASSWORD
    194, // REQUIRED_PASSWORD
    497, // ACCESS_DENIED
    516, // AUTHENTICATION_FAILED
];

/// Why ClickHouse did not do what was asked.
#[derive(Debug, Error)]
pub enum ClickHouseError {
    /// No whole answer came.
    #[error(
        "ClickHouse at {url} did not {what}: {reason}; see that it runs and can be reached, \
         the pipeline waits and tries again"
    )]
    Unreachable { url: String, what: &'static str, reason: String },
    #[error(
        "ClickHouse at {url} did not {what} within {STATEMENT_SECONDS_MAX} s; see what it is busy with \
         (system.processes), the pipeline waits and tries again"
    )]
    Timeout { url: String, what: &'static str },
    /// The server asks for less: wait longer each time.
    #[error(
        "ClickHouse at {url} is too busy to {what} (code {code}): {reason}; the pipeline waits longer each \
         time and tries again; should it last, give the server more memory, disk or merge threads"
    )]
    Busy { url: String, what: &'static str, code: u32, reason: String },
    /// A replica, Keeper or a connection between servers is gone for a while.
    #[error(
        "ClickHouse at {url} cannot {what} for the moment (code {code}): {reason}; see that all replicas and \
         Keeper run, the pipeline waits and tries again"
    )]
    Passing { url: String, what: &'static str, code: u32, reason: String },
    #[error(
        "ClickHouse at {url} lets us not {what} (code {code}): {reason}; check `user` and `password_file`, \
         and what the user is granted"
    )]
    Access { url: String, what: &'static str, code: u32, reason: String },
    /// The same statement fails again.
    #[error(
        "ClickHouse at {url} refused to {what}: {reason}; its schema or version is not the one this program \
         knows: compare with docs/clickhouse.md"
    )]
    Refused { url: String, what: &'static str, code: Option<u32>, reason: String },
    #[error("ClickHouse: `{key}` {remedy}")]
    Config { key: &'static str, remedy: &'static str },
    #[error(
        "ClickHouse's certificate cannot be verified: {reason}; install the system's certificates, or name the \
         authority's certificate in `tls_ca_file`"
    )]
    Tls { reason: String },
    #[error(
        "database `{database}` has schema version {found}, this program knows {known}: \
         start the newer program, or restore the database from before the upgrade"
    )]
    NewerSchema { database: String, found: u32, known: u32 },
    #[error(
        "database `{database}` was made for {found}, the configuration says {configured}: put `cluster` right, \
         or name another database and fill it with `fanal rebuild`"
    )]
    OtherLayout { database: String, found: &'static str, configured: &'static str },
    #[error("cluster `{cluster}` of ClickHouse at {url} cannot hold the tables: {reason}")]
    Cluster { cluster: String, url: String, reason: String },
    #[error("no cluster form is known for `{statement}`; this is a mistake in the program: report it")]
    Unrenderable { statement: String },
}

impl ClickHouseError {
    /// Whether the same call may succeed later without anybody's hand.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Busy { .. } | Self::Passing { .. } => {
                true
            }
            Self::Access { .. }
            | Self::Refused { .. }
            | Self::Config { .. }
            | Self::Tls { .. }
            | Self::NewerSchema { .. }
            | Self::OtherLayout { .. }
            | Self::Cluster { .. }
            | Self::Unrenderable { .. } => false,
        }
    }

    /// Whether the server has too much to do: whoever asks should pause longer each time.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// The server's code, if it gave one.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Busy { code, .. } | Self::Passing { code, .. } | Self::Access { code, .. } => Some(*code),
            Self::Refused { code, .. } => *code,
            _ => None,
        }
    }

    pub(super) fn of(url: &str, what: &'static str, source: &Source) -> Self {
        let (url, reason) = (url.to_owned(), reason(source));
        let Source::BadResponse(text) = source else {
            return match source {
                Source::Network(_) if is_certificate(&reason) => Self::Tls { reason },
                Source::Network(_) | Source::TimedOut => Self::Unreachable { url, what, reason },
                Source::Other(inner) if inner.is::<std::io::Error>() => {
                    Self::Unreachable { url, what, reason }
                }
                _ => Self::Refused { url, what, code: None, reason },
            };
        };
        match code_in(text) {
            Some(code) if OVERLOAD.contains(&code) => Self::Busy { url, what, code, reason },
            Some(code) if PASSING.contains(&code) => Self::Passing { url, what, code, reason },
            Some(code) if ACCESS.contains(&code) => Self::Access { url, what, code, reason },
            Some(code) => Self::Refused { url, what, code: Some(code), reason },
            // Not ClickHouse's words: a proxy on the way answers for it.
            None => Self::Unreachable { url, what, reason },
        }
    }
}

/// `Code: 252. DB::Exception: …`
fn code_in(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn is_certificate(reason: &str) -> bool {
    reason.contains("invalid peer certificate")
}

/// The text with its causes, cut to a length that fits a log line.
fn reason(source: &Source) -> String {
    let mut text = source.to_string();
    let mut cause = source.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    match text.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ClickHouseError {
        ClickHouseError::of("http://h", "take rows", &Source::BadResponse(text.to_owned()))
    }

    #[test]
    fn a_servers_code_says_whether_to_wait_to_wait_longer_or_to_call_somebody() {
        let parts = of("Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS) (version 26.7)");
        assert!(parts.is_busy() && parts.is_retryable() && parts.code() == Some(252));
        let keeper = of("Code: 999. Coordination::Exception: Session expired. (KEEPER_EXCEPTION)");
        assert!(!keeper.is_busy() && keeper.is_retryable());
        let column = of("Code: 16. DB::Exception: No such column x. (NO_SUCH_COLUMN_IN_TABLE)");
        assert!(!column.is_retryable() && column.code() == Some(16));
        let access = of("Code: 516. DB::Exception: default: Authentication failed");
        assert!(matches!(access, ClickHouseError::Access { .. }) && !access.is_retryable());
        let proxy = of("502 Bad Gateway");
        assert!(proxy.is_retryable() && proxy.code().is_none());
    }

    #[test]
    fn a_row_that_does_not_fit_is_not_tried_again() {
        let error = ClickHouseError::of("http://h", "answer", &Source::NotEnoughData);
        assert!(!error.is_retryable(), "{error}");
        assert!(ClickHouseError::of("http://h", "answer", &Source::TimedOut).is_retryable());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let error = of(&format!("Code: 62. {}", "é".repeat(5000)));
        assert!(error.to_string().chars().count() < 1000);
    }

    #[test]
    fn every_text_names_a_remedy_and_where() {
        for text in ["Code: 241. x", "Code: 210. x", "Code: 516. x", "Code: 60. x", "503 Service Unavailable"]
        {
            let text = of(text).to_string();
            assert!(text.contains("http://h") && text.contains("take rows") && text.contains(';'), "{text}");
        }
    }
}
