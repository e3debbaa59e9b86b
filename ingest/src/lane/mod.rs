//! Many requests of one thread become one append.
//!
//! A request writes its records straight into the lane's open batch, the only copy of
//! its payload on the way to the log, and waits with a [`Ticket`]. One batch is on its
//! way at a time: while the log works on it the next one fills, so that batches are as
//! large as the log is slow, nobody waits for a timer, and one wake-up of the log
//! serves hundreds of requests.
//!
//! Never answers for a request before the log confirmed its batch. What must stay true:
//! a request that is refused leaves nothing behind in the batch; every ticket is
//! answered, also when the task that appends is ended; memory is bounded by `bytes_max`.

mod ticket;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fanal_parser::Counts;
use fanal_storage::log::{AppendError, Batch, EventLog, Mark};
use tokio::sync::Notify;

use ticket::Group;
pub(crate) use ticket::Ticket;

/// A batch of this size takes no more requests.
const BATCH_BYTES: usize = 1 << 20;
/// A request larger than this does not share a batch that others have begun: what a
/// log takes at once is bounded, and one large request must not make it too much.
const SHARED_BYTES_MAX: usize = 256 << 10;

/// Hears of every append.
pub(crate) trait Observer: Send + Sync + 'static {
    /// What is remembered of a batch while it is on its way.
    type Pending: Send;

    /// A batch with the lines of so many requests leaves for the log.
    fn leaves(&self, batch: &Batch, requests: u64) -> Self::Pending;

    /// `queued` is when the first request of the batch came, `sent` when it left.
    fn appended(
        &self,
        pending: Self::Pending,
        queued: Instant,
        sent: Instant,
        result: &Result<(), AppendError>,
    );
}

/// The lines of one request as they are counted.
pub(crate) struct Written<'s> {
    pub(crate) site_code: &'s str,
    pub(crate) minute_ms: u64,
    pub(crate) counts: Counts,
}

/// The way of one thread to the event log.
pub(crate) struct Lane<L, O> {
    shared: Arc<Shared<L, O>>,
}

struct Shared<L, O> {
    log: L,
    observer: Arc<O>,
    bytes_max: usize,
    state: Mutex<State>,
    /// Something is there for a pump that waits.
    filled: Notify,
}

#[derive(Default)]
struct State {
    open: Filling,
    /// Full batches, oldest first.
    full: VecDeque<Filling>,
    /// Bytes of `full` and of the batch on its way.
    bytes: usize,
    pump: Pump,
    closed: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Pump {
    #[default]
    None,
    Waits,
    Works,
}

/// A batch and those who wait for it.
#[derive(Default)]
struct Filling {
    batch: Batch,
    group: Arc<Group>,
    requests: u64,
    since: Option<Instant>,
}

/// Takes back what a request added, unless it is kept: after an error, and after a panic,
/// which must not leave a piece of a record before those of others.
struct Undo<'b> {
    batch: &'b mut Batch,
    mark: Mark,
    is_kept: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.batch.rewind(self.mark);
        }
    }
}

impl<L: EventLog, O: Observer> Lane<L, O> {
    /// `bytes_max` is what may wait in this lane.
    pub(crate) fn new(log: L, observer: Arc<O>, bytes_max: usize) -> Self {
        let state = Mutex::default();
        Self { shared: Arc::new(Shared { log, observer, bytes_max, state, filled: Notify::new() }) }
    }

    /// Lets `fill` add records to the open batch. When it fails, what it added is taken
    /// back. Must be called inside of a runtime, whose tasks then do the appending.
    pub(crate) fn write<'s, T, E: From<AppendError>>(
        &self,
        fill: impl FnOnce(&mut Batch) -> Result<(T, Written<'s>), E>,
    ) -> Result<(T, Ticket), E> {
        let mut state = self.shared.lock();
        if state.bytes + state.open.batch.record_bytes() > self.shared.bytes_max {
            return Err(AppendError::Overloaded.into());
        }
        let mark = state.open.batch.mark();
        let mut filling = Undo { batch: &mut state.open.batch, mark, is_kept: false };
        let (value, written) = fill(filling.batch)?;
        filling.is_kept = true;
        drop(filling);
        if written.counts.received == 0 && state.open.batch.bytes_since(mark) == 0 {
            // No line, nothing to wait for: an append may never come. The next one counts it.
            state.open.requests += 1;
            return Ok((value, Ticket::ready()));
        }
        if !state.open.batch.begins_at(mark) && state.open.batch.bytes_since(mark) > SHARED_BYTES_MAX {
            let own = state.open.batch.split_off(mark);
            state.close_open();
            state.open.batch = own;
        }
        state.open.requests += 1;
        let Counts { received, accepted, rejected } = written.counts;
        if received > 0 {
            state.open.batch.receipt(written.minute_ms, written.site_code, received, accepted, rejected);
        }
        state.open.since.get_or_insert_with(Instant::now);
        let ticket = Ticket::new(Arc::clone(&state.open.group));
        if state.open.batch.record_bytes() >= BATCH_BYTES {
            state.close_open();
        }
        self.rouse(state);
        Ok((value, ticket))
    }

    /// Sees to it that somebody appends.
    fn rouse(&self, mut state: MutexGuard<'_, State>) {
        match state.pump {
            Pump::Works => {}
            Pump::Waits => {
                state.pump = Pump::Works;
                drop(state);
                self.shared.filled.notify_one();
            }
            Pump::None => {
                state.pump = Pump::Works;
                drop(state);
                tokio::spawn(pump(Pumping(Arc::clone(&self.shared))));
            }
        }
    }
}

impl<L, O> Drop for Lane<L, O> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl State {
    fn close_open(&mut self) {
        let full = std::mem::take(&mut self.open);
        let bytes = full.batch.record_bytes();
        self.bytes += bytes;
        // The next one will be about as large: it is not to grow by copying.
        self.open.batch = Batch::with_capacity((bytes + bytes / 4).min(BATCH_BYTES));
        self.full.push_back(full);
    }
}

impl<L, O> Shared<L, O> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends batch after batch. Ends with its lane.
async fn pump<L: EventLog, O: Observer>(pumping: Pumping<L, O>) {
    let shared = &*pumping.0;
    loop {
        let Some(next) = pumping.next() else {
            if shared.lock().closed {
                return;
            }
            shared.filled.notified().await;
            continue;
        };
        let (bytes, sent) = (next.batch.record_bytes(), Instant::now());
        let queued = next.since.unwrap_or(sent);
        let sending = Sending { shared, group: next.group, bytes, result: None };
        let pending = shared.observer.leaves(&next.batch, next.requests);
        let result = shared.log.append(next.batch).await.map(|_| ());
        shared.observer.appended(pending, queued, sent, &result);
        sending.end(result);
    }
}

/// The pump's hold on its lane. When the pump is ended from outside, those who wait
/// learn of it, and the next request starts another one.
struct Pumping<L, O>(Arc<Shared<L, O>>);

impl<L, O> Pumping<L, O> {
    fn next(&self) -> Option<Filling> {
        let mut state = self.0.lock();
        if state.full.is_empty() && !state.open.batch.is_empty() {
            state.close_open();
        }
        let next = state.full.pop_front();
        if next.is_none() {
            state.pump = Pump::Waits;
        }
        next
    }
}

impl<L, O> Drop for Pumping<L, O> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.pump = Pump::None;
        if !state.open.batch.is_empty() {
            state.close_open();
        }
        let left = std::mem::take(&mut state.full);
        state.bytes = 0;
        drop(state);
        for filling in left {
            filling.group.end(Err(AppendError::Closed));
        }
    }
}

/// A batch on its way.
struct Sending<'s, L, O> {
    shared: &'s Shared<L, O>,
    group: Arc<Group>,
    bytes: usize,
    result: Option<Result<(), AppendError>>,
}

impl<L, O> Sending<'_, L, O> {
    fn end(mut self, result: Result<(), AppendError>) {
        self.result = Some(result);
    }
}

impl<L, O> Drop for Sending<'_, L, O> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.bytes = state.bytes.saturating_sub(self.bytes);
        drop(state);
        let cut_off = || Err(AppendError::InDoubt("the collector ended while it waited".to_owned()));
        self.group.end(self.result.take().unwrap_or_else(cut_off));
    }
}

#[cfg(test)]
mod tests;
