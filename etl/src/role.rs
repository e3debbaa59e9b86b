//! The role: which parts run, what they share, how they stop.

use std::sync::Arc;
use std::time::Duration;

use fanal_profiles::Profiles;
use fanal_service::health::Health;
use fanal_service::stop::Stop;
use fanal_storage::archive::Archive;
use fanal_storage::catalogue::SiteDirectory;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig};
use fanal_storage::log::{Clock, Log};
use object_store::ObjectStore;

use crate::config::{EtlConfig, millis};
use crate::log::EventLogs;
use crate::progress::{Progress, Stage};
use crate::visit::VisitPolicy;
use crate::{archive, compact, counts, rebuild, visits, watch, workers};

/// How often the log may delete what nobody needs any more.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// The schema of the tables.
const TABLES: &str = "tables";

/// What a part says before it has tried anything.
pub(crate) const STARTING: &str = "it is starting";

/// The parts that report their health.
pub const HEALTH_PARTS: [&str; 4] = ["archive", "visits", "rebuild", TABLES];

/// What the parts of the role share. Clones share it.
#[derive(Clone)]
pub struct Etl {
    pub config: Arc<EtlConfig>,
    pub log: EventLogs,
    pub archive: Archive,
    /// Where the state of open visits is stored.
    pub checkpoints: Arc<dyn ObjectStore>,
    pub clickhouse: ClickHouseConfig,
    pub profiles: Profiles,
    pub sites: SiteDirectory,
    pub health: Health,
    pub clock: Clock,
    pub progress: Progress,
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
    /// Its inserts are told from those of other runs, which may have changed since
    /// what they repeat.
    #[must_use]
    pub fn clickhouse(&self) -> ClickHouse {
        ClickHouse::new(self.clickhouse.clone()).for_run((self.clock)())
    }
}

/// Runs all parts until `stop`; each finishes what it holds.
///
/// Streaming and rebuild compute for long stretches, so each has a thread of its
/// own: a request that waits for the collector must not wait for them.
pub async fn run(etl: Etl, stop: Stop) {
    for part in HEALTH_PARTS {
        etl.health.starting(part, STARTING);
    }
    let retaining = match &etl.log {
        EventLogs::Embedded(log) => {
            register_readers(log);
            Some(retain(log.clone(), etl.clock.clone(), stop.clone()))
        }
        // Kafka trims its topics by itself.
        EventLogs::Kafka(_) => None,
    };
    let threads = match &etl.log {
        EventLogs::Embedded(_) => 1,
        EventLogs::Kafka(_) => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let visiting = workers::run(etl.clone(), Stage::Visits, stop.clone(), visits::run);
    let streaming = on_own_threads("visits", threads, visiting);
    let rebuilding = on_own_threads("rebuild", 1, rebuild::marked::run(etl.clone(), stop.clone()));
    let archiving = workers::run(etl.clone(), Stage::Archive, stop.clone(), |assignment| async move {
        let (counting, compacting) = (counts::run(assignment.clone()), compact::run(assignment.clone()));
        tokio::join!(archive::run(assignment), counting, compacting);
    });
    let retaining = async {
        if let Some(retaining) = retaining {
            retaining.await;
        }
    };
    let (migrating, sweeping, watching) = (migrate(&etl, &stop), sweep(&etl, &stop), watch::run(&etl, &stop));
    tokio::join!(archiving, retaining, streaming, rebuilding, migrating, sweeping, watching);
}

/// Brings the tables up to date as soon as ClickHouse answers; until then the parts
/// that need them try again.
async fn migrate(etl: &Etl, stop: &Stop) {
    let clickhouse = etl.clickhouse();
    let mut backoff = Backoff::new();
    while let Err(error) = clickhouse.migrate().await {
        etl.health.not_ready(TABLES, error.to_string());
        if backoff.wait(stop).await {
            return;
        }
    }
    etl.health.ok(TABLES);
}

/// Removes what has expired from the profile store, a bounded number at a time.
async fn sweep(etl: &Etl, stop: &Stop) {
    while !sleep_or_stop(RETENTION_INTERVAL, stop).await {
        loop {
            match etl.profiles.sweep((etl.clock)()).await {
                Ok(swept) if !swept.is_done && !stop.is_stopped() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot sweep the profile store");
                    break;
                }
            }
        }
    }
}

/// Retention waits for both, also for one that has not managed to start yet.
fn register_readers(log: &Log) {
    for consumer in [Stage::Archive, Stage::Visits] {
        if let Err(error) = log.positions().register(consumer.name(), log.start_offset()) {
            tracing::error!(consumer = consumer.name(), %error, "cannot note a reader of the log");
        }
    }
}

/// Runs `work` on a runtime of its own with so many threads.
async fn on_own_threads(name: &'static str, threads: usize, work: impl Future<Output = ()> + Send + 'static) {
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name(format!("etl-{name}")).spawn(move || {
        // Dropped at the end of the thread, also when it panics.
        let _done = done;
        let runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
            _ => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(format!("etl-{name}"))
                .enable_all()
                .build(),
        };
        match runtime {
            Ok(runtime) => runtime.block_on(work),
            Err(error) => tracing::error!(part = name, %error, "cannot start a runtime"),
        }
    });
    match thread {
        Ok(_) => drop(finished.await),
        Err(error) => tracing::error!(part = name, %error, "cannot start a thread"),
    }
}

async fn retain(log: Log, clock: Clock, stop: Stop) {
    while !sleep_or_stop(RETENTION_INTERVAL, &stop).await {
        match log.retain(clock()) {
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
