//! The section `[event_log.kafka]`, as a person writes it.

use std::path::PathBuf;

use fanal_model::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Kafka and how it is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Brokers to ask first, each `host:port`; they name the others.
    pub brokers: Vec<String>,
    /// Name of the topic with beacons; the others are this with `.dead`, `.overflow`, `.positions`.
    pub topic_prefix: String,
    /// The consumer groups are this with `.archive`, `.visits`, `.ledger`.
    pub group: String,
    /// Partitions of the topic with beacons. Fixed once the topic exists: a visitor stays in its partition.
    pub partitions: u32,
    /// Partitions of the topic with dead letters. Fixed once the topic exists.
    pub dead_partitions: u32,
    /// Partitions of the topic for hot keys. Fixed once the topic exists.
    pub overflow_partitions: u32,
    /// Copies of each partition, when the topics are made.
    pub replication: u32,
    /// Copies that must have a record before it is confirmed.
    pub min_insync_replicas: u32,
    /// How long the topics keep records; must be longer than consumers may ever be behind.
    #[serde(with = "text")]
    pub retention: HumanDuration,
    /// How batches are compressed: `lz4`, `zstd` or `none`.
    pub compression: Compression,
    /// A batch that the brokers have not confirmed after this counts as not confirmed.
    #[serde(with = "text")]
    pub confirm_timeout: HumanDuration,
    /// Records of imports wait so long for others of their partition, so that batches are larger.
    #[serde(with = "text")]
    pub linger: HumanDuration,
    /// The largest record, key and value together; also the topics' `max.message.bytes`.
    #[serde(with = "text")]
    pub record_bytes_max: ByteSize,
    /// The largest append, all its records together.
    #[serde(with = "text")]
    pub batch_bytes_max: ByteSize,
    /// Bytes that wait for the brokers' confirmation, in each thread that appends; beyond it appends are refused.
    #[serde(with = "text")]
    pub queue_bytes_max: ByteSize,
    /// What a reader of one partition fetches ahead.
    #[serde(with = "text")]
    pub prefetch_bytes: ByteSize,
    /// A key with more records in a second, in one process, goes to the overflow topic; 0 turns this off.
    pub hot_key_records_per_second: u32,
    /// A group member that the brokers do not hear from for so long loses its partitions.
    #[serde(with = "text")]
    pub session_timeout: HumanDuration,
    /// A group member may take so long to let go of partitions that move to another one.
    #[serde(with = "text")]
    pub release_timeout: HumanDuration,
    /// The longest wait for an answer to a question about topics, offsets and groups.
    #[serde(with = "text")]
    pub request_timeout: HumanDuration,
    /// TLS to the brokers; without this section the connection is cleartext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSection>,
    /// Who the program is to the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslSection>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        let seconds = |s| HumanDuration(std::time::Duration::from_secs(s));
        let millis = |ms| HumanDuration(std::time::Duration::from_millis(ms));
        Self {
            brokers: vec!["127.0.0.1:9092".to_owned()],
            topic_prefix: "beacons".to_owned(),
            group: "fanal".to_owned(),
            partitions: 12,
            dead_partitions: 3,
            overflow_partitions: 3,
            replication: 3,
            min_insync_replicas: 2,
            retention: seconds(7 * 86_400),
            compression: Compression::Lz4,
            confirm_timeout: seconds(2),
            linger: millis(5),
            record_bytes_max: ByteSize(8 << 20),
            batch_bytes_max: ByteSize(32 << 20),
            queue_bytes_max: ByteSize(128 << 20),
            prefetch_bytes: ByteSize(4 << 20),
            hot_key_records_per_second: 2000,
            session_timeout: seconds(10),
            release_timeout: seconds(30),
            request_timeout: seconds(10),
            tls: None,
            sasl: None,
        }
    }
}

/// How the producer compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Least work for the processor.
    #[default]
    Lz4,
    /// Least space on the brokers' disks.
    Zstd,
    /// None: least work of all, where network and disks are plenty.
    None,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// TLS to the brokers. The broker's certificate and its host name are always verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSection {
    /// Certificates (PEM) of who signs the brokers' certificates; the system's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// This program's certificate (PEM), for brokers that ask for one; needs `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// The key (PEM) of `certificate_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// User and password for the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SaslSection {
    /// `PLAIN` (only with TLS), `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: SaslMechanism,
    pub username: String,
    /// File that holds the password; only its owner may read it.
    pub password_file: PathBuf,
}

/// How user and password are proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// What is wrong with a section that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigProblem {
    #[error("event_log.kafka.brokers is empty; name at least one broker as `host:port`")]
    NoBroker,
    #[error(
        "event_log.kafka.brokers has `{0}`, which is not `host:port`; write it as `kafka-1.example.com:9092`"
    )]
    Broker(String),
    #[error("event_log.kafka.{key} is `{given}`; use 1 to {max} of a-z A-Z 0-9 . _ -")]
    Name { key: &'static str, given: String, max: usize },
    #[error("event_log.kafka.{key} is {given}; it must lie between {min} and {max}")]
    Range { key: &'static str, given: String, min: String, max: String },
    #[error(
        "event_log.kafka.min_insync_replicas is larger than event_log.kafka.replication: nothing could ever be confirmed"
    )]
    InSyncAboveReplication,
    #[error(
        "event_log.kafka.{small} is larger than event_log.kafka.{large}; lower the first or raise the second"
    )]
    Above { small: &'static str, large: &'static str },
    #[error("event_log.kafka.tls needs certificate_file and key_file together, or neither of them")]
    TlsIncomplete,
    #[error(
        "event_log.kafka.sasl.mechanism PLAIN shows the password to the network; add [event_log.kafka.tls], or use \
         SCRAM-SHA-512"
    )]
    PlainWithoutTls,
    #[error("event_log.kafka.sasl.username is empty; write the user that the brokers know")]
    NoUser,
}

/// A topic may have 249 characters; the longest suffix is `.positions`.
const PREFIX_CHARS_MAX: usize = 200;
const GROUP_CHARS_MAX: usize = 200;
const PARTITIONS_MAX: u32 = 10_000;

impl KafkaConfig {
    /// Checks what can be checked without the network.
    pub fn check(&self) -> Result<(), ConfigProblem> {
        if self.brokers.is_empty() {
            return Err(ConfigProblem::NoBroker);
        }
        if let Some(broker) = self.brokers.iter().find(|broker| !is_host_and_port(broker)) {
            return Err(ConfigProblem::Broker(broker.chars().take(80).collect()));
        }
        name("topic_prefix", &self.topic_prefix, PREFIX_CHARS_MAX)?;
        name("group", &self.group, GROUP_CHARS_MAX)?;
        let counts = [
            ("partitions", self.partitions, PARTITIONS_MAX),
            ("dead_partitions", self.dead_partitions, PARTITIONS_MAX),
            ("overflow_partitions", self.overflow_partitions, PARTITIONS_MAX),
            ("replication", self.replication, 100),
            ("min_insync_replicas", self.min_insync_replicas, 100),
        ];
        for (key, given, max) in counts {
            range(key, given, 1, max)?;
        }
        if self.min_insync_replicas > self.replication {
            return Err(ConfigProblem::InSyncAboveReplication);
        }
        let duration = |text| HumanDuration::parse(text).unwrap_or(HumanDuration(std::time::Duration::ZERO));
        let durations = [
            ("retention", self.retention, "1h", "3650d"),
            ("confirm_timeout", self.confirm_timeout, "100ms", "2min"),
            ("linger", self.linger, "0ms", "1s"),
            ("session_timeout", self.session_timeout, "6s", "30min"),
            ("release_timeout", self.release_timeout, "1s", "30min"),
            ("request_timeout", self.request_timeout, "2s", "2min"),
        ];
        for (key, given, min, max) in durations {
            range(key, given, duration(min), duration(max))?;
        }
        let sizes = [
            ("record_bytes_max", self.record_bytes_max, 1 << 10, 64 << 20),
            ("batch_bytes_max", self.batch_bytes_max, 1 << 10, 256 << 20),
            ("queue_bytes_max", self.queue_bytes_max, 1 << 20, 1 << 30),
            ("prefetch_bytes", self.prefetch_bytes, 64 << 10, 1 << 30),
        ];
        for (key, given, min, max) in sizes {
            range(key, given, ByteSize(min), ByteSize(max))?;
        }
        let above = |small, large| Err(ConfigProblem::Above { small, large });
        if self.linger >= self.confirm_timeout {
            return above("linger", "confirm_timeout");
        }
        if self.record_bytes_max > self.batch_bytes_max {
            return above("record_bytes_max", "batch_bytes_max");
        }
        if self.batch_bytes_max > self.queue_bytes_max {
            return above("batch_bytes_max", "queue_bytes_max");
        }
        self.check_security()
    }

    fn check_security(&self) -> Result<(), ConfigProblem> {
        if let Some(tls) = &self.tls
            && tls.certificate_file.is_some() != tls.key_file.is_some()
        {
            return Err(ConfigProblem::TlsIncomplete);
        }
        if let Some(sasl) = &self.sasl {
            if sasl.username.is_empty() {
                return Err(ConfigProblem::NoUser);
            }
            if sasl.mechanism == SaslMechanism::Plain && self.tls.is_none() {
                return Err(ConfigProblem::PlainWithoutTls);
            }
        }
        Ok(())
    }
}

fn is_host_and_port(broker: &str) -> bool {
    broker.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        !host.is_empty() && (bracketed || plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn name(key: &'static str, given: &str, max: usize) -> Result<(), ConfigProblem> {
    let fits = (1..=max).contains(&given.len())
        && given.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !matches!(given, "." | "..");
    if fits { Ok(()) } else { Err(ConfigProblem::Name { key, given: given.chars().take(80).collect(), max }) }
}

fn range<T: Ord + ToString>(key: &'static str, given: T, min: T, max: T) -> Result<(), ConfigProblem> {
    if given >= min && given <= max {
        return Ok(());
    }
    let (given, min, max) = (given.to_string(), min.to_string(), max.to_string());
    Err(ConfigProblem::Range { key, given, min, max })
}

/// Sizes and durations as text with a unit.
mod text {
    use fanal_model::{ByteSize, HumanDuration, UnitError};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) trait WithUnit: Sized {
        fn read(text: &str) -> Result<Self, UnitError>;
    }

    impl WithUnit for ByteSize {
        fn read(text: &str) -> Result<Self, UnitError> {
            Self::parse(text)
        }
    }

    impl WithUnit for HumanDuration {
        fn read(text: &str) -> Result<Self, UnitError> {
            Self::parse(text)
        }
    }

    pub(super) fn serialize<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, T: WithUnit, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
