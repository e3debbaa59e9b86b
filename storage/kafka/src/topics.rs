//! The topics: their names, their settings, making and checking them.

use std::time::{Duration, Instant};

use fanal_storage::log::{Family, Partition};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use crate::client::Plain;
use crate::config::KafkaConfig;
use crate::error::KafkaError;

/// How often a new topic is looked for until all its partitions have a leader.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// How long the reason of a failure may be behind it, and one look for it.
const REASON_WAIT: Duration = Duration::from_secs(1);
const REASON_LOOK: Duration = Duration::from_millis(50);

/// Names and partition counts.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    beacons: String,
    dead: String,
    overflow: String,
    pub(crate) positions: String,
    counts: [u32; 3],
}

impl Topics {
    pub(crate) fn new(config: &KafkaConfig) -> Self {
        let prefix = &config.topic_prefix;
        Self {
            beacons: prefix.clone(),
            dead: format!("{prefix}.dead"),
            overflow: format!("{prefix}.overflow"),
            positions: format!("{prefix}.positions"),
            counts: [config.partitions, config.dead_partitions, config.overflow_partitions],
        }
    }

    pub(crate) fn name(&self, family: Family) -> &str {
        match family {
            Family::Beacons => &self.beacons,
            Family::Dead => &self.dead,
            Family::Overflow => &self.overflow,
        }
    }

    pub(crate) fn count(&self, family: Family) -> u32 {
        self.counts[family as usize]
    }

    pub(crate) fn family(&self, topic: &str) -> Option<Family> {
        [Family::Beacons, Family::Dead, Family::Overflow].into_iter().find(|f| self.name(*f) == topic)
    }

    /// A partition as librdkafka names it.
    pub(crate) fn place(&self, partition: Partition) -> (&str, i32) {
        (self.name(partition.family()), i32::try_from(partition.index()).unwrap_or(i32::MAX))
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Partition> {
        let family = self.family(topic)?;
        let index = u32::try_from(index).ok().filter(|index| *index < self.count(family))?;
        Partition::new(family, index)
    }

    pub(crate) fn partitions(&self, family: Family) -> impl Iterator<Item = Partition> {
        (0..self.count(family)).filter_map(move |index| Partition::new(family, index))
    }
}

/// A setting of a topic that is not as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub topic: String,
    /// The setting as Kafka calls it, or `partitions`, `replication`, `topic`.
    pub what: String,
    pub found: String,
    pub wanted: String,
}

/// One topic as it should be.
pub(crate) struct Wanted<'t> {
    pub(crate) name: &'t str,
    partitions: u32,
    settings: Vec<(&'static str, String)>,
}

pub(crate) fn wanted<'t>(topics: &'t Topics, config: &KafkaConfig) -> Vec<Wanted<'t>> {
    let common = || {
        vec![
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("min.insync.replicas", config.min_insync_replicas.to_string()),
            ("max.message.bytes", message_bytes_max(config).to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ]
    };
    let mut wanted: Vec<_> = [Family::Beacons, Family::Dead, Family::Overflow]
        .into_iter()
        .map(|family| {
            let mut settings = common();
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", config.retention.0.as_millis().to_string()));
            settings.push(("retention.bytes", "-1".to_owned()));
            Wanted { name: topics.name(family), partitions: topics.count(family), settings }
        })
        .collect();
    let mut settings = common();
    settings.push(("cleanup.policy", "compact".to_owned()));
    wanted.push(Wanted { name: &topics.positions, partitions: 1, settings });
    wanted
}

/// A record with what Kafka puts around it.
pub(crate) fn message_bytes_max(config: &KafkaConfig) -> u64 {
    config.record_bytes_max.0 + (64 << 10)
}

/// What Kafka says of a topic.
struct Found {
    partitions: u32,
    replication: usize,
    led: bool,
}

/// Blocks. What the brokers say of one topic, or of all.
fn metadata(
    ask: &BaseConsumer<Plain>,
    topic: Option<&str>,
    timeout: Duration,
) -> Result<Metadata, KafkaError> {
    let metadata = ask.fetch_metadata(topic, timeout).map_err(|e| {
        // The client tells the reason apart from the failure, and perhaps a moment later.
        let until = Instant::now() + REASON_WAIT;
        while ask.context().errors.get().is_none() && Instant::now() < until {
            drop(ask.poll(REASON_LOOK));
        }
        let detail = ask.context().errors.get().unwrap_or_else(|| e.to_string());
        KafkaError::Unreachable { what: "topics", detail }
    })?;
    ask.context().errors.clear();
    Ok(metadata)
}

/// Blocks. The number of brokers.
pub(crate) fn brokers(ask: &BaseConsumer<Plain>, timeout: Duration) -> Result<usize, KafkaError> {
    Ok(metadata(ask, None, timeout)?.brokers().len())
}

/// Blocks. `None` if there is no such topic.
fn find(ask: &BaseConsumer<Plain>, topic: &str, timeout: Duration) -> Result<Option<Found>, KafkaError> {
    let metadata = metadata(ask, Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Ok(None),
            RDKafkaErrorCode::LeaderNotAvailable => {
                Ok(Some(Found { partitions: 0, replication: 0, led: false }))
            }
            code => {
                Err(KafkaError::Refused { what: "the list of topics", detail: format!("{topic}: {code}") })
            }
        };
    }
    let partitions = found.partitions();
    Ok(Some(Found {
        partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
        replication: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or(0),
        led: !partitions.is_empty() && partitions.iter().all(|p| p.leader() >= 0),
    }))
}

/// Makes what is missing. Blocks but for the making itself.
pub(crate) fn missing<'w, 't>(
    ask: &BaseConsumer<Plain>,
    wanted: &'w [Wanted<'t>],
    timeout: Duration,
) -> Result<Vec<&'w Wanted<'t>>, KafkaError> {
    let mut missing = Vec::new();
    for topic in wanted {
        match find(ask, topic.name, timeout)? {
            None => missing.push(topic),
            Some(found) if found.led => check_count(topic, found.partitions)?,
            // Being made by somebody else; `wait` looks again.
            Some(_) => {}
        }
    }
    Ok(missing)
}

fn check_count(topic: &Wanted<'_>, found: u32) -> Result<(), KafkaError> {
    let (name, wanted) = (topic.name.to_owned(), topic.partitions);
    if found == wanted { Ok(()) } else { Err(KafkaError::PartitionCount { topic: name, found, wanted }) }
}

pub(crate) async fn create(
    admin: &AdminClient<Plain>,
    missing: &[&Wanted<'_>],
    config: &KafkaConfig,
) -> Result<(), KafkaError> {
    if missing.is_empty() {
        return Ok(());
    }
    let topics: Vec<_> = missing
        .iter()
        .map(|topic| {
            let count = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let replication = i32::try_from(config.replication).unwrap_or(i32::MAX);
            let new = NewTopic::new(topic.name, count, TopicReplication::Fixed(replication));
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let timeout = Some(config.request_timeout.0);
    let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
    let created = admin
        .create_topics(&topics, &options)
        .await
        .map_err(|e| KafkaError::Unreachable { what: "making topics", detail: e.to_string() })?;
    for result in created {
        match result {
            Ok(topic) => tracing::info!(topic, "kafka topic made"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(KafkaError::Create { topic, detail: hint(code, config) }),
        }
    }
    Ok(())
}

fn hint(code: RDKafkaErrorCode, config: &KafkaConfig) -> String {
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => {
            format!("there are fewer brokers than event_log.kafka.replication = {}", config.replication)
        }
        code => code.to_string(),
    }
}

/// Blocks until every topic is there with a leader for each partition.
pub(crate) fn wait(
    ask: &BaseConsumer<Plain>,
    wanted: &[Wanted<'_>],
    timeout: Duration,
) -> Result<(), KafkaError> {
    let until = Instant::now() + timeout;
    for topic in wanted {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match find(ask, topic.name, left.max(LOOK_PAUSE))? {
                Some(found) if found.led => {
                    check_count(topic, found.partitions)?;
                    break;
                }
                _ if left.is_zero() => {
                    let detail = format!("topic `{}` has partitions without a leader", topic.name);
                    return Err(KafkaError::Unreachable { what: "topics", detail });
                }
                _ => std::thread::sleep(LOOK_PAUSE),
            }
        }
    }
    Ok(())
}

/// Compares number and copies of the partitions. Blocks.
pub(crate) fn differing_shapes(
    ask: &BaseConsumer<Plain>,
    wanted: &[Wanted<'_>],
    config: &KafkaConfig,
) -> Result<Vec<Difference>, KafkaError> {
    let mut differences = Vec::new();
    for topic in wanted {
        let mut differs = |what: &str, found: String, wanted: String| {
            if found != wanted {
                let (topic, what) = (topic.name.to_owned(), what.to_owned());
                differences.push(Difference { topic, what, found, wanted });
            }
        };
        match find(ask, topic.name, config.request_timeout.0)? {
            None => differs("topic", "missing".to_owned(), "present".to_owned()),
            Some(found) => {
                differs("partitions", found.partitions.to_string(), topic.partitions.to_string());
                differs("replication", found.replication.to_string(), config.replication.to_string());
            }
        }
    }
    Ok(differences)
}

/// Compares the settings of topics that exist.
pub(crate) async fn differing_settings(
    admin: &AdminClient<Plain>,
    wanted: &[Wanted<'_>],
    absent: &[Difference],
    config: &KafkaConfig,
) -> Result<Vec<Difference>, KafkaError> {
    let present: Vec<_> = wanted
        .iter()
        .filter(|topic| !absent.iter().any(|d| d.topic == topic.name && d.what == "topic"))
        .collect();
    let asked: Vec<_> = present.iter().map(|topic| ResourceSpecifier::Topic(topic.name)).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let options = AdminOptions::new().request_timeout(Some(config.request_timeout.0));
    let answers = admin
        .describe_configs(&asked, &options)
        .await
        .map_err(|e| KafkaError::Unreachable { what: "topic settings", detail: e.to_string() })?;
    let mut differences = Vec::new();
    for (topic, answer) in present.iter().zip(answers) {
        let found = answer.map_err(|code| KafkaError::Refused {
            what: "the settings of a topic",
            detail: format!("{}: {code}", topic.name),
        })?;
        for (key, wanted) in &topic.settings {
            let entry = found.entries.iter().find(|entry| entry.name == *key);
            let value = entry.and_then(|entry| entry.value.as_deref()).unwrap_or("");
            if value != wanted {
                differences.push(Difference {
                    topic: topic.name.to_owned(),
                    what: (*key).to_owned(),
                    found: value.to_owned(),
                    wanted: wanted.clone(),
                });
            }
        }
    }
    Ok(differences)
}
