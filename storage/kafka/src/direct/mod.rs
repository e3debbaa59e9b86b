//! Kafka's protocol spoken directly, for one thing: to get the records of a batch to the
//! leaders of their partitions, as an idempotent producer does it.
//!
//! It is the collectors' fast path. One thread, the caller's, encodes a batch into kept
//! buffers, sends one request to each leader and waits for the answers; nothing is handed
//! to other threads, and no record costs an allocation. Consumers, groups, topics and
//! transactions are not its business: librdkafka has them.

mod cluster;
mod compress;
mod connection;
mod producer;
mod record_batch;
mod requests;
mod round;
mod sasl;
mod security;
mod settings;
mod stream;
mod trouble;
mod wire;

pub(crate) use producer::{DirectProducer, Unconfirmed};
pub(crate) use record_batch::Content;
pub(crate) use settings::Settings;
