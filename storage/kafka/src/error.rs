//! What can go wrong with Kafka. Each text names the remedy.

use std::io;
use std::path::PathBuf;

use fanal_storage::log::Partition;
use thiserror::Error;

use crate::config::ConfigProblem;

/// Why Kafka cannot be used or asked.
#[derive(Debug, Error)]
pub enum KafkaError {
    #[error(transparent)]
    Config(#[from] ConfigProblem),
    #[error("cannot read the password in {}: {source}; check event_log.kafka.sasl.password_file", path.display())]
    Password { path: PathBuf, source: io::Error },
    #[error("others may read {} (mode {mode:o}): run `chmod 600` on it", path.display())]
    PasswordExposed { path: PathBuf, mode: u32 },
    #[error("the password in {} is empty; write one into it", .0.display())]
    PasswordEmpty(PathBuf),
    #[error("cannot make a client for Kafka: {0}; check [event_log.kafka], its tls files above all")]
    Client(String),
    #[error(
        "Kafka does not answer ({what}): {detail}; check event_log.kafka.brokers, that the brokers run, and tls and sasl"
    )]
    Unreachable { what: &'static str, detail: String },
    /// Whoever made this client is making it, or says why it cannot.
    #[error(
        "topic `{topic}` is not there yet; at a start it is made as soon as the brokers allow it, see the part `kafka`; \
         where it was deleted, restart a process"
    )]
    TopicMissing { topic: String },
    #[error("cannot make topic `{topic}`: {detail}; let an operator make it, or give the user the right to")]
    Create { topic: String, detail: String },
    #[error(
        "topic `{topic}` has {found} partitions, the configuration says {wanted}; the number is fixed, since visitors \
         stay in their partition: write {found}, or use another event_log.kafka.topic_prefix"
    )]
    PartitionCount { topic: String, found: u32, wanted: u32 },
    #[error("Kafka refused {what}: {detail}; check the rights of the user and the brokers' log")]
    Refused { what: &'static str, detail: String },
}

/// Why a group's offset is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// The partition belongs to another member now: stop, and publish nothing more of it.
    #[error("partition {0} belongs to another member of the group now; its work here ends")]
    Fenced(Partition),
    /// Nobody knows whether it is stored; trying again is right.
    #[error("Kafka did not confirm the offset of partition {partition}: {detail}; it is tried again")]
    Unavailable { partition: Partition, detail: String },
}

/// Why a batch of an import is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportAppendError {
    #[error("another import of the same file has begun; let it end, then import again")]
    Fenced,
    #[error("the import's position cannot be read: {0}; use the same version of the program throughout")]
    Position(String),
    /// Nothing of the batch will ever be read.
    #[error("Kafka refused the import's batch: {0}; import again, it goes on where it stopped")]
    Refused(String),
    /// All of the batch is there, or nothing.
    #[error(
        "Kafka did not confirm the import's batch: {0}; check the brokers, then import again: it goes on where it stopped"
    )]
    InDoubt(String),
}
