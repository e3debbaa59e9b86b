//! What can go wrong with the log. Each text names the remedy.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Bytes of the log that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// First byte of the damaged commit in the file.
    pub position: u64,
    /// The first record that cannot be trusted.
    pub first_offset: u64,
    pub detail: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at byte {} (offset {}): {}",
            self.file.display(),
            self.position,
            self.first_offset,
            self.detail
        )
    }
}

/// Why a log does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(
        "the event log in {} is in use by process {pid}; stop that process, or give this one a directory of its own",
        dir.display()
    )]
    InUse { dir: PathBuf, pid: String },
    #[error(
        "the event log cannot be trusted: {0}; nothing was changed. `fanal doctor --data-dir DIR --repair-log` \
         saves the damaged bytes and keeps every record that is whole"
    )]
    Damaged(Damage),
    #[error(
        "records are missing from the event log: {} ends at offset {expected}, the next one begins at {found}; put the \
         missing segment back, or run `fanal doctor --data-dir DIR --repair-log`", file.display()
    )]
    Hole { file: PathBuf, expected: u64, found: u64 },
    #[error(
        "consumer `{consumer}` has read up to offset {position} but the event log ends at {end}: acknowledged records \
         are gone. Put the newest segments back, or run `fanal doctor --data-dir DIR --repair-log`"
    )]
    BehindConsumer { consumer: String, position: u64, end: u64 },
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error(
        "cannot {action} {}: {source}; check that the directory exists, belongs to this user and has space",
        path.display()
    )]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Why a repair did not finish.
#[derive(Debug, Error)]
pub enum RepairError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot {action} {}: {source}; free space or fix the permissions, then repair again", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl RepairError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Why a batch is not durable. Nothing of it will ever be read, except after
/// `Poisoned` and `InDoubt`, where nobody can know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error("the disk of the event log is full; free space, appends go on by themselves")]
    Full,
    #[error("the event log is slower than what arrives; send again in a moment")]
    Overloaded,
    #[error("the event log is closed; send again after the restart")]
    Closed,
    #[error(
        "the batch has {bytes} bytes, a commit takes {max}; send less at once or raise `commit_bytes_max`"
    )]
    TooLarge { bytes: usize, max: usize },
    #[error("the disk of the event log failed to confirm a write; check the disk, then restart")]
    Poisoned,
    #[error("the event log cannot be written: {0}; check its disk and permissions")]
    Io(String),
    /// Nothing of the batch is in the log.
    #[error("Kafka takes nothing: {0}; check the brokers, appends go on by themselves")]
    Unavailable(String),
    /// Some or all of the batch may be in the log, now or later. Sending it again is
    /// right: readers drop second copies.
    #[error("Kafka did not confirm in time: {0}; check the brokers, then send the same again")]
    InDoubt(String),
}

/// Why nothing can be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error(
        "offset {wanted} was asked for, but the log begins at {start}: retention has deleted it; start from {start} or \
         rebuild from the raw archive"
    )]
    Deleted { wanted: u64, start: u64 },
    #[error("offset {wanted} was asked for, but the log ends at {end}; start from {end} or earlier")]
    BeyondEnd { wanted: u64, end: u64 },
    #[error(
        "{0}; stop the program and run `fanal doctor --data-dir DIR --repair-log`, which keeps every whole record"
    )]
    Damaged(Damage),
    #[error("the event log is closed")]
    Closed,
    #[error("cannot read {}: {source}; check its disk and permissions", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot read from Kafka: {0}; check the brokers and the [event_log.kafka] section")]
    Kafka(String),
}

/// Why a consumer's position is not stored or not read.
#[derive(Debug, Error)]
pub enum PositionError {
    #[error("`{0}` is no consumer name: use 1 to 64 of a-z 0-9 - _")]
    Name(String),
    #[error("offset {wanted} lies beyond the end of the log, {end}: only what was read can be committed")]
    BeyondEnd { wanted: u64, end: u64 },
    #[error(
        "{} is not a consumer position; delete it and the consumer starts from the beginning of the log",
        .0.display()
    )]
    Unreadable(PathBuf),
    #[error("cannot store {}: {source}; check the disk's space and permissions", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Why a batch cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    #[error("the record does not fit: {0}")]
    Record(&'static str),
    #[error("the batch is larger than 64 MiB or has more than 4294967295 records; send less at once")]
    TooLarge,
    #[error("this is not a batch of records: {0}")]
    Malformed(&'static str),
}
