//! Who works on which partition.
//!
//! The embedded log has one partition and one worker. With Kafka the group gives
//! each process some partitions, and takes them away again: a worker ends before
//! the partition goes to another process, within the bound that the group allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanal_kafka::{Change, Kafka, KafkaError, Membership};
use fanal_service::stop::Stop;
use fanal_storage::log::{Family, Log, Partition};
use tokio::task::JoinHandle;

use crate::log::{Commits, EventLogs, concerns};
use crate::progress::Stage;
use crate::role::{Backoff, Etl, STARTING};
use crate::watch::LOOK;

/// A worker that does not end in this time is cut off: what it does after that is
/// refused by the fence of its commits.
const END_WITHIN: Duration = Duration::from_secs(15);
/// The group is given so long to hear that a member leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Topics that are missing for longer are no matter of a first start.
const TOPICS_WITHIN: Duration = Duration::from_secs(10);
const FAMILIES: [Family; 3] = [Family::Beacons, Family::Dead, Family::Overflow];

/// What a worker is given. Clones are the same worker's.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) etl: Etl,
    pub(crate) partition: Partition,
    pub(crate) commits: Commits,
    /// Ends the worker: the process stops, or the partition goes elsewhere.
    pub(crate) stop: Stop,
    /// The worker's part of readiness.
    pub(crate) health_part: String,
}

impl Assignment {
    pub(crate) fn ok(&self) {
        self.etl.health.ok(&self.health_part);
    }

    /// Says whether the worker's reader reaches the log.
    pub(crate) fn log_trouble(&self, error: Option<String>) {
        self.etl.progress.troubles.note(&self.health_part, error);
    }

    pub(crate) fn not_ready(&self, reason: impl Into<String>) {
        self.etl.health.not_ready(&self.health_part, reason);
    }
}

/// Runs `work` for each partition of `stage` that this process has, until `stop`.
pub(crate) async fn run<W, F>(etl: Etl, stage: Stage, stop: Stop, work: W)
where
    W: Fn(Assignment) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    match etl.log.clone() {
        EventLogs::Embedded(log) => work(embedded(&etl, &log, stage, stop)).await,
        EventLogs::Kafka(kafka) => {
            Group { etl, stage, kafka, workers: BTreeMap::new() }.run(&stop, &work).await
        }
    }
}

fn embedded(etl: &Etl, log: &Log, stage: Stage, stop: Stop) -> Assignment {
    if stage == Stage::Visits {
        etl.progress.leads.send_replace(true);
    }
    let partition = Partition::EMBEDDED;
    Assignment {
        partition,
        commits: Commits::Embedded(log.clone(), stage.name()),
        stop,
        health_part: etl.health_part(stage, partition),
        etl: etl.clone(),
    }
}

/// Why the group has no use of this member, if so.
fn trouble(membership: &Membership) -> Option<String> {
    let is_out = || (!membership.is_member()).then(|| "the group does not count this process".to_owned());
    membership.last_error().or_else(is_out)
}

struct Group {
    etl: Etl,
    stage: Stage,
    kafka: Kafka,
    workers: BTreeMap<Partition, (Stop, JoinHandle<()>)>,
}

impl Group {
    async fn run<W, F>(mut self, stop: &Stop, work: &W)
    where
        W: Fn(Assignment) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let families: Vec<Family> =
            FAMILIES.into_iter().filter(|family| concerns(self.stage, *family)).collect();
        let mut backoff = Backoff::new();
        let began = Instant::now();
        while !stop.is_stopped() {
            match self.kafka.join(self.stage.group(), &families).await {
                Ok(membership) => self.follow(Arc::new(membership), stop, work).await,
                Err(error) => self.not_joined(&error, began),
            }
            if backoff.wait(stop).await {
                break;
            }
        }
    }

    /// At the first start the topics are being made when the groups ask for them.
    fn not_joined(&self, error: &KafkaError, began: Instant) {
        let part = self.stage.name();
        match error {
            KafkaError::TopicMissing { .. } if began.elapsed() < TOPICS_WITHIN => {
                self.etl.health.starting(part, format!("it is starting: {error}"));
            }
            _ => self.etl.health.not_ready(part, error.to_string()),
        }
    }

    async fn follow<W, F>(&mut self, membership: Arc<Membership>, stop: &Stop, work: &W)
    where
        W: Fn(Assignment) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let group = format!("group {}", self.stage.name());
        loop {
            let change = tokio::select! {
                change = membership.next_change() => change,
                () = stop.stopped() => break,
                () = tokio::time::sleep(LOOK) => {
                    self.etl.progress.troubles.note(&group, trouble(&membership));
                    continue;
                }
            };
            match change {
                Some(Change::Assigned(partitions)) => {
                    for partition in partitions {
                        self.begin(partition, &membership, work);
                    }
                    self.etl.health.ok(self.stage.name());
                }
                Some(Change::Revoked { partitions, released }) => {
                    self.end(&partitions).await;
                    drop(released);
                }
                // Another process may work on them already.
                Some(Change::Lost(partitions)) => self.end(&partitions).await,
                None => break,
            }
        }
        self.etl.progress.troubles.note(&group, None);
        let all: Vec<Partition> = self.workers.keys().copied().collect();
        self.end(&all).await;
        // A process that ends without a word keeps its partitions idle until the group
        // misses it. Brokers that are away are not waited for.
        if membership.last_error().is_none() {
            let left = tokio::time::timeout(LEAVE_WITHIN, Membership::clone(&membership).leave()).await;
            if left.is_err() {
                tracing::warn!(stage = self.stage.name(), "group not left in time; it notices by itself");
            }
        }
    }

    fn begin<W, F>(&mut self, partition: Partition, membership: &Arc<Membership>, work: &W)
    where
        W: Fn(Assignment) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        if self.workers.contains_key(&partition) {
            return;
        }
        tracing::info!(stage = self.stage.name(), %partition, "partition taken");
        self.lead(partition, true);
        let stop = Stop::new();
        let assignment = Assignment {
            etl: self.etl.clone(),
            partition,
            commits: Commits::Group(Arc::clone(membership)),
            stop: stop.clone(),
            health_part: self.etl.health_part(self.stage, partition),
        };
        self.etl.health.starting(&assignment.health_part, STARTING);
        self.workers.insert(partition, (stop, tokio::spawn(work(assignment))));
    }

    /// Ends the workers of these partitions, all at once.
    async fn end(&mut self, partitions: &[Partition]) {
        let ending: Vec<_> =
            partitions.iter().filter_map(|p| self.workers.remove(p).map(|worker| (*p, worker))).collect();
        for (_, (stop, _)) in &ending {
            stop.stop();
        }
        let deadline = tokio::time::Instant::now() + END_WITHIN;
        for (partition, (_, mut worker)) in ending {
            if tokio::time::timeout_at(deadline, &mut worker).await.is_err() {
                tracing::warn!(stage = self.stage.name(), %partition, "worker cut off");
                worker.abort();
            }
            tracing::info!(stage = self.stage.name(), %partition, "partition released");
            self.lead(partition, false);
            let part = self.etl.health_part(self.stage, partition);
            self.etl.progress.troubles.note(&part, None);
            self.etl.health.forget(&part);
            self.etl.progress.forget(self.stage, partition);
        }
    }

    /// The process with the first partition rebuilds marked days.
    fn lead(&self, partition: Partition, leads: bool) {
        if self.stage == Stage::Visits && partition == Partition::EMBEDDED {
            self.etl.progress.leads.send_replace(leads);
        }
    }
}
