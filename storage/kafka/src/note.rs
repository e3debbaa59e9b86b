//! Notes to a key's own partition: lines of the key stand where nobody expects them.
//!
//! For who finds them there after they were appended, as another program's producer with
//! a partitioner of its own does it. A note may be there twice; the second says nothing.

use std::sync::OnceLock;

use fanal_storage::log::Family;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::client::{Elsewhere, Plain};
use crate::error::KafkaError;
use crate::handle::Inner;
use crate::murmur::partition_of;
use crate::record::{KIND_HEADER, OVERFLOW_KIND};
use crate::transaction::settings;

/// Notes that are on their way at once.
const NOTES_AT_ONCE: usize = 1000;

/// The producer of notes, made when the first one is to be written: most processes
/// never have one.
#[derive(Default)]
pub(crate) struct Notes(OnceLock<Elsewhere<FutureProducer<Plain>>>);

/// Writes each key and time as a note in the key's partition of beacons; returns when
/// the brokers have confirmed all.
pub(crate) async fn write(inner: &Inner, notes: &[(Vec<u8>, u64)]) -> Result<(), KafkaError> {
    let producer = inner.notes.producer(inner)?;
    let topic = inner.topics.name(Family::Beacons);
    let refused = |e: &dyn std::fmt::Display| KafkaError::Refused {
        what: "a note to a key's own partition",
        detail: e.to_string(),
    };
    for some in notes.chunks(NOTES_AT_ONCE) {
        let mut confirmations = Vec::with_capacity(some.len());
        for (key, at_ms) in some {
            let partition = i32::try_from(partition_of(key, inner.config.partitions)).unwrap_or(0);
            let headers = OwnedHeaders::new().insert(Header { key: KIND_HEADER, value: Some(OVERFLOW_KIND) });
            let value = at_ms.to_string();
            let record =
                FutureRecord::to(topic).partition(partition).key(key).payload(&value).headers(headers);
            confirmations.push(producer.send_result(record).map_err(|(error, _)| refused(&error))?);
        }
        // Each ends within the producer's `message.timeout.ms`.
        for confirmation in confirmations {
            let confirmed = confirmation.await.map_err(|error| refused(&error))?;
            confirmed.map_err(|(error, _)| refused(&error))?;
        }
    }
    Ok(())
}

impl Notes {
    fn producer(&self, inner: &Inner) -> Result<&FutureProducer<Plain>, KafkaError> {
        if let Some(producer) = self.0.get() {
            return Ok(producer);
        }
        let settings = settings(&inner.base, &inner.config, inner.config.request_timeout.0);
        let made = settings.create_with_context(Plain::default());
        let made = made.map_err(|e: rdkafka::error::KafkaError| KafkaError::Client(e.to_string()))?;
        Ok(self.0.get_or_init(|| Elsewhere::new(made)))
    }
}
