//! What can go wrong with the archive. Each text names the remedy.

use std::io;
use std::path::PathBuf;

use fanal_model::WireError;
use thiserror::Error;

/// Why the archive cannot be written or read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("the archive folder {} cannot be used: {source}; check its owner and free space", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "the archive's store failed: {0}; check its disk and permissions, the write is tried again from the log"
    )]
    Store(#[from] object_store::Error),
    #[error("`{0}` lies in the archive but is not one of its files; move it elsewhere")]
    ForeignFile(String),
    #[error(
        "the archive has {kind} between {before} and {after}: offset {expected} should follow; put the missing file \
         back, or move the wrong one elsewhere"
    )]
    Broken { before: String, after: String, expected: u64, kind: &'static str },
    #[error(
        "the archive file {path} is there with {there} bytes, not {ours}: another version of the program wrote it; the \
         archive goes on behind it, and if this comes again, check the file with a Parquet reader"
    )]
    Conflict { path: String, there: u64, ours: u64 },
    #[error(
        "the archive file {0} is gone: it was merged into a larger one since it was listed; list the archive again"
    )]
    Gone(String),
    #[error(
        "the archive goes on at offset {expected} but was given offset {given}; read the log from {expected}"
    )]
    OutOfOrder { expected: u64, given: u64 },
    #[error(
        "the record at offset {offset} is not what its topic says: {source}; this is a bug of who appended it"
    )]
    Record { offset: u64, source: WireError },
    #[error(
        "the archive file {path} cannot be read: {detail}; restore it from a copy, or rebuild without its days"
    )]
    Unreadable { path: String, detail: String },
    #[error("the archive file cannot be encoded: {0}; this is a bug, keep the log and report it")]
    Encode(String),
}

impl From<parquet::errors::ParquetError> for ArchiveError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Encode(error.to_string())
    }
}

impl ArchiveError {
    /// Whether a file was merged into a larger one since it was listed. What was begun
    /// with the old listing begins again with a new one, and meets the same rows.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }
}
