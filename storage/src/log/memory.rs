//! The log's twin in memory: the same bytes, commits and errors, without a disk.
//! For tests of what is built on the log.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::assemble::Assembly;
use super::batch::Batch;
use super::chunk::Chunk;
use super::error::{AppendError, ReadError};
use super::format::Topic;
use super::{Appended, Clock, EventLog, EventSource, Partition};

/// A log that is gone with its last clone.
#[derive(Clone)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
    end: watch::Sender<u64>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    /// Base offset and bytes of each commit.
    commits: Vec<(u64, Vec<u8>)>,
    assembly: Assembly,
    last_append_ms: u64,
    refuse: Option<AppendError>,
}

impl MemoryLog {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { state: Arc::default(), end: watch::Sender::new(0), clock }
    }

    /// Refuses all appends with this error until it is called with `None`.
    pub fn refuse(&self, error: Option<AppendError>) {
        self.lock().refuse = error;
    }

    /// Each call is a commit of its own.
    pub fn append_now(&self, batch: &Batch) -> Result<Appended, AppendError> {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(error) = &state.refuse {
            return Err(error.clone());
        }
        let base_offset = *self.end.borrow();
        let now_ms = (self.clock)().max(state.last_append_ms);
        if let Some((header, bytes)) = state.assembly.commit(base_offset, now_ms, std::iter::once(batch)) {
            let end = header.end_offset();
            state.commits.push((base_offset, bytes.to_vec()));
            state.last_append_ms = now_ms;
            self.end.send_replace(end);
        }
        Ok(Appended { partition: Partition::EMBEDDED, base_offset })
    }

    /// Appends the border between two files of the raw archive.
    pub fn seal(&self) -> Result<Appended, AppendError> {
        let mut batch = Batch::new();
        batch.push(Topic::Seal, b"", |_| {}).map_err(|e| AppendError::Io(e.to_string()))?;
        self.append_now(&batch)
    }

    #[must_use]
    pub fn end_offset(&self) -> u64 {
        *self.end.borrow()
    }

    pub fn reader(&self, from_offset: u64) -> Result<MemoryReader, ReadError> {
        let end = self.end_offset();
        if from_offset > end {
            return Err(ReadError::BeyondEnd { wanted: from_offset, end });
        }
        Ok(MemoryReader { log: self.clone(), end: self.end.subscribe(), offset: from_offset })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLog for MemoryLog {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.append_now(&batch)
    }
}

/// Reads a [`MemoryLog`].
pub struct MemoryReader {
    log: MemoryLog,
    end: watch::Receiver<u64>,
    offset: u64,
}

impl EventSource for MemoryReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Chunk, ReadError> {
        loop {
            self.end.borrow_and_update();
            if let Some(chunk) = self.try_next(max_bytes)? {
                return Ok(chunk);
            }
            if self.end.changed().await.is_err() {
                return Err(ReadError::Closed);
            }
        }
    }

    fn try_next(&mut self, max_bytes: usize) -> Result<Option<Chunk>, ReadError> {
        let state = self.log.lock();
        let end = self.log.end_offset();
        if self.offset >= end {
            return Ok(None);
        }
        let first = state.commits.partition_point(|(base, _)| *base <= self.offset).saturating_sub(1);
        let mut bytes = Vec::new();
        let mut next_offset = end;
        for (base, commit) in &state.commits[first..] {
            if !bytes.is_empty() && bytes.len() + commit.len() > max_bytes {
                next_offset = *base;
                break;
            }
            bytes.extend_from_slice(commit);
        }
        drop(state);
        let first_offset = std::mem::replace(&mut self.offset, next_offset);
        Ok(Some(Chunk::new(bytes, first_offset, next_offset)))
    }

    fn position(&self) -> u64 {
        self.offset
    }
}
