//! The producer: a batch becomes records, and one answer when Kafka confirmed them all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fanal_storage::log::{AppendError, Appended, Batch, EventLog, Family, Partition, Topic};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use tokio::sync::oneshot;

use crate::client::{Ask, Elsewhere, LastError, millis};
use crate::config::KafkaConfig;
use crate::error::KafkaError;
use crate::hot::{Heat, HotKeys};
use crate::metrics;
use crate::pending::{Deliveries, Outcome, Pending, RawProducer, Room};
use crate::record::{KIND_HEADER, Outgoing, SEAL_KIND, outgoing};
use crate::topics::{Topics, message_bytes_max};

/// The settings of every producer.
pub(crate) fn settings(base: &ClientConfig, config: &KafkaConfig, timeout: Duration) -> ClientConfig {
    let mut client = base.clone();
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // As Java's default partitioner does it, so that other clients agree.
        .set("partitioner", "murmur2_random")
        .set("compression.type", config.compression.name())
        .set("linger.ms", millis(config.linger.0))
        .set("message.timeout.ms", millis(timeout))
        .set("request.timeout.ms", millis(timeout))
        .set("retry.backoff.ms", "50")
        .set("message.max.bytes", message_bytes_max(config).to_string())
        // The bounds are kept before a record gets here; these must not be hit first.
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", (config.queue_bytes_max.0 / 1024 * 2 + 4096).to_string());
    client
}

/// The event log on Kafka, to append to. Clones share one producer.
#[derive(Clone)]
pub struct KafkaLog {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ClientConfig,
    config: KafkaConfig,
    topics: Topics,
    /// Replaced after an error that ends a producer.
    producer: RwLock<Arc<RawProducer>>,
    room: Arc<Room>,
    hot: Mutex<HotKeys>,
    /// Where the next batch's hot records go.
    overflow: AtomicUsize,
    errors: LastError,
    ask: Ask,
}

impl KafkaLog {
    pub(crate) fn open(
        base: &ClientConfig,
        config: &KafkaConfig,
        topics: &Topics,
        ask: Ask,
    ) -> Result<Self, KafkaError> {
        let settings = settings(base, config, config.confirm_timeout.0);
        let errors = LastError::default();
        let producer = RwLock::new(Arc::new(make(&settings, topics, &errors)?));
        let hot = Mutex::new(HotKeys::new(config.hot_key_records_per_second, Instant::now()));
        let (config, topics) = (config.clone(), topics.clone());
        let (room, overflow) = (Arc::default(), AtomicUsize::new(0));
        let inner = Inner { settings, config, topics, producer, room, hot, overflow, errors, ask };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Why Kafka took nothing lately; `None` when the last batch was confirmed.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.inner.errors.get()
    }

    /// Records and bytes that wait for confirmation.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let room = &self.inner.room;
        (room.records.load(Ordering::Acquire), room.bytes.load(Ordering::Acquire))
    }

    /// Returns after Kafka has confirmed every record of the batch.
    pub async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        match self.inner.send_batch(&batch)? {
            Some(answer) => {
                drop(batch);
                self.inner.confirmed(answer).await
            }
            None => self.inner.probe().await,
        }
    }

    pub(crate) async fn seal(&self, partition: Partition) -> Result<u64, AppendError> {
        let headers = OwnedHeaders::new().insert(Header { key: KIND_HEADER, value: Some(SEAL_KIND) });
        let (topic, index) = self.inner.topics.place(partition);
        let (pending, answer) = self.inner.pending(1, 0)?;
        let producer = self.inner.producer();
        let record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Arc::clone(&pending))
            .partition(index)
            .headers(headers);
        if let Err((error, _)) = producer.send(record) {
            self.inner.unsent(&pending, 1, &error, &producer);
        }
        self.inner.sent(&pending);
        Ok(self.inner.confirmed(answer).await?.base_offset + 1)
    }
}

impl EventLog for KafkaLog {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        Self::append(self, batch).await
    }
}

impl Inner {
    /// Hands all records to the producer; `None` if there are none.
    fn send_batch(&self, batch: &Batch) -> Result<Option<oneshot::Receiver<Outcome>>, AppendError> {
        let mut records = outgoing(batch)?;
        if batch.records().any(|(topic, key, _)| topic == Topic::Positions && !key.is_empty()) {
            return Err(AppendError::Io("positions of imports need a transaction".to_owned()));
        }
        if records.is_empty() {
            return Ok(None);
        }
        let bytes = check_sizes(&records, &self.config)?;
        self.spread_hot(&mut records);
        let overflow = self.overflow_partition();
        let (pending, answer) = self.pending(records.len(), bytes)?;
        let producer = self.producer();
        for (at, record) in records.iter().enumerate() {
            let sent = producer.send(record.to_kafka(&self.topics, overflow, Arc::clone(&pending)));
            if let Err((error, _)) = sent {
                self.unsent(&pending, records.len() - at, &error, &producer);
                break;
            }
        }
        self.sent(&pending);
        Ok(Some(answer))
    }

    /// Records of keys that send too much leave their partition.
    fn spread_hot(&self, records: &mut Vec<Outgoing<'_>>) {
        let now = Instant::now();
        let mut keys = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spread = 0;
        let mut notes = Vec::new();
        for record in records.iter_mut().filter(|record| record.family == Family::Beacons) {
            let heat = keys.judge(&record.key, now);
            if heat == Heat::Cool {
                continue;
            }
            if heat == Heat::HotAndMarked {
                notes.push(Outgoing::overflow_note(record));
            }
            record.family = Family::Overflow;
            spread += 1;
        }
        metrics::hot_keys(keys.len());
        drop(keys);
        records.extend(notes);
        if spread > 0 {
            metrics::overflow(spread);
        }
    }

    fn overflow_partition(&self) -> i32 {
        let count = self.topics.count(Family::Overflow).max(1) as usize;
        i32::try_from(self.overflow.fetch_add(1, Ordering::Relaxed) % count).unwrap_or(0)
    }

    /// Takes room for records; the sender itself counts as one of them until `sent`.
    fn pending(
        &self,
        records: usize,
        bytes: usize,
    ) -> Result<(Arc<Pending>, oneshot::Receiver<Outcome>), AppendError> {
        let bytes_max = usize::try_from(self.config.queue_bytes_max.0).unwrap_or(usize::MAX);
        if !self.room.take(records, bytes, bytes_max) {
            return Err(AppendError::Overloaded);
        }
        let (done, answer) = oneshot::channel();
        Ok((Pending::new(records, bytes, Arc::clone(&self.room), done), answer))
    }

    /// Takes back what the producer did not accept.
    fn unsent(&self, pending: &Pending, records: usize, error: &ClientError, producer: &Arc<RawProducer>) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        self.errors.set(error);
        pending.unsent(records, code);
        if code == Code::Fatal {
            self.renew(producer);
        }
    }

    fn sent(&self, pending: &Pending) {
        pending.one_done(1);
    }

    async fn confirmed(&self, answer: oneshot::Receiver<Outcome>) -> Result<Appended, AppendError> {
        let timeout = self.config.confirm_timeout;
        let Ok(outcome) = tokio::time::timeout(timeout.0, answer).await else {
            let detail = self.errors.get().unwrap_or_else(|| format!("no answer within {timeout}"));
            return Err(AppendError::InDoubt(detail));
        };
        let outcome = outcome.map_err(|_| AppendError::InDoubt("the producer was closed".to_owned()))?;
        let Some(code) = outcome.error else {
            let (partition, base_offset) = outcome.first.unwrap_or((Partition::EMBEDDED, 0));
            return Ok(Appended { partition, base_offset });
        };
        let producer = self.producer();
        if producer.client().fatal_error().is_some() {
            self.renew(&producer);
        }
        let detail = self.errors.get().map_or_else(|| code.to_string(), |last| format!("{code} ({last})"));
        self.errors.set(&detail);
        match outcome.confirmed == 0 && outcome.refused {
            true if code == Code::MessageSizeTooLarge => {
                Err(AppendError::Io("a record is larger than the topic's max.message.bytes".to_owned()))
            }
            true => Err(AppendError::Unavailable(detail)),
            false => Err(AppendError::InDoubt(detail)),
        }
    }

    /// Whether appends have a chance: every partition of beacons has a leader.
    async fn probe(&self) -> Result<Appended, AppendError> {
        let (ask, topic) = (Arc::clone(&self.ask), self.topics.name(Family::Beacons).to_owned());
        let (timeout, count) = (self.config.confirm_timeout.0, self.topics.count(Family::Beacons));
        let look = move || -> Result<bool, ClientError> {
            let metadata = ask.fetch_metadata(Some(&topic), timeout)?;
            let led = metadata.topics().iter().flat_map(|t| t.partitions()).filter(|p| p.leader() >= 0);
            Ok(led.count() == count as usize)
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let unavailable = |detail: String| Err(AppendError::Unavailable(detail));
        match looked {
            Ok(Ok(true)) => {
                self.errors.clear();
                Ok(Appended { partition: Partition::EMBEDDED, base_offset: 0 })
            }
            Ok(Ok(false)) => unavailable("a partition of beacons has no leader".to_owned()),
            Ok(Err(error)) => unavailable(self.errors.get().unwrap_or_else(|| error.to_string())),
            Err(error) => unavailable(error.to_string()),
        }
    }

    fn producer(&self) -> Arc<RawProducer> {
        Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new producer in the place of `broken`, unless somebody has done so. What
    /// waits in the old one is answered as not confirmed.
    fn renew(&self, broken: &Arc<RawProducer>) {
        let mut producer = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&producer, broken) {
            return;
        }
        match make(&self.settings, &self.topics, &self.errors) {
            Ok(new) => {
                tracing::warn!(error = ?broken.client().fatal_error(), "kafka producer was replaced");
                metrics::renewed();
                *producer = Arc::new(new);
            }
            Err(error) => tracing::error!(%error, "kafka producer cannot be replaced"),
        }
    }
}

impl Outgoing<'_> {
    /// As the producer takes it. Keys say the partition, but for those of hot keys.
    pub(crate) fn to_kafka<'r>(
        &'r self,
        topics: &'r Topics,
        overflow: i32,
        pending: Arc<Pending>,
    ) -> BaseRecord<'r, [u8], [u8], Arc<Pending>> {
        let record = BaseRecord::with_opaque_to(topics.name(self.family), pending)
            .key(&*self.key)
            .payload(&*self.value);
        let record = match self.kind {
            None => record,
            Some(kind) => {
                let header = Header { key: KIND_HEADER, value: Some(kind) };
                record.headers(OwnedHeaders::new().insert(header))
            }
        };
        if self.family == Family::Overflow { record.partition(overflow) } else { record }
    }
}

/// Bytes of all records, none of which is too large.
pub(crate) fn check_sizes(records: &[Outgoing<'_>], config: &KafkaConfig) -> Result<usize, AppendError> {
    let most = |size: fanal_model::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let (record_max, batch_max) = (most(config.record_bytes_max), most(config.batch_bytes_max));
    if let Some(bytes) = records.iter().map(Outgoing::len).find(|bytes| *bytes > record_max) {
        return Err(AppendError::TooLarge { bytes, max: record_max });
    }
    let bytes = records.iter().map(Outgoing::len).sum();
    if bytes > batch_max { Err(AppendError::TooLarge { bytes, max: batch_max }) } else { Ok(bytes) }
}

pub(crate) fn make(
    settings: &ClientConfig,
    topics: &Topics,
    errors: &LastError,
) -> Result<RawProducer, KafkaError> {
    let deliveries = Deliveries { errors: errors.clone(), topics: topics.clone() };
    let producer = settings.create_with_context(deliveries);
    producer.map(Elsewhere::new).map_err(|e| KafkaError::Client(e.to_string()))
}
