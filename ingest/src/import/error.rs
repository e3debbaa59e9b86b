//! What can go wrong with an import. Each text names the remedy.

use std::io;
use std::path::PathBuf;

use fanal_storage::log::{AppendError, BatchError, PositionError, ReadError};
use thiserror::Error;

/// Why an import stopped. What was durable stays; running it again goes on there.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error("cannot read {}: {source}; check the path and permissions, then import again", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} is damaged after {good_bytes} bytes of its content: {detail}; what stands before is imported. Replace the \
         file by a good copy and import again", path.display()
    )]
    Corrupt { path: PathBuf, good_bytes: u64, detail: String },
    #[error("{0}; what is durable so far is kept, import again to go on")]
    Append(#[from] AppendError),
    #[error("{0}; import again")]
    Log(#[from] ReadError),
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("another import of the same file is under way; let it end, then import again")]
    Concurrent,
    #[error("{} cannot be used: {source}; check its folder's owner and space", path.display())]
    Snapshot { path: PathBuf, source: io::Error },
    #[error(
        "{} does not fit the event log ({detail}): files that were imported before could be imported twice. Restore \
         the file, or delete it together with `positions/imports` of the log to begin anew", path.display()
    )]
    SnapshotLost { path: PathBuf, detail: String },
    #[error(
        "the running process at {address} refused the import: {detail}; it must be the same version as this one"
    )]
    Refused { address: String, detail: String },
    #[error("the running process at {address} does not answer: {detail}; see its log, then import again")]
    Unreachable { address: String, detail: String },
    #[error("{0}; what is durable so far is kept, import again to go on")]
    Kafka(String),
}
