//! Batches that wait for Kafka's confirmation: what they take of the queue, and one
//! wake-up when the last record of a batch is decided.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fanal_storage::log::Partition;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use crate::client::{self, Elsewhere, LastError};
use crate::metrics;
use crate::topics::Topics;

/// Records that wait for confirmation at once; with their bytes the bound of the queue.
const QUEUE_RECORDS_MAX: usize = 500_000;

pub(crate) type RawProducer = Elsewhere<ThreadedProducer<Deliveries>>;

/// Where confirmations arrive.
pub(crate) struct Deliveries {
    pub(crate) errors: LastError,
    pub(crate) topics: Topics,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.errors.report(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Arc<Pending>) {
        match result {
            Ok(message) => {
                let partition = self.topics.partition(message.topic(), message.partition());
                pending.confirmed(partition, u64::try_from(message.offset()).unwrap_or(0));
            }
            Err((error, _)) => pending.failed(error.rdkafka_error_code().unwrap_or(Code::Fail)),
        }
        if result.is_ok() {
            self.errors.clear();
        }
        pending.one_done(1);
    }
}

/// What waits for confirmation, of all batches.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) bytes: AtomicUsize,
    pub(crate) records: AtomicUsize,
}

impl Room {
    pub(crate) fn take(&self, records: usize, bytes: usize, bytes_max: usize) -> bool {
        let queued = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let count = self.records.fetch_add(records, Ordering::AcqRel) + records;
        if queued > bytes_max || count > QUEUE_RECORDS_MAX.max(records) {
            self.give(records, bytes);
            return false;
        }
        metrics::queue(count, queued);
        true
    }

    fn give(&self, records: usize, bytes: usize) {
        let bytes = self.bytes.fetch_sub(bytes, Ordering::AcqRel) - bytes;
        let records = self.records.fetch_sub(records, Ordering::AcqRel) - records;
        metrics::queue(records, bytes);
    }
}

/// How a batch went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) confirmed: usize,
    pub(crate) first: Option<(Partition, u64)>,
    /// The first error; the rest of the batch may have been confirmed.
    pub(crate) error: Option<Code>,
    /// Every error so far says that Kafka never took the record.
    pub(crate) refused: bool,
}

/// A batch that waits: one wake-up when the last of its records is decided.
pub(crate) struct Pending {
    left: AtomicUsize,
    outcome: Mutex<Outcome>,
    done: Mutex<Option<oneshot::Sender<Outcome>>>,
    room: Arc<Room>,
    records: usize,
    bytes: usize,
}

impl Pending {
    pub(crate) fn new(
        records: usize,
        bytes: usize,
        room: Arc<Room>,
        done: oneshot::Sender<Outcome>,
    ) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(records + 1),
            outcome: Mutex::default(),
            done: Mutex::new(Some(done)),
            room,
            records,
            bytes,
        })
    }

    /// Records whose transaction answers for them.
    pub(crate) fn unheard(records: usize, bytes: usize) -> Arc<Self> {
        let room = Arc::<Room>::default();
        room.take(records, bytes, usize::MAX);
        Self::new(records, bytes, room, oneshot::channel().0)
    }

    fn confirmed(&self, partition: Option<Partition>, offset: u64) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.confirmed += 1;
        if outcome.first.is_none() {
            outcome.first = partition.map(|partition| (partition, offset));
        }
    }

    fn failed(&self, code: Code) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.refused = (outcome.error.is_none() || outcome.refused) && never_taken(code);
        outcome.error.get_or_insert(code);
    }

    /// These never got to the producer.
    pub(crate) fn unsent(&self, records: usize, code: Code) {
        // Some of the batch may be on its way, which its own answers say.
        self.failed(code);
        self.one_done(records);
    }

    /// Answers with the last one.
    pub(crate) fn one_done(&self, records: usize) {
        if self.left.fetch_sub(records, Ordering::AcqRel) > records {
            return;
        }
        let outcome = *self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::produced(outcome.confirmed as u64);
        metrics::failed((self.records - outcome.confirmed) as u64);
        self.room.give(self.records, self.bytes);
        if let Some(done) = self.done.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Who no longer waits has no use for the answer.
            done.send(outcome).ok();
        }
    }
}

/// Errors after which the record is surely not in the log.
fn never_taken(code: Code) -> bool {
    matches!(
        code,
        Code::QueueFull
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::MessageSizeTooLarge
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidRecord
            | Code::NotEnoughReplicas
            | Code::PurgeQueue
            | Code::Fatal
    )
}
