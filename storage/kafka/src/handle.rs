//! The one thing that a process opens: producers, readers, groups and questions all
//! come from here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use fanal_storage::log::{AppendError, Family, Partition, ReadError};
use rdkafka::admin::AdminClient;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::client::{self, Ask, Elsewhere, LastError, Plain};
use crate::config::KafkaConfig;
use crate::error::KafkaError;
use crate::group::Membership;
use crate::import::ImportLog;
use crate::note::{self, Notes};
use crate::offsets::{Offsets, Stage};
use crate::producer::KafkaLog;
use crate::reader::KafkaReader;
use crate::topics::{self, Difference, Topics};

/// How often clients that only answer questions serve their own events.
const SERVE_INTERVAL: Duration = Duration::from_millis(500);

/// Kafka. Clones share it.
#[derive(Clone)]
pub struct Kafka {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: KafkaConfig,
    pub(crate) base: ClientConfig,
    pub(crate) topics: Topics,
    pub(crate) offsets: Offsets,
    pub(crate) notes: Notes,
    admin: Elsewhere<AdminClient<Plain>>,
    ask: Ask,
    log: KafkaLog,
}

impl Kafka {
    /// Opens Kafka and prepares its topics.
    pub async fn connect(config: KafkaConfig) -> Result<Self, KafkaError> {
        let kafka = Self::open(config)?;
        kafka.prepare().await?;
        Ok(kafka)
    }

    /// Makes the clients without asking the brokers anything: a collector can start
    /// while they are away.
    pub fn open(config: KafkaConfig) -> Result<Self, KafkaError> {
        let base = client::base(&config)?;
        let topics = Topics::new(&config);
        let made = |e: rdkafka::error::KafkaError| KafkaError::Client(e.to_string());
        let errors = LastError::default();
        let context = || Plain { errors: errors.clone() };
        let admin = Elsewhere::new(base.create_with_context(context()).map_err(made)?);
        let mut asking = base.clone();
        // The end of a partition is its last record, not the last finished transaction.
        asking.set("isolation.level", "read_uncommitted");
        let ask = Arc::new(Elsewhere::new(asking.create_with_context(context()).map_err(made)?));
        let log = KafkaLog::open(&config, &topics)?;
        let offsets = Offsets::new(&base, &config, Arc::clone(&ask));
        let notes = Notes::default();
        let inner = Arc::new(Inner { config, base, topics, offsets, notes, admin, ask, log });
        serve(Arc::downgrade(&inner)).map_err(|e| KafkaError::Client(e.to_string()))?;
        Ok(Self { inner })
    }

    /// Makes the topics that are missing and refuses those with another number of
    /// partitions.
    pub async fn prepare(&self) -> Result<(), KafkaError> {
        let config = &self.inner.config;
        let timeout = config.request_timeout.0;
        let wanted = topics::wanted(&self.inner.topics, config);
        let missing = self.ask(move |ask, wanted| {
            let missing = topics::missing(ask, wanted, timeout)?;
            Ok(missing.iter().map(|topic| topic.name.to_owned()).collect::<Vec<_>>())
        });
        let missing = missing.await?;
        let missing: Vec<_> = wanted.iter().filter(|topic| missing.iter().any(|m| m == topic.name)).collect();
        topics::create(&self.inner.admin, &missing, config).await?;
        self.ask(move |ask, wanted| topics::wait(ask, wanted, timeout)).await
    }

    /// Refuses topics that are missing or have another number of partitions.
    async fn check_topics(&self) -> Result<(), KafkaError> {
        let timeout = self.inner.config.request_timeout.0;
        let missing = self.ask(move |ask, wanted| {
            let missing = topics::missing(ask, wanted, timeout)?;
            Ok(missing.first().map(|topic| topic.name.to_owned()))
        });
        match missing.await? {
            None => Ok(()),
            Some(topic) => Err(KafkaError::TopicMissing { topic }),
        }
    }

    /// What is not as configured: for people, since only they may change a topic.
    pub async fn topics_differ(&self) -> Result<Vec<Difference>, KafkaError> {
        let config = self.inner.config.clone();
        let mut differences =
            self.ask(move |ask, wanted| topics::differing_shapes(ask, wanted, &config)).await?;
        let wanted = topics::wanted(&self.inner.topics, &self.inner.config);
        let settings =
            topics::differing_settings(&self.inner.admin, &wanted, &differences, &self.inner.config).await?;
        differences.extend(settings);
        Ok(differences)
    }

    /// How many brokers the cluster has now.
    pub async fn broker_count(&self) -> Result<usize, KafkaError> {
        let timeout = self.inner.config.request_timeout.0;
        self.ask(move |ask, _| topics::brokers(ask, timeout)).await
    }

    /// Where beacons and dead letters go. Clones share one producer; see `EventLog::local`.
    #[must_use]
    pub fn log(&self) -> KafkaLog {
        self.inner.log.clone()
    }

    #[must_use]
    pub fn config(&self) -> &KafkaConfig {
        &self.inner.config
    }

    /// All partitions that hold records: of beacons, dead letters and overflow.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        self.partitions_of(&[Family::Beacons, Family::Dead, Family::Overflow])
    }

    #[must_use]
    pub fn partitions_of(&self, families: &[Family]) -> Vec<Partition> {
        families.iter().flat_map(|family| self.inner.topics.partitions(*family)).collect()
    }

    /// Name of the topic that holds a family.
    #[must_use]
    pub fn topic(&self, family: Family) -> &str {
        self.inner.topics.name(family)
    }

    /// A reader whose first record has `from_offset` or the next one that exists.
    pub async fn reader(&self, partition: Partition, from_offset: u64) -> Result<KafkaReader, ReadError> {
        KafkaReader::open(Arc::clone(&self.inner), partition, from_offset).await
    }

    /// Offset of the oldest record that is still there.
    pub async fn start_offset(&self, partition: Partition) -> Result<u64, KafkaError> {
        Ok(self.inner.offset_range(partition).await?.0)
    }

    /// Offset that the next record gets; records of open transactions lie before it.
    pub async fn end_offset(&self, partition: Partition) -> Result<u64, KafkaError> {
        Ok(self.inner.offset_range(partition).await?.1)
    }

    /// Appends the border between two files of the raw archive; returns the offset
    /// after it.
    pub async fn seal(&self, partition: Partition) -> Result<u64, AppendError> {
        self.inner.log.seal(partition).await
    }

    /// Tells the own partitions of these keys that lines of them, received at these
    /// times, stand elsewhere. May be repeated.
    pub async fn note_elsewhere(&self, notes: &[(Vec<u8>, u64)]) -> Result<(), KafkaError> {
        note::write(&self.inner, notes).await
    }

    /// Joins the group of `stage` for the topics of `families`.
    pub async fn join(&self, stage: Stage, families: &[Family]) -> Result<Membership, KafkaError> {
        self.check_topics().await?;
        Membership::join(&self.inner, stage, families)
    }

    /// What each partition's committed offset of `stage` is; from any process.
    pub async fn committed(
        &self,
        stage: Stage,
        partitions: &[Partition],
    ) -> Result<Vec<Option<u64>>, KafkaError> {
        self.inner.offsets.committed(&self.inner.topics, stage, partitions).await
    }

    /// Stores an offset of a stage whose group has no members. Refused while it has.
    pub async fn commit_marker(
        &self,
        stage: Stage,
        partition: Partition,
        offset: u64,
    ) -> Result<(), KafkaError> {
        self.inner.offsets.commit_marker(&self.inner.topics, stage, partition, offset).await
    }

    /// Records of each partition that `stage` has not finished; exported as a metric too.
    pub async fn lag(
        &self,
        stage: Stage,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, u64)>, KafkaError> {
        let committed = self.committed(stage, partitions).await?;
        let mut lags = Vec::with_capacity(partitions.len());
        for (partition, committed) in partitions.iter().zip(committed) {
            let (start, end) = self.inner.offset_range(*partition).await?;
            let lag = end.saturating_sub(committed.unwrap_or(start).max(start));
            crate::metrics::lag(stage.name(), *partition, lag);
            lags.push((*partition, lag));
        }
        Ok(lags)
    }

    /// A transactional producer for one imported file. A producer that was made for
    /// the same `head` before, anywhere, can append no more.
    pub async fn import_log(&self, head: &[u8; 32]) -> Result<ImportLog, KafkaError> {
        ImportLog::open(Arc::clone(&self.inner), head).await
    }

    /// The positions of imported files with this head that are in force.
    pub async fn import_positions(&self, head: &[u8; 32]) -> Result<Vec<Vec<u8>>, ReadError> {
        crate::import::positions(&self.inner, head).await
    }

    /// Why the last question to the brokers failed; `None` since one was answered.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.inner.ask.context().errors.get()
    }

    /// Runs a question that blocks beside the runtime.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Plain>, &[topics::Wanted<'_>]) -> Result<T, KafkaError>
        + Send
        + 'static,
    ) -> Result<T, KafkaError> {
        let (inner, ask) = (Arc::clone(&self.inner), Arc::clone(&self.inner.ask));
        blocking(move || question(&ask, &topics::wanted(&inner.topics, &inner.config))).await
    }
}

impl Inner {
    /// First offset and end of a partition.
    pub(crate) async fn offset_range(&self, partition: Partition) -> Result<(u64, u64), KafkaError> {
        let (topic, index) = self.topics.place(partition);
        self.offsets.range(topic.to_owned(), index).await
    }
}

/// Runs `work` where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(KafkaError::Client(e.to_string())))
}

/// Serves errors and logs of the clients that nobody polls, until Kafka is dropped.
fn serve(inner: Weak<Inner>) -> std::io::Result<()> {
    let work = move || {
        while let Some(inner) = inner.upgrade() {
            while inner.ask.poll(Duration::ZERO).is_some() {}
            inner.offsets.serve();
            drop(inner);
            std::thread::sleep(SERVE_INTERVAL);
        }
    };
    std::thread::Builder::new().name("kafka-serve".to_owned()).spawn(work).map(|_| ())
}
