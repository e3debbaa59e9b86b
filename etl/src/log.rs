//! The event log as the role reads it: the embedded one, or Kafka.

use fanal_kafka::{CommitError, Kafka, KafkaError, KafkaReader, Membership};
use fanal_storage::log::{
    AppendError, Chunk, EventSource, Family, Log, LogKind, Partition, PositionError, ReadError, Reader,
};
use std::sync::Arc;
use thiserror::Error;

use crate::progress::{Offsets, Stage};

/// An open event log. Clones share it.
#[derive(Clone)]
pub enum EventLogs {
    Embedded(Log),
    Kafka(Kafka),
}

/// Why the log does not say how far it goes.
#[derive(Debug, Error)]
pub enum LogError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error("cannot end an archive file: {0}")]
    Seal(#[from] AppendError),
    #[error(
        "another process has taken the partition over ({0}); this one stops its work on it, which the other goes on with"
    )]
    Fenced(CommitError),
    #[error("the progress cannot be noted in Kafka: {0}")]
    Commit(CommitError),
}

impl EventLogs {
    #[must_use]
    pub fn kind(&self) -> LogKind {
        match self {
            Self::Embedded(_) => LogKind::Embedded,
            Self::Kafka(_) => LogKind::Kafka,
        }
    }

    /// All partitions.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        match self {
            Self::Embedded(_) => vec![Partition::EMBEDDED],
            Self::Kafka(kafka) => kafka.partitions(),
        }
    }

    /// The partition of a record key: all of a visitor's rows have versions of it.
    #[must_use]
    pub fn home(&self, record_key: &[u8]) -> Partition {
        match self {
            Self::Embedded(_) => Partition::EMBEDDED,
            Self::Kafka(kafka) => {
                let index = fanal_kafka::partition_of(record_key, kafka.config().partitions);
                Partition::new(Family::Beacons, index).unwrap_or(Partition::EMBEDDED)
            }
        }
    }

    /// Partitions over which keys are spread.
    pub(crate) fn key_partitions(&self) -> u32 {
        match self {
            Self::Embedded(_) => 1,
            Self::Kafka(kafka) => kafka.config().partitions,
        }
    }

    /// Tells the home partitions of these keys that lines of them stand elsewhere.
    pub(crate) async fn note_elsewhere(&self, notes: &[(Vec<u8>, u64)]) -> Result<(), LogError> {
        match self {
            Self::Kafka(kafka) if !notes.is_empty() => Ok(kafka.note_elsewhere(notes).await?),
            // The embedded log has one partition.
            _ => Ok(()),
        }
    }

    /// Offset of the oldest record of a partition.
    pub(crate) async fn start_offset(&self, partition: Partition) -> Result<u64, LogError> {
        Ok(match self {
            Self::Embedded(log) => log.start_offset(),
            Self::Kafka(kafka) => kafka.start_offset(partition).await?,
        })
    }

    /// Offset after the newest record of a partition.
    pub(crate) async fn end_offset(&self, partition: Partition) -> Result<u64, LogError> {
        Ok(match self {
            Self::Embedded(log) => log.end_offset(),
            Self::Kafka(kafka) => kafka.end_offset(partition).await?,
        })
    }

    /// The offsets after the newest records of all partitions.
    pub async fn ends(&self) -> Result<Offsets, LogError> {
        let mut ends = Offsets::new();
        for partition in self.partitions() {
            ends.insert(partition, self.end_offset(partition).await?);
        }
        Ok(ends)
    }

    pub(crate) async fn reader(&self, partition: Partition, from: u64) -> Result<Source, LogError> {
        Ok(match self {
            Self::Embedded(log) => Source::Embedded(log.reader(from)?, log.clone()),
            Self::Kafka(kafka) => Source::Kafka(Box::new(kafka.reader(partition, from).await?)),
        })
    }

    /// Appends a border between archive files; returns the offset after it.
    pub(crate) async fn seal(&self, partition: Partition) -> Result<u64, LogError> {
        Ok(match self {
            Self::Embedded(log) => log.appender().seal().await?.base_offset + 1,
            Self::Kafka(kafka) => kafka.seal(partition).await?,
        })
    }
}

/// Whether a stage has to do with records of this family.
pub(crate) fn concerns(stage: Stage, family: Family) -> bool {
    match stage {
        Stage::Archive | Stage::Ledger => true,
        Stage::Visits => family != Family::Dead,
    }
}

/// Records of one partition.
pub(crate) enum Source {
    Embedded(Reader, Log),
    Kafka(Box<KafkaReader>),
}

impl Source {
    pub(crate) async fn next(&mut self, max_bytes: usize) -> Result<Chunk, ReadError> {
        match self {
            Self::Embedded(reader, _) => reader.next(max_bytes).await,
            Self::Kafka(reader) => reader.next(max_bytes).await,
        }
    }

    /// Why nothing comes, if the log cannot be reached.
    pub(crate) fn last_error(&self) -> Option<String> {
        match self {
            Self::Embedded(..) => None,
            Self::Kafka(reader) => reader.last_error(),
        }
    }

    pub(crate) fn position(&self) -> u64 {
        match self {
            Self::Embedded(reader, _) => reader.position(),
            Self::Kafka(reader) => reader.position(),
        }
    }

    /// Whether nothing more is to be read now; not while the log cannot be reached.
    pub(crate) async fn is_at_end(&mut self) -> bool {
        match self {
            Self::Embedded(reader, log) => reader.position() >= log.end_offset(),
            Self::Kafka(reader) => reader.reached_end().await,
        }
    }
}

/// Where a stage notes how far it has come. With Kafka the note doubles as a fence:
/// it is refused to who has lost the partition.
#[derive(Clone)]
pub(crate) enum Commits {
    Embedded(Log, &'static str),
    Group(Arc<Membership>),
}

impl Commits {
    pub(crate) async fn commit(&self, partition: Partition, offset: u64) -> Result<(), LogError> {
        match self {
            Self::Embedded(log, consumer) => Ok(log.positions().commit(consumer, offset)?),
            Self::Group(membership) => {
                membership.commit(partition, offset).await.map_err(|error| match error {
                    CommitError::Fenced { .. } => LogError::Fenced(error),
                    other => LogError::Commit(other),
                })
            }
        }
    }
}
