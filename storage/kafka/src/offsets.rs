//! Questions about offsets: where partitions begin and end, what groups have committed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanal_storage::log::Partition;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Ask, Elsewhere, Plain};
use crate::config::KafkaConfig;
use crate::error::KafkaError;
use crate::handle::blocking;
use crate::topics::Topics;

/// Between two tries of a question.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Who reads the event log; each has a consumer group of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Writes the raw archive; commits how far files are durable.
    Archive,
    /// Makes visits; commits how far their rows are in the tables.
    Visits,
    /// Counts received and stored records; its group has no members.
    Ledger,
}

impl Stage {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Visits => "visits",
            Self::Ledger => "ledger",
        }
    }

    pub(crate) fn group(self, config: &KafkaConfig) -> String {
        format!("{}.{}", config.group, self.name())
    }
}

/// The clients that ask; one for each group, made when it is needed.
pub(crate) struct Offsets {
    base: ClientConfig,
    config: KafkaConfig,
    ask: Ask,
    groups: Mutex<HashMap<Stage, Ask>>,
}

impl Offsets {
    pub(crate) fn new(base: &ClientConfig, config: &KafkaConfig, ask: Ask) -> Self {
        let (base, config) = (base.clone(), config.clone());
        Self { base, config, ask, groups: Mutex::default() }
    }

    /// First offset and end of a partition.
    pub(crate) async fn range(&self, topic: String, index: i32) -> Result<(u64, u64), KafkaError> {
        let (ask, timeout) = (Arc::clone(&self.ask), self.config.request_timeout.0);
        blocking(move || patiently_range(&ask, &topic, index, timeout)).await
    }

    pub(crate) async fn committed(
        &self,
        topics: &Topics,
        stage: Stage,
        partitions: &[Partition],
    ) -> Result<Vec<Option<u64>>, KafkaError> {
        let client = self.client(stage)?;
        let places = places(topics, partitions);
        let timeout = self.config.request_timeout.0;
        blocking(move || {
            let mut list = TopicPartitionList::with_capacity(places.len());
            for (topic, index) in &places {
                list.add_partition(topic, *index);
            }
            let unreachable = |e: rdkafka::error::KafkaError| KafkaError::Unreachable {
                what: "committed offsets",
                detail: e.to_string(),
            };
            let found = client.committed_offsets(list, timeout).map_err(unreachable)?;
            let mut offsets = Vec::with_capacity(places.len());
            for (topic, index) in &places {
                let element = found.find_partition(topic, *index);
                if let Some(element) = &element {
                    element.error().map_err(unreachable)?;
                }
                offsets.push(element.and_then(|element| match element.offset() {
                    Offset::Offset(offset) => u64::try_from(offset).ok(),
                    _ => None,
                }));
            }
            Ok(offsets)
        })
        .await
    }

    pub(crate) async fn commit_marker(
        &self,
        topics: &Topics,
        stage: Stage,
        partition: Partition,
        offset: u64,
    ) -> Result<(), KafkaError> {
        let client = self.client(stage)?;
        let list = list(topics, partition, offset);
        let commit = blocking(move || {
            let refused = |e: rdkafka::error::KafkaError| KafkaError::Refused {
                what: "a committed offset",
                detail: e.to_string(),
            };
            client.commit(&list, CommitMode::Sync).map_err(refused)
        });
        let late = |_| KafkaError::Unreachable { what: "committing", detail: "no answer in time".to_owned() };
        tokio::time::timeout(self.config.request_timeout.0, commit).await.map_err(late)?
    }

    fn client(&self, stage: Stage) -> Result<Ask, KafkaError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = groups.get(&stage) {
            return Ok(Arc::clone(client));
        }
        let mut config = self.base.clone();
        config.set("group.id", stage.group(&self.config)).set("enable.auto.commit", "false");
        let client = config.create_with_context(Plain::default());
        let client = Arc::new(Elsewhere::new(client.map_err(|e| KafkaError::Client(e.to_string()))?));
        groups.insert(stage, Arc::clone(&client));
        Ok(client)
    }

    /// Serves errors and logs of the clients.
    pub(crate) fn serve(&self) {
        let clients: Vec<_> =
            self.groups.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for client in clients {
            while client.poll(Duration::ZERO).is_some() {}
        }
    }
}

/// Blocks. A partition that moves between brokers is asked for again.
fn patiently_range(
    ask: &BaseConsumer<Plain>,
    topic: &str,
    index: i32,
    timeout: Duration,
) -> Result<(u64, u64), KafkaError> {
    let until = Instant::now() + timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(RETRY_PAUSE);
        match ask.fetch_watermarks(topic, index, left) {
            Ok((start, end)) => {
                ask.context().errors.clear();
                return Ok((u64::try_from(start).unwrap_or(0), u64::try_from(end).unwrap_or(0)));
            }
            Err(error) if Instant::now() >= until => {
                let detail = format!("{topic} [{index}]: {error}");
                return Err(KafkaError::Unreachable { what: "offsets", detail });
            }
            Err(_) => std::thread::sleep(RETRY_PAUSE),
        }
    }
}

fn places(topics: &Topics, partitions: &[Partition]) -> Vec<(String, i32)> {
    partitions
        .iter()
        .map(|partition| {
            let (topic, index) = topics.place(*partition);
            (topic.to_owned(), index)
        })
        .collect()
}

/// One partition with its offset, as librdkafka takes it.
pub(crate) fn list(topics: &Topics, partition: Partition, offset: u64) -> TopicPartitionList {
    let (topic, index) = topics.place(partition);
    let mut list = TopicPartitionList::with_capacity(1);
    let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    let added = list.add_partition_offset(topic, index, offset);
    debug_assert!(added.is_ok(), "an offset is a number");
    list
}
