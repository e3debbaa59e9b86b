//! The log behind the spool, which can be away in every way that a test needs.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanal_ingest::spool::SpoolSettings;
use fanal_model::Receipt;
use fanal_storage::log::{
    AppendError, Appended, Batch, Clock, EventLog, EventSource, Family, MemoryLog, Partition, Topic,
    wall_clock,
};

/// What the log does with the next batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    Takes,
    TakesAfter(Duration),
    Refuses(AppendError),
    /// Neither stores nor answers.
    Hangs,
    /// Stores and never says so.
    TakesSilently,
    /// Refuses batches of more than so many bytes.
    TakesUpTo(usize),
}

/// A log whose answers a test decides. Its places have a partition of their own, so
/// that they differ from the spool's.
#[derive(Clone)]
pub(crate) struct Flaky<L> {
    pub(crate) log: L,
    mode: Arc<Mutex<Mode>>,
    calls: Arc<Calls>,
    /// The number of this handle; that of the first is 0.
    handle: usize,
}

#[derive(Default)]
struct Calls {
    handles: AtomicUsize,
    handles_used: Mutex<BTreeSet<usize>>,
    all: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    bytes: AtomicUsize,
}

/// Counts a call that is dropped as well.
struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<L> Flaky<L> {
    pub(crate) fn new(log: L) -> Self {
        Self { log, mode: Arc::new(Mutex::new(Mode::Takes)), calls: Arc::default(), handle: 0 }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Handles that batches came through.
    pub(crate) fn handles_used(&self) -> BTreeSet<usize> {
        self.calls.handles_used.lock().unwrap().clone()
    }

    /// Batches that it was asked to take.
    pub(crate) fn calls(&self) -> usize {
        self.calls.all.load(Ordering::SeqCst)
    }

    /// Bytes of the largest batch since this was asked last.
    pub(crate) fn largest(&self) -> usize {
        self.calls.bytes.swap(0, Ordering::SeqCst)
    }

    /// The most calls at once since this was asked last.
    pub(crate) fn most_at_once(&self) -> usize {
        self.calls.most.swap(self.calls.now.load(Ordering::SeqCst), Ordering::SeqCst)
    }
}

pub(crate) fn place_behind() -> Partition {
    Partition::new(Family::Beacons, 1).unwrap()
}

impl<L: EventLog> EventLog for Flaky<L> {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.calls.all.fetch_add(1, Ordering::SeqCst);
        self.calls.handles_used.lock().unwrap().insert(self.handle);
        self.calls.bytes.fetch_max(batch.byte_len(), Ordering::SeqCst);
        let now = self.calls.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.calls.most.fetch_max(now, Ordering::SeqCst);
        let _call = Call(Arc::clone(&self.calls));
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Takes => {}
            Mode::TakesAfter(time) => tokio::time::sleep(time).await,
            Mode::Refuses(error) => return Err(error),
            Mode::Hangs => return pending().await,
            Mode::TakesSilently => {
                self.log.append(batch).await?;
                return pending().await;
            }
            Mode::TakesUpTo(max) if batch.byte_len() > max => {
                return Err(AppendError::TooLarge { bytes: batch.byte_len(), max });
            }
            Mode::TakesUpTo(_) => {}
        }
        let appended = self.log.append(batch).await?;
        Ok(Appended { partition: place_behind(), ..appended })
    }

    fn local(&self) -> Self {
        let handle = self.calls.handles.fetch_add(1, Ordering::SeqCst) + 1;
        let (log, mode, calls) = (self.log.local(), Arc::clone(&self.mode), Arc::clone(&self.calls));
        Self { log, mode, calls, handle }
    }
}

pub(crate) fn memory() -> Flaky<MemoryLog> {
    Flaky::new(MemoryLog::new(wall_clock()))
}

pub(crate) fn clock() -> Clock {
    wall_clock()
}

/// A spool with times that suit a test.
pub(crate) fn settings(dir: &Path) -> SpoolSettings {
    SpoolSettings {
        dir: dir.to_owned(),
        bytes_max: 64 << 20,
        free_bytes_min: 0,
        segment_bytes: 8 << 10,
        confirm_timeout: Duration::from_millis(30),
        drain_timeout: Duration::from_millis(60),
        drain_batch_bytes: 4 << 10,
        stop_timeout: Duration::from_millis(500),
        pause_min: Duration::from_millis(2),
        pause_max: Duration::from_millis(20),
        record_bytes_max: None,
    }
}

/// Lines of the site `a` with their counts; every other one is a dead letter.
pub(crate) fn batch(names: &[String]) -> Batch {
    let mut batch = Batch::new();
    let dead = names.len() as u64 / 2;
    for (at, name) in names.iter().enumerate() {
        let (topic, key) =
            if at % 2 == 1 { (Topic::Dead, &b"a"[..]) } else { (Topic::Beacons, &b"a\0v"[..]) };
        batch.push(topic, key, |value| value.extend_from_slice(name.as_bytes())).unwrap();
    }
    batch.receipt(60_000, "a", names.len() as u64, names.len() as u64 - dead, dead);
    batch
}

pub(crate) fn one(name: impl ToString) -> Batch {
    batch(&[name.to_string()])
}

/// The lines in a log, in their order, and the lines that its receipts count.
pub(crate) fn lines(mut source: impl EventSource) -> (Vec<String>, u64) {
    let (mut lines, mut received) = (Vec::new(), 0);
    while let Some(chunk) = source.try_next(1 << 20).unwrap() {
        for record in chunk.records() {
            match record.topic {
                Topic::Beacons | Topic::Dead => {
                    lines.push(String::from_utf8(record.value.to_vec()).unwrap());
                }
                Topic::Receipts => received += Receipt::decode(record.value).unwrap().received,
                _ => {}
            }
        }
    }
    (lines, received)
}

/// Where each line stands last.
pub(crate) fn last_places(lines: &[String]) -> HashMap<&str, usize> {
    lines.iter().enumerate().map(|(at, line)| (line.as_str(), at)).collect()
}

/// Waits for what must become true soon.
pub(crate) async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}
