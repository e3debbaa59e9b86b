//! The producer of imports: librdkafka's, since it has transactions.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{DeliveryResult, ProducerContext, ThreadedProducer};

use crate::client::{self, Elsewhere, LastError, millis};
use crate::config::KafkaConfig;
use crate::error::KafkaError;
use crate::topics::message_bytes_max;

pub(crate) type RawProducer = Elsewhere<ThreadedProducer<Deliveries>>;

/// Hears of records that are delivered or not; their transaction answers for them.
pub(crate) struct Deliveries {
    errors: LastError,
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
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.errors.clear();
        }
    }
}

/// Makes a producer whose transactions have this id; records of one are delivered within
/// `delivery`, or not at all.
pub(crate) fn make(
    base: &ClientConfig,
    config: &KafkaConfig,
    id: &str,
    timeouts: Timeouts,
    errors: &LastError,
) -> Result<RawProducer, KafkaError> {
    let mut client = settings(base, config, timeouts.delivery);
    client.set("transactional.id", id).set("transaction.timeout.ms", millis(timeouts.transaction));
    let deliveries = Deliveries { errors: errors.clone() };
    let producer = client.create_with_context(deliveries);
    producer.map(Elsewhere::new).map_err(|e| KafkaError::Client(e.to_string()))
}

/// How long things may take.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) transaction: Duration,
    pub(crate) delivery: Duration,
}

/// The settings of every producer of the client library.
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
