//! The spool: where requests go while the event log does not confirm them.
//!
//! [`Spooled`] stands before a log that may be away (Kafka). A batch that it does not
//! confirm in time is stored in an embedded log of this collector's own and answered
//! as a success after its fdatasync; from then on batches go there at once, until
//! [`Drain`] has brought what waits to the log behind. Never deletes a record that
//! the log behind has not confirmed, never acknowledges what is in neither.
//!
//! What must stay true: of two batches in the spool the older one is confirmed first;
//! while the log is away, the drain alone asks it, one batch at a time; every batch
//! arrives at least once (one that was not confirmed in time may be there already).

mod config;
mod drain;
pub(crate) mod metrics;
mod pieces;
mod room;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanal_service::health::{Health, State};
use fanal_storage::log::{
    AppendError, Appended, Batch, Clock, EventLog, Log, LogConfig, LogHealth, OpenError, PositionError,
    ReadError, Topic, Waiting,
};
use thiserror::Error;
use tokio::sync::Notify;

pub use config::{SpoolConfig, SpoolConfigProblem, SpoolSettings};
pub use drain::Drain;

use room::{NoRoom, Room};

/// What waits in the spool of a folder, whether its process runs or not.
pub fn waiting(dir: &Path) -> std::io::Result<Waiting> {
    fanal_storage::log::waiting(dir, CONSUMER)
}

/// The part of readiness that the spool reports.
const HEALTH_PART: &str = "spool";
/// The spool's only consumer.
const CONSUMER: &str = "drain";

/// Why there is no spool.
#[derive(Debug, Error)]
pub enum SpoolError {
    #[error(
        "the spool cannot be opened: {0}. To start without what waits in it, move its folder aside; it can be drained later"
    )]
    Open(#[from] OpenError),
    #[error("the spool's position cannot be used: {0}")]
    Position(#[from] PositionError),
    #[error("the spool cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the spool's files cannot be listed: {0}; check its disk and permissions")]
    List(std::io::Error),
}

/// An event log with a spool before it. Clones share both.
pub struct Spooled<L> {
    /// The handle of this one's appends.
    inner: L,
    shared: Arc<Shared<L>>,
}

impl<L: Clone> Clone for Spooled<L> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

/// What requests and the drain have in common.
struct Shared<L> {
    inner: L,
    log: Log,
    settings: SpoolSettings,
    clock: Clock,
    health: Health,
    room: Room,
    /// Batches go to the spool without asking the inner log.
    spooling: AtomicBool,
    outage: Mutex<Outage>,
    /// Append time of the oldest record that waits; 0 if none does.
    oldest_ms: AtomicU64,
    /// A batch was stored.
    stored: Notify,
}

#[derive(Default)]
struct Outage {
    /// Why the inner log last did not confirm.
    reason: String,
    /// Why the spool itself cannot be drained, if so.
    stuck: Option<String>,
    /// When the inner log last confirmed a batch of the drain.
    confirmed: Option<Instant>,
}

impl<L: EventLog> Spooled<L> {
    /// Opens or creates the spool; what it still holds is drained first. Blocks, and
    /// reads through what waits. Nothing is drained before [`Drain::run`].
    pub fn open(
        inner: L,
        settings: SpoolSettings,
        clock: Clock,
        health: Health,
    ) -> Result<(Self, Drain<L>), SpoolError> {
        let config = LogConfig {
            segment_bytes: settings.segment_bytes,
            retention: Duration::ZERO,
            // How large a request may be is for the collector and the log behind to say.
            commit_bytes_max: LogConfig::default().queue_bytes_max,
            clock: Arc::clone(&clock),
            ..LogConfig::default()
        };
        let log = Log::open(&settings.dir, config)?;
        let position = log.positions().register(CONSUMER, log.start_offset())?;
        let reader = log.reader(position)?;
        let segments = settings.dir.join("segments");
        let room =
            Room::new(segments, settings.bytes_max, settings.free_bytes_min).map_err(SpoolError::List)?;
        let waiting = log.lag(CONSUMER);
        let shared = Arc::new(Shared {
            inner,
            log,
            settings,
            clock,
            health,
            room,
            spooling: AtomicBool::new(waiting > 0),
            outage: Mutex::default(),
            oldest_ms: AtomicU64::new(0),
            stored: Notify::new(),
        });
        if waiting > 0 {
            tracing::info!(records = waiting, "spool holds records of the last run");
            shared.outage().reason = "records of the last run wait".to_owned();
        }
        shared.report();
        let inner = shared.inner.clone();
        Ok((Self { inner, shared: Arc::clone(&shared) }, Drain::new(shared, reader)))
    }

    /// The log behind the spool, for those who can wait for it.
    #[must_use]
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// Whether batches go to the spool now.
    #[must_use]
    pub fn is_spooling(&self) -> bool {
        self.shared.is_spooling()
    }

    /// Records in the spool that the log behind has not confirmed.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.shared.log.lag(CONSUMER)
    }
}

impl<L: EventLog> EventLog for Spooled<L> {
    /// Returns after the batch is durable, in the log behind or in the spool; the
    /// place is that of the log which took it. A batch that holds an import's
    /// position never goes to the spool: who waits there would read an old position.
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let shared = &*self.shared;
        if !may_spool(&batch) {
            return self.inner.append(batch).await;
        }
        if shared.is_spooling() {
            return shared.store(batch).await;
        }
        let started = Instant::now();
        let confirmed =
            tokio::time::timeout(shared.settings.confirm_timeout, self.inner.append_kept(&batch)).await;
        let error = match confirmed {
            Ok(Ok(appended)) => return Ok(appended),
            // The spool could never be drained of it. Of several records, which may be of
            // several requests, the drain finds the one.
            Ok(Err(error @ AppendError::TooLarge { .. })) if batch.record_count() == 1 => return Err(error),
            Ok(Err(error)) => error,
            Err(_) => shared.unconfirmed(shared.settings.confirm_timeout),
        };
        shared.engage(&error.to_string(), started);
        match (shared.store(batch).await, error) {
            // It may be there for all that; "nothing was stored" would be wrong.
            (Err(AppendError::Full), error @ AppendError::InDoubt(_)) => Err(error),
            (stored, _) => stored,
        }
    }

    fn local(&self) -> Self {
        Self { inner: self.inner.local(), shared: Arc::clone(&self.shared) }
    }
}

impl<L: EventLog> Shared<L> {
    fn is_spooling(&self) -> bool {
        self.spooling.load(Ordering::Acquire)
    }

    fn unconfirmed(&self, after: Duration) -> AppendError {
        AppendError::InDoubt(format!("no confirmation within {} ms", after.as_millis()))
    }

    /// Notes that the inner log failed a batch that was sent at `started`.
    fn engage(&self, reason: &str, started: Instant) {
        let mut outage = self.outage();
        if outage.confirmed.is_some_and(|confirmed| confirmed > started) {
            // The log has come back since; this batch alone goes the longer way.
            return;
        }
        reason.clone_into(&mut outage.reason);
        let engaged = !self.spooling.swap(true, Ordering::AcqRel);
        drop(outage);
        if engaged {
            metrics::engaged();
            tracing::warn!(reason, "event log does not confirm, requests go to the spool");
            self.report();
        }
    }

    /// Notes that the inner log confirms again and hardly anything waits.
    fn disengage(&self) {
        if self.spooling.swap(false, Ordering::AcqRel) {
            tracing::info!("event log confirms again, requests go to it");
            self.report();
        }
    }

    /// Makes `batch` durable in the spool.
    async fn store(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.check_records(&batch)?;
        let nothing_waits = || self.log.lag(CONSUMER) == 0;
        let reservation = match self.room.reserve(batch.byte_len(), nothing_waits) {
            Ok(reservation) => reservation,
            Err(no_room) => {
                metrics::refused(no_room.reason());
                self.report();
                return Err(AppendError::Full);
            }
        };
        let records = batch.record_count();
        let appended = self.log.appender().append(batch).await;
        match &appended {
            Ok(_) => {
                reservation.stored();
                metrics::spooled(records);
                self.stored.notify_one();
            }
            Err(_) => metrics::refused("failed"),
        }
        appended
    }

    fn check_records(&self, batch: &Batch) -> Result<(), AppendError> {
        let Some(max) = self.settings.record_bytes_max else { return Ok(()) };
        match batch.records().map(|(_, key, value)| key.len() + value.len()).max() {
            Some(bytes) if bytes > max => Err(AppendError::TooLarge { bytes, max }),
            _ => Ok(()),
        }
    }

    /// Tells readiness and metrics how the spool stands.
    fn report(&self) {
        let spooling = self.is_spooling();
        let shortage = self.room.shortage();
        let failed = self.log.health() == LogHealth::Poisoned;
        let takes_nothing = spooling && (shortage.is_some() || failed);
        let waiting = self.log.lag(CONSUMER);
        let oldest_ms = match self.oldest_ms.load(Ordering::Acquire) {
            0 => 0,
            oldest => (self.clock)().saturating_sub(oldest),
        };
        let state = if takes_nothing { 2 } else { u32::from(spooling) };
        metrics::stand(state, self.room.bytes_on_disk(), waiting, oldest_ms);
        self.health.set(HEALTH_PART, self.state(spooling, shortage, failed));
    }

    fn state(&self, spooling: bool, shortage: Option<NoRoom>, failed: bool) -> State {
        let outage = self.outage();
        let spool = match (failed, shortage, &outage.stuck) {
            (true, ..) => {
                Some("the spool's disk failed to confirm a write; check it, then restart".to_owned())
            }
            (_, Some(NoRoom::Bound), _) => {
                Some("the spool is full (`bytes_max`); it empties when the event log is back".to_owned())
            }
            (_, Some(NoRoom::FreeFloor), _) => {
                Some("the spool's disk has less free than `free_bytes_min`; free space".to_owned())
            }
            (.., Some(stuck)) => Some(format!("the spool does not drain: {stuck}")),
            _ => None,
        };
        let takes_nothing = failed || shortage.is_some();
        match (spooling, spool) {
            (false, None) => State::Ok,
            // Requests do not need the spool now.
            (false, Some(spool)) => State::Degraded(spool),
            (true, Some(spool)) if takes_nothing => {
                State::NotReady(format!("{spool}. The event log: {}", outage.reason))
            }
            (true, Some(spool)) => State::Degraded(format!("{spool}. The event log: {}", outage.reason)),
            (true, None) => State::Degraded(format!(
                "requests go to the spool, which drains by itself when the event log is back: {}",
                outage.reason
            )),
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines and probes may; what belongs to an import may not.
fn may_spool(batch: &Batch) -> bool {
    batch.records().all(|(topic, key, _)| match topic {
        Topic::Beacons | Topic::Dead => true,
        Topic::Positions => key.is_empty(),
        _ => false,
    })
}
