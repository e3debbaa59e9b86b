//! The embedded event log: every accepted line, dead letter, receipt count and
//! import position, in one physical log on the local disk.
//!
//! One fdatasync makes a whole commit durable over all its topics, so records of
//! different topics in one [`Batch`] are there together or not at all. The log
//! never changes a record, never reads a value, and never answers an append before
//! the disk has confirmed it. What must stay true: offsets are dense, append times
//! never go back, and damage is an error that names its place, never a skip.
//!
//! The bytes on disk, durability, damage and repair are described in
//! `docs/event-log.md`.

mod assemble;
mod batch;
mod chunk;
mod error;
mod file;
mod format;
mod look;
mod memory;
mod open;
mod partition;
mod positions;
mod reader;
mod repair;
mod retention;
mod segment;
mod writer;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use batch::{BATCH_BYTES_MAX, Batch, Mark, ReceiptCounts};
pub use chunk::{Chunk, Record, Records};
pub use error::{AppendError, BatchError, Damage, OpenError, PositionError, ReadError, RepairError};
pub use format::{KEY_BYTES_MAX, Topic};
pub use look::{Waiting, waiting};
pub use memory::{MemoryLog, MemoryReader};
pub use partition::{Family, Partition};
pub use positions::Positions;
pub use reader::Reader;
pub use repair::{RepairReport, RepairedRegion, repair};
pub use retention::Retained;
pub use writer::Appender;

/// What readers must know of the log that they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// Offsets are dense, and receipts stand in the log beside what they count.
    Embedded,
    /// Offsets have gaps, since Kafka keeps marks of its own between the records. A
    /// record may be appended twice, so that it carries its own receipt: each stands
    /// for one received line.
    Kafka,
}

/// Milliseconds since the epoch, from wherever the caller takes its time.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The wall clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Bounds and times of a log.
#[derive(Clone)]
pub struct LogConfig {
    /// A segment that reached this size is followed by a new one.
    pub segment_bytes: u64,
    /// Segments younger than this stay, even when every consumer has read them.
    pub retention: Duration,
    /// The largest batch. Batches share a commit up to this or 8 MiB, whatever is less.
    pub commit_bytes_max: usize,
    /// The most that waits for the disk; beyond it appends are refused.
    pub queue_bytes_max: usize,
    /// Where append times come from.
    pub clock: Clock,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            retention: Duration::from_secs(24 * 3600),
            commit_bytes_max: 32 << 20,
            queue_bytes_max: 128 << 20,
            clock: wall_clock(),
        }
    }
}

/// The place that a durable batch got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub partition: Partition,
    /// Offset of the batch's first record.
    pub base_offset: u64,
}

/// Whether the log takes appends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogHealth {
    Ready,
    /// The disk is full. Appends are tried again; free space heals it.
    Full,
    /// A sync failed, so the disk no longer says what it holds. Only a restart,
    /// which reads the log again, heals it.
    Poisoned,
}

/// Where durable batches go: the embedded log, the memory twin, Kafka.
pub trait EventLog: Clone + Send + Sync + 'static {
    /// Returns after the batch is durable, all of it.
    fn append(&self, batch: Batch) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// The same, for whoever needs the batch where this fails. A log that only reads the
    /// batch does without the copy.
    fn append_kept(&self, batch: &Batch) -> impl Future<Output = Result<Appended, AppendError>> + Send {
        self.append(batch.clone())
    }

    /// A handle for the appends of one thread, which shares with others only what it
    /// must. A clone shares everything.
    #[must_use]
    fn local(&self) -> Self {
        self.clone()
    }
}

/// Where records are read from, in the order of their offsets.
pub trait EventSource: Send + 'static {
    /// Waits for durable records and returns one commit or more, in about
    /// `max_bytes` (a single larger commit comes whole).
    fn next(&mut self, max_bytes: usize) -> impl Future<Output = Result<Chunk, ReadError>> + Send;
    /// As `next`, but `None` instead of waiting.
    fn try_next(&mut self, max_bytes: usize) -> Result<Option<Chunk>, ReadError>;
    /// Offset of the record that comes next.
    fn position(&self) -> u64;
}

/// An open log. Clones share it; the directory is free again when the last clone,
/// appender and reader is gone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<writer::Shared>,
    positions: Arc<Positions>,
    appender: Appender,
}

impl Log {
    /// Opens or creates the log in `dir`, cuts a torn tail and checks what
    /// consumers have not read yet. Blocks; meant for the start of a program.
    pub fn open(dir: &Path, config: LogConfig) -> Result<Self, OpenError> {
        open::open(dir, config, file::real_opener())
    }

    #[must_use]
    pub fn appender(&self) -> Appender {
        self.appender.clone()
    }

    /// A reader whose first record has `from_offset`.
    pub fn reader(&self, from_offset: u64) -> Result<Reader, ReadError> {
        Reader::new(Arc::clone(&self.shared), from_offset)
    }

    /// Offset of the oldest record that is still there.
    #[must_use]
    pub fn start_offset(&self) -> u64 {
        self.shared.start_offset()
    }

    /// Offset that the next durable record gets.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.shared.end_offset()
    }

    /// How far each consumer has come.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Records that `consumer` has not finished; all of them if it has no position.
    #[must_use]
    pub fn lag(&self, consumer: &str) -> u64 {
        let from = self.positions.get(consumer).unwrap_or_else(|| self.start_offset());
        self.end_offset().saturating_sub(from)
    }

    /// Deletes whole segments that are older than the retention and that every
    /// registered consumer has finished.
    pub fn retain(&self, now_ms: u64) -> std::io::Result<Retained> {
        retention::retain(&self.shared, &self.positions, now_ms)
    }

    #[must_use]
    pub fn health(&self) -> LogHealth {
        self.shared.health()
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Stops taking appends, writes what is queued and waits for the disk.
    pub fn close(&self) {
        self.shared.close_and_join();
    }
}

fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("segments")
}

fn positions_dir(dir: &Path) -> PathBuf {
    dir.join("positions")
}

fn quarantine_dir(dir: &Path) -> PathBuf {
    dir.join("quarantine")
}

#[cfg(test)]
mod tests;
