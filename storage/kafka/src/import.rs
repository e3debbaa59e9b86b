//! Imports, exactly once: records and the import's position become visible in one
//! transaction or not at all.
//!
//! A topic of its own holds the positions, compacted. Its keys are the head of the
//! imported file and the prefix that the position stands for; a position that goes on
//! from another one deletes it in the same transaction. So compaction keeps exactly
//! the positions that are in force.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanal_storage::log::{Batch, ReadError, Topic};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use crate::client::{Elsewhere, LastError, Plain};
use crate::error::{ImportAppendError, KafkaError};
use crate::handle::{Inner as Shared, blocking};
use crate::load::check_bytes;
use crate::metrics;
use crate::reader::unreadable;
use crate::record::{Outgoing, outgoing};
use crate::transaction::{RawProducer, Timeouts, make};

/// The brokers give up a transaction that is open for longer; until then readers wait
/// at its first record.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(20);
/// How often brokers look for such transactions, if nobody has configured it.
const ABORT_INTERVAL: Duration = Duration::from_secs(10);
/// One look at whether transactions are decided, and the pause before the next one.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLED_PAUSE: Duration = Duration::from_millis(200);
/// Delivery of one transaction's records.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);

/// What links positions of one file to each other.
#[derive(Deserialize)]
struct Links {
    prefix: String,
    #[serde(default)]
    extends: Option<String>,
}

/// Appends the batches of one import. Ends every earlier one of the same file.
pub struct ImportLog {
    shared: Arc<Shared>,
    producer: Mutex<Option<Arc<RawProducer>>>,
    /// One transaction at a time.
    appending: tokio::sync::Mutex<()>,
}

impl ImportLog {
    pub(crate) async fn open(shared: Arc<Shared>, head: &[u8; 32]) -> Result<Self, KafkaError> {
        let id = format!("{}.import.{}", shared.config.group, hex(head));
        let timeout = shared.config.request_timeout.0 + TRANSACTION_TIMEOUT;
        let of = Arc::clone(&shared);
        let producer = blocking(move || {
            let errors = LastError::default();
            let timeouts = Timeouts { transaction: TRANSACTION_TIMEOUT, delivery: DELIVERY_TIMEOUT };
            let producer = make(&of.base, &of.config, &id, timeouts, &errors)?;
            producer.init_transactions(timeout).map_err(|error| KafkaError::Unreachable {
                what: "beginning an import",
                detail: errors.get().unwrap_or_else(|| error.to_string()),
            })?;
            Ok(Arc::new(producer))
        })
        .await?;
        Ok(Self { shared, producer: Mutex::new(Some(producer)), appending: tokio::sync::Mutex::default() })
    }

    /// Makes the records and positions of a batch visible together. After an error
    /// that is no `InDoubt` nothing of it will be.
    pub async fn append(&self, batch: Batch) -> Result<(), ImportAppendError> {
        let _one_at_a_time = self.appending.lock().await;
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let producer = producer.ok_or(ImportAppendError::Fenced)?;
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || transact(&shared, &producer, &batch)).await;
        let result = done.unwrap_or_else(|e| Err(ImportAppendError::InDoubt(e.to_string())));
        if matches!(result, Err(ImportAppendError::Fenced | ImportAppendError::InDoubt(_))) {
            // Whoever goes on must ask again where.
            self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        result
    }
}

/// One transaction. Blocks.
fn transact(shared: &Shared, producer: &RawProducer, batch: &Batch) -> Result<(), ImportAppendError> {
    let refused = |e: &dyn std::fmt::Display| ImportAppendError::Refused(e.to_string());
    let records = outgoing(batch).map_err(|e| refused(&e))?;
    let lens = || records.iter().map(Outgoing::len);
    check_bytes(lens().max().unwrap_or(0), lens().sum(), &shared.config).map_err(|e| refused(&e))?;
    let positions = positions_of(batch)?;
    producer.begin_transaction().map_err(|e| failure(&e))?;
    let sent = send(shared, producer, &records, &positions);
    let delivered = sent.and_then(|()| producer.flush(DELIVERY_TIMEOUT));
    if let Err(error) = delivered {
        metrics::failed(records.len() as u64);
        return Err(abort(producer, &error));
    }
    let committed = commit(shared, producer);
    match committed {
        Ok(()) => metrics::produced(records.len() as u64),
        Err(_) => metrics::failed(records.len() as u64),
    }
    committed
}

fn commit(shared: &Shared, producer: &RawProducer) -> Result<(), ImportAppendError> {
    match producer.commit_transaction(shared.config.request_timeout.0 + TRANSACTION_TIMEOUT) {
        Ok(()) => Ok(()),
        Err(ClientError::Transaction(error)) if error.txn_requires_abort() => {
            Err(abort(producer, &ClientError::Transaction(error)))
        }
        Err(error) if is_fenced(producer, &error) => Err(ImportAppendError::Fenced),
        Err(error) => Err(ImportAppendError::InDoubt(error.to_string())),
    }
}

/// Key and value of a position, and the key that it replaces.
struct Marked<'b> {
    key: Vec<u8>,
    value: &'b [u8],
    replaces: Option<Vec<u8>>,
}

fn positions_of(batch: &Batch) -> Result<Vec<Marked<'_>>, ImportAppendError> {
    let mut marked = Vec::new();
    for (_, head, value) in
        batch.records().filter(|(topic, key, _)| *topic == Topic::Positions && !key.is_empty())
    {
        let links: Links =
            serde_json::from_slice(value).map_err(|e| ImportAppendError::Position(e.to_string()))?;
        let key = |prefix: &str| [head, prefix.as_bytes()].concat();
        let replaces = links.extends.as_deref().filter(|extends| *extends != links.prefix).map(key);
        marked.push(Marked { key: key(&links.prefix), value, replaces });
    }
    Ok(marked)
}

fn send(
    shared: &Shared,
    producer: &RawProducer,
    records: &[Outgoing<'_>],
    positions: &[Marked<'_>],
) -> Result<(), ClientError> {
    for record in records {
        // Keys say the partition. A batch of an import has neither notes nor overflow.
        let topic = shared.topics.name(record.family);
        producer.send(BaseRecord::to(topic).key(&*record.key).payload(&*record.value)).map_err(|(e, _)| e)?;
    }
    for position in positions {
        let topic = &shared.topics.positions;
        let record = BaseRecord::to(topic).key(&position.key);
        producer.send(record.payload(position.value)).map_err(|(e, _)| e)?;
        if let Some(replaced) = &position.replaces {
            let record = BaseRecord::<_, [u8]>::to(topic).key(replaced);
            producer.send(record).map_err(|(e, _)| e)?;
        }
    }
    Ok(())
}

fn abort(producer: &RawProducer, cause: &ClientError) -> ImportAppendError {
    if is_fenced(producer, cause) {
        return ImportAppendError::Fenced;
    }
    match producer.abort_transaction(TRANSACTION_TIMEOUT) {
        Ok(()) => failure(cause),
        // The brokers abort it when its time is over; it was never committed.
        Err(error) if is_fenced(producer, &error) => ImportAppendError::Fenced,
        Err(error) => ImportAppendError::InDoubt(format!("{cause}; {error}")),
    }
}

fn failure(error: &ClientError) -> ImportAppendError {
    match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => ImportAppendError::Fenced,
        _ => ImportAppendError::Refused(error.to_string()),
    }
}

fn is_fenced(producer: &RawProducer, error: &ClientError) -> bool {
    let fatal = producer.client().fatal_error().map(|(code, _)| code);
    [fatal, error.rdkafka_error_code()]
        .into_iter()
        .flatten()
        .any(|code| matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch))
}

/// The values of the positions with this head that are in force.
pub(crate) async fn positions(shared: &Arc<Shared>, head: &[u8; 32]) -> Result<Vec<Vec<u8>>, ReadError> {
    let topic = shared.topics.positions.clone();
    let (start, end) = shared.offsets.range(topic.clone(), 0).await.map_err(unreadable)?;
    if start >= end {
        return Ok(Vec::new());
    }
    let mut client = shared.base.clone();
    client
        .set("group.id", format!("{}.reader", shared.config.group))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true");
    let made = |e: ClientError| unreadable(KafkaError::Client(e.to_string()));
    let consumer: StreamConsumer<Plain> = client.create_with_context(Plain::default()).map_err(made)?;
    let consumer = Arc::new(Elsewhere::new(consumer));
    let idle = shared.config.request_timeout.0 + TRANSACTION_TIMEOUT + ABORT_INTERVAL;
    settled(&consumer, &topic, end, idle).await?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Beginning).map_err(made)?;
    consumer.assign(&list).map_err(made)?;
    let mut found = BTreeMap::new();
    loop {
        match within(idle, consumer.recv()).await? {
            Ok(message) => {
                if let Some(prefix) = message.key().and_then(|key| key.strip_prefix(head)) {
                    match message.payload() {
                        Some(value) => found.insert(prefix.to_vec(), value.to_vec()),
                        None => found.remove(prefix),
                    };
                }
            }
            Err(ClientError::PartitionEOF(_)) => break,
            // The client tries again by itself; `idle` ends it.
            Err(error) => tracing::debug!(%error, "kafka positions are not read yet"),
        }
    }
    Ok(found.into_values().collect())
}

/// Waits until every transaction before `end` is decided. A killed import leaves one
/// open: until the brokers give it up, what later imports committed stands behind it
/// and cannot be read, as if they had not been.
async fn settled(
    consumer: &Arc<Elsewhere<StreamConsumer<Plain>>>,
    topic: &str,
    end: u64,
    idle: Duration,
) -> Result<(), ReadError> {
    let until = Instant::now() + idle;
    loop {
        let (consumer, topic) = (Arc::clone(consumer), topic.to_owned());
        let ask = move || {
            let found = consumer.fetch_watermarks(&topic, 0, SETTLED_TIMEOUT);
            found.map_err(|e| KafkaError::Unreachable { what: "positions of imports", detail: e.to_string() })
        };
        let stable = blocking(ask).await;
        match stable {
            Ok((_, stable)) if u64::try_from(stable).unwrap_or(0) >= end => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(unreadable(error)),
            Ok(_) if Instant::now() >= until => {
                let detail = "a transaction of an import that was cut off is still open".to_owned();
                return Err(unreadable(KafkaError::Unreachable { what: "positions of imports", detail }));
            }
            Ok(_) | Err(_) => tokio::time::sleep(SETTLED_PAUSE).await,
        }
    }
}

async fn within<T>(idle: Duration, event: impl Future<Output = T>) -> Result<T, ReadError> {
    let late = |_| {
        unreadable(KafkaError::Unreachable {
            what: "positions of imports",
            detail: "no answer in time".to_owned(),
        })
    };
    tokio::time::timeout(idle, event).await.map_err(late)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
