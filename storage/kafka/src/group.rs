//! Membership in a consumer group: who works on which partitions. Records are read by
//! readers of their own; the group only hands out partitions and stores offsets.
//!
//! A member never stores an offset of a partition that it has lost, also when it was
//! away so long that it does not know yet. What must stay true: a partition that moves
//! is let go by one member before another one gets it, unless the first one is dead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanal_storage::log::{Family, Partition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::client::{Elsewhere, LastError, millis};
use crate::context::{Change, Context, Queued, State};
use crate::error::{CommitError, KafkaError};
use crate::handle::Inner as Shared;
use crate::offsets::{Stage, list};
use crate::topics::Topics;

/// How soon the thread that serves the group sees that it shall end.
const POLL: Duration = Duration::from_millis(100);
/// The brokers give a member this much more than `release_timeout` to come back from
/// letting go.
const REJOIN_TIME: Duration = Duration::from_secs(30);
/// Between two tries of a commit that could not be answered.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

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
            // Records that came before the pause are read elsewhere.
            if let Some(Err(error)) = consumer.poll(POLL) {
                state.errors.report(&error, "waiting for the group");
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
