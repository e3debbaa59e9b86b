//! How far each stage has come, and waiting until all have come far enough.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanal_service::health::State;
use fanal_storage::log::Partition;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use crate::log::{EventLogs, LogError, concerns};
use crate::rebuild;
use crate::role::Etl;
use crate::watch::Troubles;

/// A stage that makes no progress for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How often progress is looked at, in this process and in Kafka.
const LOOK_EMBEDDED: Duration = Duration::from_millis(5);
const LOOK_KAFKA: Duration = Duration::from_millis(100);
/// How long Kafka is asked again for offsets that it does not tell.
const ASK_FOR: Duration = Duration::from_secs(30);

/// An offset for each partition.
pub type Offsets = BTreeMap<Partition, u64>;

/// A consumer of the event log that notes how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Everything before the offset is in archive files.
    Archive,
    /// The counts of every file before the offset are in the ledger.
    Ledger,
    /// Everything before the offset is in the tables.
    Visits,
}

impl Stage {
    /// The name in health, metrics and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Ledger => "ledger",
            Self::Visits => "visits",
        }
    }

    pub(crate) fn group(self) -> fanal_kafka::Stage {
        match self {
            Self::Archive => fanal_kafka::Stage::Archive,
            Self::Ledger => fanal_kafka::Stage::Ledger,
            Self::Visits => fanal_kafka::Stage::Visits,
        }
    }
}

/// The progress of the partitions that this process works on. Clones share it.
#[derive(Clone)]
pub struct Progress {
    archived: Arc<watch::Sender<Offsets>>,
    counted: Arc<watch::Sender<Offsets>>,
    visited: Arc<watch::Sender<Offsets>>,
    /// Records before these offsets wait to be archived: end the file now.
    seal_wanted: Arc<watch::Sender<Offsets>>,
    /// Late records were counted: a rebuild is due.
    pub(crate) marked: Arc<Notify>,
    /// Whether this process is the one that rebuilds marked days.
    pub(crate) leads: Arc<watch::Sender<bool>>,
    /// One rebuild at a time.
    pub(crate) rebuilding: Arc<tokio::sync::Mutex<()>>,
    /// What is wrong with Kafka.
    pub(crate) troubles: Troubles,
}

impl Default for Progress {
    fn default() -> Self {
        let offsets = || Arc::new(watch::Sender::new(Offsets::new()));
        Self {
            archived: offsets(),
            counted: offsets(),
            visited: offsets(),
            seal_wanted: offsets(),
            marked: Arc::new(Notify::new()),
            leads: Arc::new(watch::Sender::new(false)),
            rebuilding: Arc::default(),
            troubles: Troubles::default(),
        }
    }
}

impl Progress {
    fn of(&self, stage: Stage) -> &watch::Sender<Offsets> {
        match stage {
            Stage::Archive => &self.archived,
            Stage::Ledger => &self.counted,
            Stage::Visits => &self.visited,
        }
    }

    /// How far a stage has come in this process; 0 where it has not begun.
    #[must_use]
    pub fn reached(&self, stage: Stage, partition: Partition) -> u64 {
        self.of(stage).borrow().get(&partition).copied().unwrap_or(0)
    }

    /// Notes progress; only a change wakes who waits.
    pub(crate) fn note(&self, stage: Stage, partition: Partition, offset: u64) {
        self.of(stage).send_if_modified(|offsets| offsets.insert(partition, offset) != Some(offset));
    }

    /// Forgets a partition that another process works on now.
    pub(crate) fn forget(&self, stage: Stage, partition: Partition) {
        self.of(stage).send_if_modified(|offsets| offsets.remove(&partition).is_some());
    }

    pub(crate) fn watch(&self, stage: Stage) -> watch::Receiver<Offsets> {
        self.of(stage).subscribe()
    }

    /// Asks the worker of the partition for an archive file that ends at or after `offset`.
    fn want_sealed(&self, partition: Partition, offset: u64) {
        // Never less than somebody else waits for.
        self.seal_wanted.send_if_modified(|wanted| {
            let known = wanted.entry(partition).or_default();
            let is_more = offset > *known;
            *known = offset.max(*known);
            is_more
        });
    }

    pub(crate) fn seals_wanted(&self) -> watch::Receiver<Offsets> {
        self.seal_wanted.subscribe()
    }
}

/// A stage that does not come on.
#[derive(Debug, Error)]
pub enum Stuck {
    #[error(
        "`{stage}` stands at offset {at} of {end} in partition {partition} and has not moved for {} s: {reason}; \
         heal that and run this again",
        STUCK_AFTER.as_secs()
    )]
    Stage { stage: &'static str, partition: Partition, at: u64, end: u64, reason: String },
    #[error("the event log does not say how far it goes: {0}; heal that and run this again")]
    Log(#[from] LogError),
}

impl Etl {
    /// Waits until every record that the log has now is archived, counted and in
    /// the tables. Returns the offsets after the last of them.
    pub async fn catch_up(&self) -> Result<Offsets, Stuck> {
        let ends = self.ends().await?;
        self.seal(&ends).await?;
        for stage in [Stage::Archive, Stage::Ledger, Stage::Visits] {
            self.wait(stage, &ends).await?;
        }
        Ok(ends)
    }

    /// As `catch_up`, and until the days that late records marked are rebuilt: in
    /// between such a record is counted as late and as loaded.
    pub async fn catch_up_and_rebuild(&self) -> Result<Offsets, Stuck> {
        let ends = self.catch_up().await?;
        rebuild::marked::wait_until_clear(self, &ends).await;
        // What came meanwhile is in the tables before it is archived.
        self.catch_up().await
    }

    /// The offsets after the newest records of all partitions. A coordinator that
    /// moves, or a broker that starts again, is given time.
    pub async fn ends(&self) -> Result<Offsets, LogError> {
        patiently(|| self.log.ends()).await
    }

    /// Asks for archive files that end at or after these offsets.
    pub async fn seal(&self, ends: &Offsets) -> Result<(), LogError> {
        let archived = patiently(|| self.all_reached(Stage::Archive)).await?;
        for (partition, end) in ends {
            if archived.get(partition).copied().unwrap_or(0) >= *end {
                continue;
            }
            match &self.log {
                EventLogs::Embedded(_) => self.progress.want_sealed(*partition, *end),
                // The partition's worker may be in another process.
                EventLogs::Kafka(_) => drop(self.log.seal(*partition).await?),
            }
        }
        Ok(())
    }

    /// How far a stage has come in all partitions, whoever works on them.
    pub async fn all_reached(&self, stage: Stage) -> Result<Offsets, LogError> {
        match &self.log {
            EventLogs::Embedded(_) => Ok(self.progress.of(stage).borrow().clone()),
            EventLogs::Kafka(kafka) => {
                let partitions = kafka.partitions();
                let committed = kafka.committed(stage.group(), &partitions).await?;
                Ok(partitions.into_iter().zip(committed).filter_map(|(p, at)| Some((p, at?))).collect())
            }
        }
    }

    /// Waits until a stage has come to these offsets, as long as it moves.
    pub async fn wait(&self, stage: Stage, ends: &Offsets) -> Result<(), Stuck> {
        let look = match &self.log {
            EventLogs::Embedded(_) => LOOK_EMBEDDED,
            EventLogs::Kafka(_) => LOOK_KAFKA,
        };
        let mut last = Offsets::new();
        let mut moved_at = Instant::now();
        loop {
            let reached = self.all_reached(stage).await;
            // While Kafka is away nothing moves; the bound below ends that.
            let reached = reached.unwrap_or_else(|_| last.clone());
            let behind = ends.iter().find(|(partition, end)| {
                concerns(stage, partition.family()) && reached.get(partition).copied().unwrap_or(0) < **end
            });
            let Some((partition, end)) = behind else { return Ok(()) };
            if reached != last {
                moved_at = Instant::now();
                last = reached;
            } else if moved_at.elapsed() > STUCK_AFTER {
                let at = last.get(partition).copied().unwrap_or(0);
                let reason = self.reason(stage, *partition);
                return Err(Stuck::Stage {
                    stage: stage.name(),
                    partition: *partition,
                    at,
                    end: *end,
                    reason,
                });
            }
            tokio::time::sleep(look).await;
        }
    }

    fn reason(&self, stage: Stage, partition: Partition) -> String {
        let states = self.health.states();
        let mine = self.health_part(stage, partition);
        match states.get(mine.as_str()).or_else(|| states.get(stage.name())) {
            Some(State::NotReady(reason)) => reason.clone(),
            _ => "it reports no reason; another process may work on it".to_owned(),
        }
    }

    /// The part of readiness of one worker.
    pub(crate) fn health_part(&self, stage: Stage, partition: Partition) -> String {
        match &self.log {
            EventLogs::Embedded(_) => stage.name().to_owned(),
            EventLogs::Kafka(_) => format!("{}-{partition}", stage.name()),
        }
    }
}

/// Asks again where Kafka does not answer, within a bound.
async fn patiently<T, F: Future<Output = Result<T, LogError>>>(ask: impl Fn() -> F) -> Result<T, LogError> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(LogError::Kafka(error)) if began.elapsed() < ASK_FOR => {
                tracing::debug!(%error, "kafka is asked again");
                tokio::time::sleep(LOOK_KAFKA).await;
            }
            done => return done,
        }
    }
}
