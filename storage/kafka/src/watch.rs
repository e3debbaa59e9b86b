//! What the client of a reader says of itself, beside the records: errors, and how far
//! it has fetched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use serde::Deserialize;

use crate::client::{self, LastError};

/// Hears what the client says of itself.
pub(crate) struct Watch {
    pub(crate) errors: LastError,
    pub(crate) end_in_doubt: Arc<AtomicBool>,
    /// The end of the partition when all before it had been fetched.
    pub(crate) fetched_end: Arc<AtomicU64>,
    pub(crate) topic: String,
    pub(crate) index: String,
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        // The ends of partitions come this way too.
        if !matches!(error.rdkafka_error_code(), Some(Code::PartitionEOF | Code::AutoOffsetReset)) {
            self.end_in_doubt.store(true, Ordering::Release);
            self.errors.report(&error, reason);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        if let Some(end) = statistics.fetched_end(&self.topic, &self.index) {
            self.fetched_end.fetch_max(end, Ordering::AcqRel);
        }
        if statistics.leader_is_up(&self.topic, &self.index) {
            self.errors.clear();
        }
    }
}

impl ConsumerContext for Watch {}

/// What is read of the client's statistics.
#[derive(Deserialize)]
struct Statistics {
    brokers: std::collections::HashMap<String, BrokerStatistics>,
    topics: std::collections::HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: std::collections::HashMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    leader: i32,
    eof_offset: i64,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    nodeid: i32,
    state: String,
}

impl Statistics {
    fn partition(&self, topic: &str, index: &str) -> Option<&PartitionStatistics> {
        self.topics.get(topic)?.partitions.get(index)
    }

    fn fetched_end(&self, topic: &str, index: &str) -> Option<u64> {
        u64::try_from(self.partition(topic, index)?.eof_offset).ok()
    }

    fn leader_is_up(&self, topic: &str, index: &str) -> bool {
        self.partition(topic, index).is_some_and(|partition| {
            self.brokers.values().any(|broker| broker.nodeid == partition.leader && broker.state == "UP")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fetched_end_is_read_from_the_statistics() {
        let statistics: Statistics = serde_json::from_str(
            r#"{"name":"x","brokers":{"a:1/1":{"nodeid":1,"state":"UP"},"b:1/2":{"nodeid":2,"state":"DOWN"}},
            "topics":{"t":{"topic":"t","partitions":{"3":{"leader":1,"eof_offset":7},
            "-1":{"leader":2,"eof_offset":-1001}}}}}"#,
        )
        .unwrap();
        assert_eq!(statistics.fetched_end("t", "3"), Some(7));
        assert_eq!(statistics.fetched_end("t", "-1"), None);
        assert_eq!(statistics.fetched_end("other", "3"), None);
        assert!(statistics.leader_is_up("t", "3"));
        assert!(!statistics.leader_is_up("t", "-1"));
    }
}
