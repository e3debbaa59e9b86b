//! Why the store cannot do what it was asked.

use std::path::PathBuf;

use thiserror::Error;

/// Every text names the remedy. None of them says anything about the data: a batch
/// that failed is written again when the store works.
#[derive(Debug, Error)]
pub enum ProfileError {
    #[error("[profiles] {key}: {problem}")]
    Config { key: &'static str, problem: String },
    #[error("{path} is in use by another process: stop that one, or give this one another data folder")]
    InUse { path: PathBuf },
    #[error(
        "cannot open {path}: {source}; check its owner and free space. If it is damaged, delete it: `fanal rebuild` fills it again from the archive"
    )]
    Open { path: PathBuf, source: Box<redb::Error> },
    #[error(
        "the profile store has schema version {found}, this program knows {known}: run the newer program that wrote it"
    )]
    NewerSchema { found: u64, known: u64 },
    #[error(
        "a stored profile has encoding {found}, this program knows {known}: run the newer program that wrote it"
    )]
    NewerEncoding { found: u8, known: u8 },
    #[error(
        "a stored profile of visitor {visitor_code:?} of site {site_code:?} is damaged ({problem}): erase it; `fanal rebuild` writes it again"
    )]
    Damaged { site_code: String, visitor_code: String, problem: String },
    #[error("the profile store cannot read or write its file: {0}; check the disk and its free space")]
    Storage(#[source] Box<redb::Error>),
    #[error("the profile store's work was cut off: {0}; the program is stopping or out of threads")]
    Interrupted(String),
    #[error(
        "Cassandra at {nodes} cannot be reached: {problem}; check that it runs and that [profiles.cassandra] nodes, user and tls fit"
    )]
    Unreachable { nodes: String, problem: String },
    #[error(
        "Cassandra at {nodes} did not answer {operation} in time or lacks replicas: {problem}; it is tried again, check `nodetool status`"
    )]
    Unavailable { nodes: String, operation: &'static str, problem: String },
    #[error("Cassandra refused {operation}: {problem}; {remedy}")]
    Refused { operation: &'static str, problem: String, remedy: &'static str },
}

impl ProfileError {
    /// Whether trying again later can help without a person's hand.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Unavailable { .. } | Self::Interrupted(_) | Self::Storage(_)
        )
    }
}
