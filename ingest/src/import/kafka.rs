//! Imports into Kafka: a batch and the position behind it are one transaction.

use fanal_kafka::{ImportAppendError, ImportLog, Kafka, KafkaError};
use fanal_storage::log::Batch;
use tokio::sync::Mutex;

use super::ImportTarget;
use super::error::ImportError;
use super::position::{HeadHash, Position};

/// The event log on Kafka; no other process of Fanal is needed.
pub struct KafkaTarget {
    kafka: Kafka,
    /// The import of the file that was looked up last.
    current: Mutex<Option<ImportLog>>,
}

impl KafkaTarget {
    #[must_use]
    pub fn new(kafka: Kafka) -> Self {
        Self { kafka, current: Mutex::new(None) }
    }
}

impl From<KafkaError> for ImportError {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error.to_string())
    }
}

impl ImportTarget for KafkaTarget {
    async fn lookup(&self, head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        let mut current = self.current.lock().await;
        // First: whatever another import of this file was about to store is stored
        // or refused when the positions are read.
        *current = Some(self.kafka.import_log(&head.0).await?);
        let mut positions = Vec::new();
        for value in self.kafka.import_positions(&head.0).await? {
            let position = serde_json::from_slice(&value);
            positions.push(
                position.map_err(|error| ImportError::Kafka(format!("a position is no JSON: {error}")))?,
            );
        }
        positions.sort_by(|a: &Position, b| (a.offset, &a.prefix).cmp(&(b.offset, &b.prefix)));
        Ok(positions)
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        let current = self.current.lock().await;
        let Some(log) = &*current else { return Err(ImportError::Concurrent) };
        log.append(batch).await.map_err(|error| match error {
            ImportAppendError::Fenced => ImportError::Concurrent,
            other => ImportError::Kafka(other.to_string()),
        })
    }

    async fn seal(&self) -> Result<(), ImportError> {
        for partition in self.kafka.partitions() {
            self.kafka.seal(partition).await?;
        }
        Ok(())
    }
}
