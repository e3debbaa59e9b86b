//! Membership in a consumer group: who works on which partitions. Records are read by
//! readers of their own; the group only hands out partitions and stores offsets.
//!
//! A member never stores an offset of a partition that it has lost, also when it was
//! away so long that it does not know yet. What must stay true: a partition that moves
//! is let go by one member before another one gets it, unless the first one is dead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanal_storage::log::{Family, Partition};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, TopicPartitionList};
use serde::Deserialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::client::{self, Elsewhere, LastError, millis};
use crate::error::{CommitError, KafkaError};
use crate::handle::Inner as Shared;
use crate::metrics;
use crate::offsets::{Stage, list};
use crate::topics::Topics;

/// How soon the thread that serves the group sees that it shall end.
const POLL: Duration = Duration::from_millis(100);
/// The brokers give a member this much more than `release_timeout` to come back from
/// letting go.
const REJOIN_TIME: Duration = Duration::from_secs(30);
/// Between two tries of a commit that could not be answered.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

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
enum Queued {
    Assigned(Vec<(Partition, u64)>),
    Other(Change),
}

/// A member of a group. Clones share the membership; it ends with the last one.
#[derive(Clone)]
pub struct Membership {
    inner: Arc<Inner>,
}

type Member = Arc<Elsewhere<BaseConsumer<Context>>>;

struct Inner {
    state: Arc<State>,
    consumer: Member,
    topics: Topics,
    commit_timeout: Duration,
    changes: tokio::sync::Mutex<UnboundedReceiver<Queued>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread that serves the group and the member's owner both know.
struct State {
    stop: AtomicBool,
    joined: AtomicBool,
    errors: LastError,
    terms: Mutex<Terms>,
}

/// A partition that comes back after it was lost is another term: work of the earlier
/// one must not commit in the name of the later one.
#[derive(Default)]
struct Terms {
    last: u64,
    /// What the group has given to this member.
    held: HashMap<Partition, u64>,
    /// What the owner of the membership has taken note of.
    granted: HashMap<Partition, u64>,
}

impl Terms {
    /// The running term of a partition, if its owner knows of it.
    fn running(&self, partition: Partition) -> Option<u64> {
        let term = self.granted.get(&partition)?;
        (self.held.get(&partition) == Some(term)).then_some(*term)
    }
}

/// Hears of rebalances, on the thread that serves the group.
struct Context {
    stage: Stage,
    topics: Topics,
    release_timeout: Duration,
    state: Arc<State>,
    changes: UnboundedSender<Queued>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.state.errors.set(&format_args!("{error}: {reason}"));
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
    fn terms(&self) -> std::sync::MutexGuard<'_, Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, partitions: &[Partition]) {
        let mut terms = self.terms();
        for partition in partitions {
            terms.held.remove(partition);
        }
    }
}

impl Membership {
    pub(crate) fn join(shared: &Shared, stage: Stage, families: &[Family]) -> Result<Self, KafkaError> {
        let config = &shared.config;
        let state = Arc::new(State {
            stop: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            errors: LastError::default(),
            terms: Mutex::default(),
        });
        let (sender, changes) = unbounded_channel();
        let context = Context {
            stage,
            topics: shared.topics.clone(),
            release_timeout: config.release_timeout.0,
            state: Arc::clone(&state),
            changes: sender,
        };
        let session = config.session_timeout.0;
        let poll_max = (config.release_timeout.0 + REJOIN_TIME).max(session);
        let mut client = shared.base.clone();
        client
            .set("group.id", stage.group(config))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(session))
            .set("heartbeat.interval.ms", millis((session / 4).min(Duration::from_secs(3))))
            .set("max.poll.interval.ms", millis(poll_max))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest")
            .set("statistics.interval.ms", "2000")
            // Nothing is read here; what arrives before a pause takes hold is small.
            .set("fetch.message.max.bytes", "1024")
            .set("queued.max.messages.kbytes", "64");
        let made = |e: ClientError| KafkaError::Client(e.to_string());
        let consumer: Member = Arc::new(Elsewhere::new(client.create_with_context(context).map_err(made)?));
        let names: Vec<_> = families.iter().map(|family| shared.topics.name(*family)).collect();
        consumer.subscribe(&names).map_err(made)?;
        let thread = serve(Arc::clone(&consumer), Arc::clone(&state), stage)
            .map_err(|e| KafkaError::Client(e.to_string()))?;
        let inner = Inner {
            state,
            consumer,
            topics: shared.topics.clone(),
            commit_timeout: config.request_timeout.0,
            changes: tokio::sync::Mutex::new(changes),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits for the next change; `None` when the membership has ended. Changes come
    /// in order: work on partitions must have ended before the next one is asked for.
    pub async fn next_change(&self) -> Option<Change> {
        match self.inner.changes.lock().await.recv().await? {
            Queued::Assigned(partitions) => {
                let mut terms = self.inner.state.terms();
                terms.granted.extend(partitions.iter().copied());
                Some(Change::Assigned(partitions.into_iter().map(|(partition, _)| partition).collect()))
            }
            Queued::Other(change) => Some(change),
        }
    }

    /// Stores how far `partition` is done. After `Fenced` nothing of the partition may
    /// be published any more.
    pub async fn commit(&self, partition: Partition, offset: u64) -> Result<(), CommitError> {
        let Some(term) = self.inner.state.terms().running(partition) else {
            return Err(CommitError::Fenced(partition));
        };
        let until = Instant::now() + self.inner.commit_timeout;
        loop {
            let result = self.commit_once(partition, offset, until).await;
            // Lost meanwhile: the answer may be one to the new term.
            if self.inner.state.terms().running(partition) != Some(term) {
                return Err(CommitError::Fenced(partition));
            }
            match result {
                Ok(()) => return Ok(()),
                Err(Some(code)) if is_fence(code) => return Err(CommitError::Fenced(partition)),
                Err(code) if Instant::now() >= until => {
                    let detail = code.map_or_else(|| "no answer in time".to_owned(), |code| code.to_string());
                    return Err(CommitError::Unavailable { partition, detail });
                }
                Err(_) => tokio::time::sleep(COMMIT_PAUSE).await,
            }
        }
    }

    async fn commit_once(
        &self,
        partition: Partition,
        offset: u64,
        until: Instant,
    ) -> Result<(), Option<Code>> {
        let consumer = Arc::clone(&self.inner.consumer);
        let list = list(&self.inner.topics, partition, offset);
        let commit = tokio::task::spawn_blocking(move || {
            let result = consumer.commit(&list, CommitMode::Sync);
            let of_partition = list.elements().first().map_or(Ok(()), |element| element.error());
            result.and(of_partition)
        });
        match tokio::time::timeout_at(until.into(), commit).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.rdkafka_error_code()),
            Ok(Err(_)) | Err(_) => Err(None),
        }
    }

    /// Whether the group counts this member, as far as it knows: it hears of its
    /// removal with the next heartbeat.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.inner.state.joined.load(Ordering::Acquire)
    }

    /// The partitions that the member holds.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        let mut partitions: Vec<_> = self.inner.state.terms().held.keys().copied().collect();
        partitions.sort();
        partitions
    }

    /// Why the group cannot be reached, if so.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.inner.state.errors.get()
    }

    /// Leaves the group and waits until others can have the partitions. Work on them
    /// must have ended.
    pub async fn leave(self) {
        let thread = self.inner.stop();
        drop(self);
        if let Some(thread) = thread {
            tokio::task::spawn_blocking(move || thread.join().ok()).await.ok();
        }
    }
}

impl Inner {
    fn stop(&self) -> Option<JoinHandle<()>> {
        self.state.stop.store(true, Ordering::Release);
        self.state.terms().held.clear();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Errors that say that somebody else may have the partition.
fn is_fence(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownMemberId | Code::IllegalGeneration | Code::FencedInstanceId | Code::StaleMemberEpoch
    )
}

/// Serves rebalances until the membership ends, then leaves the group.
fn serve(consumer: Member, state: Arc<State>, stage: Stage) -> std::io::Result<JoinHandle<()>> {
    let work = move || {
        while !state.stop.load(Ordering::Acquire) {
            match consumer.poll(POLL) {
                Some(Err(error)) => state.errors.set(&error),
                // Records that came before the pause: they are read elsewhere.
                Some(Ok(_)) | None => {}
            }
        }
        leave(&consumer);
    };
    std::thread::Builder::new().name(format!("kafka-{}", stage.name())).spawn(work)
}

/// Gives the partitions back at once; the client itself goes with its last user.
fn leave(consumer: &BaseConsumer<Context>) {
    if let Err(error) = consumer.close_queue() {
        tracing::warn!(%error, "kafka group could not be left; it notices after the session timeout");
        return;
    }
    let until = Instant::now() + REJOIN_TIME;
    while !consumer.closed() && Instant::now() < until {
        consumer.poll(POLL);
    }
}

fn names(partitions: &[Partition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}
