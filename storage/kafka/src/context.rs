//! The group's callbacks: which partitions come and go, on the thread that serves the
//! group, and in which term the member holds each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanal_storage::log::Partition;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{ClientContext, TopicPartitionList};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::client::{self, LastError};
use crate::metrics;
use crate::offsets::Stage;
use crate::topics::Topics;

/// What changed about the partitions of a member.
#[derive(Debug)]
pub enum Change {
    /// These are the member's from now on.
    Assigned(Vec<Partition>),
    /// These move to another member as soon as `released` is dropped, or after
    /// `release_timeout`. Until then offsets of them can be committed.
    Revoked { partitions: Vec<Partition>, released: Released },
    /// These have another owner already, or will: nothing of them may be published.
    Lost(Vec<Partition>),
}

/// Dropped when work on revoked partitions has ended.
#[derive(Debug)]
pub struct Released {
    _sender: SyncSender<()>,
}

/// A change as it waits to be taken.
pub(crate) enum Queued {
    Assigned(Vec<(Partition, u64)>),
    Other(Change),
}

/// What the thread that serves the group and the member's owner both know.
pub(crate) struct State {
    pub(crate) stop: AtomicBool,
    pub(crate) joined: AtomicBool,
    pub(crate) errors: LastError,
    pub(crate) terms: Mutex<Terms>,
}

/// A partition that comes back after it was lost is another term: work of the earlier
/// one must not commit in the name of the later one.
#[derive(Default)]
pub(crate) struct Terms {
    last: u64,
    /// What the group has given to this member.
    pub(crate) held: HashMap<Partition, u64>,
    /// What the owner of the membership has taken note of.
    pub(crate) granted: HashMap<Partition, u64>,
}

impl Terms {
    /// The running term of a partition, if its owner knows of it.
    pub(crate) fn running(&self, partition: Partition) -> Option<u64> {
        let term = self.granted.get(&partition)?;
        (self.held.get(&partition) == Some(term)).then_some(*term)
    }
}

/// Hears of rebalances, on the thread that serves the group.
pub(crate) struct Context {
    pub(crate) stage: Stage,
    pub(crate) topics: Topics,
    pub(crate) release_timeout: Duration,
    pub(crate) state: Arc<State>,
    pub(crate) changes: UnboundedSender<Queued>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.state.errors.report(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let group = serde_json::from_slice::<Statistics>(statistics);
        if group.is_ok_and(|statistics| statistics.cgrp.state == "up") {
            self.state.errors.clear();
        }
    }
}

/// What is read of the client's statistics.
#[derive(Deserialize)]
struct Statistics {
    cgrp: GroupStatistics,
}

#[derive(Deserialize)]
struct GroupStatistics {
    state: String,
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => {
                let partitions = self.partitions(list);
                if consumer.assignment_lost() {
                    self.lost(partitions);
                } else if !partitions.is_empty() {
                    self.revoked(partitions);
                }
            }
            Rebalance::Error(error) => self.state.errors.set(error),
            Rebalance::Assign(_) => {}
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // Records are read elsewhere, each from the offset that its stage knows.
            if let Err(error) = consumer.pause(list) {
                tracing::warn!(%error, "kafka partitions could not be paused");
            }
            self.assigned(self.partitions(list));
        }
    }
}

impl Context {
    fn assigned(&self, partitions: Vec<Partition>) {
        self.state.joined.store(true, Ordering::Release);
        self.state.errors.clear();
        if partitions.is_empty() {
            return;
        }
        metrics::group_change(self.stage.name(), "assigned");
        tracing::info!(stage = self.stage.name(), partitions = ?names(&partitions), "kafka partitions assigned");
        let mut terms = self.state.terms();
        terms.last += 1;
        let term = terms.last;
        terms.held.extend(partitions.iter().map(|partition| (*partition, term)));
        drop(terms);
        self.tell(Queued::Assigned(partitions.into_iter().map(|partition| (partition, term)).collect()));
    }

    /// Waits until the work on the partitions has ended.
    fn revoked(&self, partitions: Vec<Partition>) {
        metrics::group_change(self.stage.name(), "revoked");
        tracing::info!(stage = self.stage.name(), partitions = ?names(&partitions), "kafka partitions revoked");
        if self.state.stop.load(Ordering::Acquire) {
            // The owner leaves and has ended all work.
            return self.state.forget(&partitions);
        }
        let (sender, released) = sync_channel(0);
        let change =
            Change::Revoked { partitions: partitions.clone(), released: Released { _sender: sender } };
        self.tell(Queued::Other(change));
        if released.recv_timeout(self.release_timeout) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(stage = self.stage.name(), "kafka partitions move before their work has ended");
        }
        self.state.forget(&partitions);
    }

    fn lost(&self, partitions: Vec<Partition>) {
        self.state.joined.store(false, Ordering::Release);
        self.state.forget(&partitions);
        if partitions.is_empty() {
            return;
        }
        metrics::group_change(self.stage.name(), "lost");
        tracing::warn!(stage = self.stage.name(), partitions = ?names(&partitions), "kafka partitions lost");
        self.tell(Queued::Other(Change::Lost(partitions)));
    }

    fn tell(&self, change: Queued) {
        // Who no longer listens has ended all work; the change is dropped with its token.
        self.changes.send(change).ok();
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        list.elements().iter().filter_map(|e| self.topics.partition(e.topic(), e.partition())).collect()
    }
}

impl State {
    pub(crate) fn terms(&self) -> MutexGuard<'_, Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, partitions: &[Partition]) {
        let mut terms = self.terms();
        for partition in partitions {
            terms.held.remove(partition);
        }
    }
}

fn names(partitions: &[Partition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}
