//! The one thread that writes: it takes what waits, writes it as one commit, syncs
//! once and wakes everybody who waited. While a sync runs, the next commit gathers.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use super::assemble::Assembly;
use super::batch::Batch;
use super::error::AppendError;
use super::file::{Opener, SegmentFile, sync_dir};
use super::format::Topic;
use super::segment::Segment;
use super::{Appended, EventLog, LogConfig, LogHealth, Partition, segments_dir};

/// Batches are put together into one commit up to this: more would not make the sync
/// cheaper, only the wait of the first batch and the readers' memory larger.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// What readers may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) end_offset: u64,
    pub(super) closed: bool,
}

/// What the writer, appenders and readers of one log have in common.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) config: LogConfig,
    /// Ascending; the last one is being written. Never empty.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) durable: watch::Sender<Durable>,
    health: AtomicU8,
    queue: Mutex<Queue>,
    queued: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held for its lock on the directory.
    _lock: File,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    closed: bool,
}

struct Waiting {
    batch: Batch,
    bytes: usize,
    done: oneshot::Sender<Result<Appended, AppendError>>,
}

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        config: LogConfig,
        segments: Vec<Arc<Segment>>,
        end_offset: u64,
        lock: File,
    ) -> Self {
        Self {
            dir,
            config,
            segments: RwLock::new(segments),
            durable: watch::Sender::new(Durable { end_offset, closed: false }),
            health: AtomicU8::new(0),
            queue: Mutex::default(),
            queued: Condvar::new(),
            thread: Mutex::new(None),
            _lock: lock,
        }
    }

    pub(super) fn start_offset(&self) -> u64 {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.first().map_or(0, |s| s.base_offset)
    }

    pub(super) fn end_offset(&self) -> u64 {
        self.durable.borrow().end_offset
    }

    pub(super) fn health(&self) -> LogHealth {
        match self.health.load(Ordering::Acquire) {
            0 => LogHealth::Ready,
            1 => LogHealth::Full,
            _ => LogHealth::Poisoned,
        }
    }

    fn set_health(&self, health: LogHealth) {
        let number = match health {
            LogHealth::Ready => 0,
            LogHealth::Full => 1,
            LogHealth::Poisoned => 2,
        };
        self.health.store(number, Ordering::Release);
    }

    pub(super) fn close_and_join(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.queued.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The writer never panics on input; if it did, its waiters were told so.
            thread.join().ok();
        }
    }

    /// Waits for batches and takes as many as one commit holds, but at least one.
    /// `None` when the log is closed and everything is written.
    fn take_group(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let mut group = Vec::with_capacity(queue.waiting.len());
        let mut bytes = 0;
        let group_max = self.config.commit_bytes_max.min(GROUP_BYTES_MAX);
        while let Some(next) = queue.waiting.front() {
            if !group.is_empty() && bytes + next.bytes > group_max {
                break;
            }
            bytes += next.bytes;
            group.extend(queue.waiting.pop_front());
        }
        queue.bytes -= bytes;
        Some(group)
    }
}

/// Appends to a log. Clones share the log's queue.
#[derive(Clone)]
pub struct Appender {
    handle: Arc<Handle>,
}

/// Closes the log when the last appender is gone.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close_and_join();
    }
}

impl Appender {
    /// Returns after the commit that holds all of `batch` is on disk. An empty
    /// batch returns at once. Dropping the future does not take the batch back.
    pub async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let shared = &self.handle.shared;
        if batch.is_empty() {
            return Ok(Appended { partition: Partition::EMBEDDED, base_offset: shared.end_offset() });
        }
        self.enqueue(batch)?.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Appends the border between two files of the raw archive.
    pub async fn seal(&self) -> Result<Appended, AppendError> {
        let mut batch = Batch::new();
        batch.push(Topic::Seal, b"", |_| {}).map_err(|e| AppendError::Io(e.to_string()))?;
        self.append(batch).await
    }

    #[must_use]
    pub fn health(&self) -> LogHealth {
        self.handle.shared.health()
    }

    fn enqueue(&self, batch: Batch) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        let shared = &self.handle.shared;
        let (bytes, max) = (batch.byte_len(), shared.config.commit_bytes_max);
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
        if shared.health() == LogHealth::Poisoned {
            return Err(AppendError::Poisoned);
        }
        let (done, answer) = oneshot::channel();
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return Err(AppendError::Closed);
        }
        if queue.bytes + bytes > shared.config.queue_bytes_max {
            return Err(AppendError::Overloaded);
        }
        queue.bytes += bytes;
        queue.waiting.push_back(Waiting { batch, bytes, done });
        drop(queue);
        shared.queued.notify_one();
        Ok(answer)
    }
}

impl EventLog for Appender {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        Self::append(self, batch).await
    }
}

/// Where the next commit goes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) opener: Opener,
    pub(super) file: Box<dyn SegmentFile>,
    pub(super) segment: Arc<Segment>,
    pub(super) position: u64,
    pub(super) next_offset: u64,
    pub(super) last_append_ms: u64,
}

impl Writer {
    /// Starts the thread. The appender that comes back is the only one.
    pub(super) fn start(self) -> io::Result<Appender> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("event-log".to_owned()).spawn(move || self.run())?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Appender { handle: Arc::new(Handle { shared }) })
    }

    fn run(mut self) {
        let mut assembly = Assembly::default();
        while let Some(group) = self.shared.take_group() {
            let result = self.commit(&mut assembly, &group);
            let mut base_offset = result.as_ref().map_or(0, |base| *base);
            for waiting in group {
                let appended = Appended { partition: Partition::EMBEDDED, base_offset };
                base_offset += u64::from(waiting.batch.record_count);
                // Who no longer waits has no use for the answer.
                waiting.done.send(result.clone().map(|_| appended)).ok();
            }
        }
        self.shared.durable.send_modify(|durable| durable.closed = true);
    }

    /// Makes `group` durable as one commit; returns its base offset.
    fn commit(&mut self, assembly: &mut Assembly, group: &[Waiting]) -> Result<u64, AppendError> {
        if self.shared.health() == LogHealth::Poisoned {
            return Err(AppendError::Poisoned);
        }
        if self.position >= self.shared.config.segment_bytes {
            self.roll().map_err(|error| self.refuse(&error, "cannot begin a segment"))?;
        }
        let now_ms = (self.shared.config.clock)().max(self.last_append_ms);
        let batches = group.iter().map(|waiting| &waiting.batch);
        let Some((header, bytes)) = assembly.commit(self.next_offset, now_ms, batches) else {
            return Err(AppendError::Io("the batches make no commit".to_owned()));
        };
        if let Err(error) = self.file.write_all_at(bytes, self.position) {
            // What was written in part must not stand before the next commit.
            return Err(match self.file.set_len(self.position) {
                Ok(()) => self.refuse(&error, "cannot write to the event log"),
                Err(cut) => self.poison(&cut),
            });
        }
        if let Err(error) = self.file.sync_data() {
            return Err(self.poison(&error));
        }
        self.segment.note_commit(&header, self.position);
        self.position += bytes.len() as u64;
        self.next_offset = header.end_offset();
        self.last_append_ms = now_ms;
        self.segment.set_durable_bytes(self.position);
        if self.shared.health() != LogHealth::Ready {
            tracing::info!("event log takes appends again");
            self.shared.set_health(LogHealth::Ready);
        }
        self.shared.durable.send_modify(|durable| durable.end_offset = header.end_offset());
        Ok(header.base_offset)
    }

    /// Begins a new segment; the old one is durable already.
    fn roll(&mut self) -> io::Result<()> {
        let dir = segments_dir(&self.shared.dir);
        let segment = Arc::new(Segment::new(&dir, self.next_offset));
        self.file = create(&self.opener, &segment.path)?;
        self.segment = Arc::clone(&segment);
        self.position = 0;
        self.shared.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
        Ok(())
    }

    /// The batch is not in the log, and later ones may be.
    fn refuse(&self, error: &io::Error, what: &'static str) -> AppendError {
        if is_full(error) {
            if self.shared.health() != LogHealth::Full {
                tracing::error!(dir = %self.shared.dir.display(), "event log is full");
            }
            self.shared.set_health(LogHealth::Full);
            AppendError::Full
        } else {
            tracing::error!(%error, what, "event log refused an append");
            AppendError::Io(format!("{what}: {error}"))
        }
    }

    /// After a failed sync nobody knows what the disk holds, and asking it again
    /// may be answered with a success that means nothing.
    fn poison(&self, error: &io::Error) -> AppendError {
        tracing::error!(%error, "event log could not be synced and takes no more appends until a restart");
        self.shared.set_health(LogHealth::Poisoned);
        AppendError::Poisoned
    }
}

/// Creates a segment so that it survives a crash, empty.
pub(super) fn create(opener: &Opener, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
    let mut file = opener(path)?;
    // A crash or a full disk may have left one here; nothing in it was confirmed.
    file.set_len(0)?;
    file.sync_data()?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(file)
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
