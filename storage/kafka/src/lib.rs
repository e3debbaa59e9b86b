//! The event log on Kafka: topics, producer, readers, group membership, and imports
//! that are exactly once.
//!
//! Every received line is one record, a beacon or a dead letter. The crate never
//! changes a record, never reads a value (but for the counts of `unaccounted` lines),
//! and answers an append only after the brokers confirmed all of it. What must stay
//! true: all records of a key are in one partition, chosen as Kafka's own clients
//! choose it (hot keys apart), and a reader passes over no record. Topics, settings
//! and the format for other consumers are described in `docs/kafka.md`.

mod client;
mod config;
mod context;
mod direct;
mod error;
mod group;
mod handle;
mod hot;
mod import;
mod load;
mod metrics;
mod murmur;
mod note;
mod offsets;
mod producer;
mod reader;
mod record;
mod room;
mod topics;
mod transaction;
mod watch;

pub use config::{Compression, ConfigProblem, KafkaConfig, SaslMechanism, SaslSection, TlsSection};
pub use context::{Change, Released};
pub use error::{CommitError, ImportAppendError, KafkaError};
pub use group::Membership;
pub use handle::Kafka;
pub use import::ImportLog;
pub use metrics::describe;
pub use murmur::partition_of;
pub use offsets::Stage;
pub use producer::KafkaLog;
pub use reader::KafkaReader;
pub use record::{KIND_HEADER, OVERFLOW_KIND, SEAL_KIND, VERSION, VERSION_HEADER};
pub use topics::Difference;
