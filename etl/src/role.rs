//! The role: which parts run, what they share, how they stop.

use std::sync::Arc;
use std::time::Duration;

use fanal_service::health::{Health, State};
use fanal_service::stop::Stop;
use fanal_storage::archive::Archive;
use fanal_storage::catalogue::SiteDirectory;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig};
use fanal_storage::log::{Clock, Log};
use object_store::ObjectStore;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use crate::config::{EtlConfig, millis};
use crate::visit::VisitPolicy;
use crate::{archive, counts, rebuild, visits};

/// A part that makes no progress for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How often the log may delete what nobody needs any more.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// The parts that report their health.
pub const HEALTH_PARTS: [&str; 4] = ["archive", "ledger", "visits", "rebuild"];

/// What the parts of the role share. Clones share it.
#[derive(Clone)]
pub struct Etl {
    pub config: Arc<EtlConfig>,
    pub log: Log,
    pub archive: Archive,
    /// Where the state of open visits is stored.
    pub checkpoints: Arc<dyn ObjectStore>,
    pub clickhouse: ClickHouseConfig,
    pub sites: SiteDirectory,
    pub health: Health,
    pub clock: Clock,
    pub progress: Progress,
}

/// How far each part has come. Clones share it.
#[derive(Clone)]
pub struct Progress {
    /// Every record before this offset is in an archive file.
    pub archived: Arc<watch::Sender<u64>>,
    /// The counts of every file before this offset are in the ledger.
    pub counted: Arc<watch::Sender<u64>>,
    /// Every record before this offset is in the tables.
    pub visited: Arc<watch::Sender<u64>>,
    /// A record before this offset waits to be archived: end the file now.
    pub(crate) seal_wanted: Arc<watch::Sender<u64>>,
    /// Late records were counted: a rebuild is due.
    pub marked: Arc<Notify>,
    /// One rebuild at a time.
    pub(crate) rebuilding: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Progress {
    fn default() -> Self {
        let offset = || Arc::new(watch::Sender::new(0));
        Self {
            archived: offset(),
            counted: offset(),
            visited: offset(),
            seal_wanted: offset(),
            marked: Arc::new(Notify::new()),
            rebuilding: Arc::default(),
        }
    }
}

impl Progress {
    /// Asks for an archive file that ends at or after `offset`.
    pub fn want_sealed(&self, offset: u64) {
        // Never less than somebody else waits for.
        self.seal_wanted.send_if_modified(|wanted| {
            let is_more = offset > *wanted;
            *wanted = offset.max(*wanted);
            is_more
        });
    }
}

impl Etl {
    /// The rules of a site; an unknown one has the defaults.
    #[must_use]
    pub fn policy(&self, site_code: &str) -> VisitPolicy {
        let mut policy =
            VisitPolicy { dedupe_horizon_ms: millis(self.config.dedupe_horizon), ..VisitPolicy::default() };
        if let Some(site) = self.sites.get(site_code) {
            policy.session_timeout_ms = site.session_timeout_ms;
            policy.heartbeat_extends = site.heartbeat_extends;
        }
        policy
    }

    /// A connection of its own: connections belong to the runtime that made them.
    #[must_use]
    pub fn clickhouse(&self) -> ClickHouse {
        ClickHouse::new(self.clickhouse.clone())
    }

    /// Waits until every record that the log has now is archived, counted and in
    /// the tables. Returns the offset after the last of them.
    pub async fn catch_up(&self) -> Result<u64, Stuck> {
        let end = self.log.end_offset();
        self.progress.want_sealed(end);
        let parts = [
            ("archive", &self.progress.archived),
            ("ledger", &self.progress.counted),
            ("visits", &self.progress.visited),
        ];
        for (part, offset) in parts {
            let mut offset = offset.subscribe();
            while *offset.borrow_and_update() < end {
                // A part that moves is given time; one that does not is stuck.
                if tokio::time::timeout(STUCK_AFTER, offset.changed()).await.is_err() {
                    let at = *offset.borrow();
                    return Err(Stuck { part, at, end, reason: self.reason(part) });
                }
            }
        }
        Ok(end)
    }

    fn reason(&self, part: &str) -> String {
        match self.health.states().get(part) {
            Some(State::NotReady(reason)) => reason.clone(),
            _ => "it reports no reason".to_owned(),
        }
    }

    /// As `catch_up`, and until the days that late records marked are rebuilt: in
    /// between such a record is counted as late and as loaded.
    pub async fn catch_up_and_rebuild(&self) -> Result<u64, Stuck> {
        let end = self.catch_up().await?;
        rebuild::marked::wait_until_clear(self, end).await;
        // What came meanwhile is in the tables before it is archived.
        self.catch_up().await
    }
}

/// A part of the role that does not come on.
#[derive(Debug, Error)]
#[error(
    "`{part}` stands at offset {at} of {end} and has not moved for {} s: {reason}; heal that and run this again",
    STUCK_AFTER.as_secs()
)]
pub struct Stuck {
    pub part: &'static str,
    pub at: u64,
    pub end: u64,
    pub reason: String,
}

/// Runs all parts until `stop`; each finishes what it holds.
///
/// Streaming and rebuild compute for long stretches, so each has a thread of its
/// own: a request that waits for the collector must not wait for them.
pub async fn run(etl: Etl, stop: Stop) {
    for part in HEALTH_PARTS {
        etl.health.not_ready(part, "it is starting");
    }
    // Retention waits for both, also for one that has not managed to start yet.
    for consumer in ["archive", "visits"] {
        if let Err(error) = etl.log.positions().register(consumer, etl.log.start_offset()) {
            tracing::error!(consumer, %error, "cannot note a reader of the log");
        }
    }
    let streaming = on_own_thread("visits", visits::run(etl.clone(), stop.clone()));
    let rebuilding = on_own_thread("rebuild", rebuild::marked::run(etl.clone(), stop.clone()));
    tokio::join!(
        archive::run(etl.clone(), stop.clone()),
        counts::run(etl.clone(), stop.clone()),
        retain(etl, stop),
        streaming,
        rebuilding,
    );
}

async fn on_own_thread(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name(format!("etl-{name}")).spawn(move || {
        // Dropped at the end of the thread, also when it panics.
        let _done = done;
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(work),
            Err(error) => tracing::error!(part = name, %error, "cannot start a runtime"),
        }
    });
    match thread {
        Ok(_) => drop(finished.await),
        Err(error) => tracing::error!(part = name, %error, "cannot start a thread"),
    }
}

async fn retain(etl: Etl, stop: Stop) {
    while !sleep_or_stop(RETENTION_INTERVAL, &stop).await {
        match etl.log.retain((etl.clock)()) {
            Ok(done) if done.deleted_segments > 0 => {
                tracing::info!(
                    segments = done.deleted_segments,
                    start_offset = done.start_offset,
                    "log trimmed"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot trim the log"),
        }
    }
}

/// Waits; true if the stop came first.
pub(crate) async fn sleep_or_stop(time: Duration, stop: &Stop) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        () = stop.stopped() => true,
    }
}

/// Growing pauses between tries of something that another process must heal.
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self(Self::FIRST)
    }

    /// Waits longer each time, up to a bound; true if the stop came first.
    pub(crate) async fn wait(&mut self, stop: &Stop) -> bool {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LAST);
        sleep_or_stop(pause, stop).await
    }
}
