//! Bringing what waits in the spool to the log behind it, oldest first.
//!
//! The position is stored after the log behind confirmed, so that a crash repeats
//! work and never skips it. One batch is on its way at a time: it also shows whether
//! the log is back, and requests keep most of the disk and of the log for themselves.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fanal_service::stop::Stop;
use fanal_storage::log::{AppendError, Batch, Chunk, EventLog, ReadError, Reader, Topic};

use super::pieces::Pieces;
use super::{CONSUMER, Shared, metrics};

/// How often readiness and metrics are brought up to date, and the spool is looked at
/// although nobody said that something was stored.
const TICK: Duration = Duration::from_secs(1);
/// The most that is sent to a log which failed the batch before: where some of its
/// partitions are well, their part of each try arrives once more.
const PROBE_BYTES: usize = 64 << 10;
/// From success to success, until batches have the configured size again.
const GROWTH: usize = 4;

/// Drains a spool; there is one for each.
pub struct Drain<L> {
    shared: Arc<Shared<L>>,
    /// `None` only while it reads on another thread, or after that thread panicked.
    reader: Option<Reader>,
    /// What is being sent.
    pieces: Option<Pieces>,
    /// The size of the next batch.
    bytes_max: usize,
    /// The most that it may grow to: less than configured for a chunk of which the
    /// log behind said that batches are too large.
    limit: usize,
    /// Confirmed, but not yet stored as the position.
    unsaved: Option<u64>,
    /// Failures in a row.
    failures: u32,
}

/// What a step of the drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sent,
    Idle,
    Failed,
}

impl<L: EventLog> Drain<L> {
    pub(super) fn new(shared: Arc<Shared<L>>, reader: Reader) -> Self {
        let bytes_max = shared.settings.drain_batch_bytes;
        let limit = bytes_max;
        Self { shared, reader: Some(reader), pieces: None, bytes_max, limit, unsaved: None, failures: 0 }
    }

    /// Drains until `stop`, then what is left, for at most the configured time and
    /// until the first failure. Batches may be stored before, meanwhile and after.
    pub async fn run(mut self, stop: Stop) {
        let shared = Arc::clone(&self.shared);
        let deadline = async {
            stop.stopped().await;
            tokio::time::sleep(shared.settings.stop_timeout).await;
        };
        let ticks = async {
            loop {
                shared.report();
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::select! {
            () = self.until_stopped(&stop) => {}
            () = deadline => {}
            () = ticks => {}
        }
        shared.report();
        let waiting = shared.log.lag(CONSUMER);
        if waiting > 0 {
            tracing::info!(records = waiting, "spool keeps records for the next start");
        }
    }

    async fn until_stopped(&mut self, stop: &Stop) {
        loop {
            let last = stop.is_stopped();
            let step = self.step().await;
            if step != Step::Failed {
                self.failures = 0;
            }
            match step {
                Step::Sent => {}
                Step::Idle | Step::Failed if last => return,
                Step::Idle => {
                    let shared = Arc::clone(&self.shared);
                    pause(async { drop(tokio::time::timeout(TICK, shared.stored.notified()).await) }, stop)
                        .await;
                }
                Step::Failed => {
                    metrics::drain_failed();
                    let wait = self.wait();
                    self.failures = self.failures.saturating_add(1);
                    pause(tokio::time::sleep(wait), stop).await;
                }
            }
        }
    }

    /// Grows with each failure; half of it by chance, so that collectors which lost
    /// the same Kafka do not come back in step.
    fn wait(&self) -> Duration {
        let settings = &self.shared.settings;
        let grown = settings.pause_min.saturating_mul(1_u32.checked_shl(self.failures.min(20)).unwrap_or(1));
        grown.min(settings.pause_max).mul_f64(rand::random_range(0.5..=1.0))
    }

    async fn step(&mut self) -> Step {
        if self.unsaved.is_some() {
            self.save().await;
        }
        if self.pieces.is_none() {
            match self.read().await {
                Ok(Some(chunk)) => self.pieces = Some(Pieces::of(chunk)),
                Ok(None) => return self.probe().await,
                Err(error) => {
                    self.stuck(Some(error.to_string()));
                    // New requests need not suffer from it.
                    self.probe().await;
                    return Step::Failed;
                }
            }
        }
        self.send().await
    }

    /// Sends the next batch of what was read.
    async fn send(&mut self) -> Step {
        let Some(pieces) = &mut self.pieces else { return Step::Idle };
        let oldest_ms = pieces.oldest_ms().unwrap_or(0);
        self.shared.oldest_ms.store(oldest_ms, Ordering::Release);
        let piece = match pieces.next(self.bytes_max) {
            Ok(piece) => piece,
            Err(error) => {
                self.stuck(Some(error.to_string()));
                return Step::Failed;
            }
        };
        let records = piece.batch.record_count();
        let bytes = piece.batch.byte_len();
        // Receipts without records are counts of lines that a repair could not save.
        if !piece.batch.is_empty() {
            match confirm(&self.shared, piece.batch.clone()).await {
                Ok(()) => {}
                Err(AppendError::TooLarge { .. }) if records > 1 => {
                    self.limit = (bytes / 2).max(1);
                    self.bytes_max = self.limit;
                    return Step::Sent;
                }
                Err(error) => {
                    self.bytes_max = self.bytes_max.min(PROBE_BYTES);
                    let too_large = matches!(error, AppendError::TooLarge { .. });
                    self.stuck(too_large.then(|| error.to_string()));
                    if too_large {
                        // It waits until the log takes it; new requests need not.
                        self.probe().await;
                    }
                    return Step::Failed;
                }
            }
        }
        metrics::drained(records);
        pieces.confirmed(piece);
        self.bytes_max = self.bytes_max.saturating_mul(GROWTH).min(self.limit);
        if pieces.is_done() {
            self.finish().await;
        }
        self.stuck(None);
        Step::Sent
    }

    /// All of what was read is confirmed.
    async fn finish(&mut self) {
        let Some(pieces) = self.pieces.take() else { return };
        self.limit = self.shared.settings.drain_batch_bytes;
        self.unsaved = Some(pieces.next_offset());
        self.save().await;
        let behind = self.shared.log.end_offset().saturating_sub(pieces.next_offset());
        if behind == 0 {
            self.shared.oldest_ms.store(0, Ordering::Release);
        }
        // Waiting for a moment at which nothing at all waits would, under steady
        // traffic, mean waiting for ever: what came while one batch was on its way
        // follows while new requests already go to the log.
        if behind <= pieces.record_count() {
            self.shared.disengage();
        }
    }

    /// Stores the position and lets go of the files before it.
    async fn save(&mut self) {
        let Some(offset) = self.unsaved else { return };
        let shared = Arc::clone(&self.shared);
        let saved = tokio::task::spawn_blocking(move || {
            shared.log.positions().commit(CONSUMER, offset).map_err(|error| error.to_string())?;
            // The spool has no use for the age of a file.
            shared.log.retain(u64::MAX).map_err(|error| error.to_string())?;
            shared.room.recount().map_err(|error| error.to_string())
        })
        .await;
        match saved.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(()) => self.unsaved = None,
            // The drain goes on: if this process ends now, the batches go out again.
            Err(error) => tracing::warn!(error, "cannot store how far the spool is drained"),
        }
    }

    async fn read(&mut self) -> Result<Option<Chunk>, ReadError> {
        let Some(mut reader) = self.reader.take() else { return Err(ReadError::Closed) };
        let max = self.shared.settings.drain_batch_bytes;
        let read = tokio::task::spawn_blocking(move || {
            let chunk = reader.try_next(max);
            (reader, chunk)
        })
        .await;
        let (reader, chunk) = read.map_err(|_| ReadError::Closed)?;
        self.reader = Some(reader);
        chunk
    }

    /// Nothing waits. If requests go to the spool nevertheless, because it refused
    /// the batch that failed, asks the log behind whether it is back.
    async fn probe(&mut self) -> Step {
        if !self.shared.is_spooling() {
            return Step::Idle;
        }
        let mut probe = Batch::new();
        // An import position without a file: readers pass over it.
        if probe.push(Topic::Positions, b"", |_| {}).is_err() {
            return Step::Failed;
        }
        match confirm(&self.shared, probe).await {
            Ok(()) => {
                self.shared.disengage();
                Step::Idle
            }
            Err(_) => Step::Failed,
        }
    }

    /// Notes why the spool cannot be drained though the log behind answers.
    fn stuck(&self, reason: Option<String>) {
        let mut outage = self.shared.outage();
        if outage.stuck == reason {
            return;
        }
        if let Some(reason) = &reason {
            tracing::error!(reason, "spool cannot be drained");
        }
        outage.stuck = reason;
    }
}

/// Appends to the log behind, in bounded time, and notes what came of it.
async fn confirm<L: EventLog>(shared: &Shared<L>, batch: Batch) -> Result<(), AppendError> {
    let started = Instant::now();
    let timeout = shared.settings.drain_timeout;
    let result = match tokio::time::timeout(timeout, shared.inner.append(batch)).await {
        Ok(result) => result.map(|_| ()),
        Err(_) => Err(shared.unconfirmed(timeout)),
    };
    match &result {
        Ok(()) => shared.outage().confirmed = Some(Instant::now()),
        // The log is there.
        Err(AppendError::TooLarge { .. }) => {}
        Err(error) => shared.engage(&error.to_string(), started),
    }
    result
}

/// Waits, but not past the stop.
async fn pause(wait: impl Future<Output = ()>, stop: &Stop) {
    tokio::select! {
        () = wait => {}
        () = stop.stopped() => {}
    }
}
