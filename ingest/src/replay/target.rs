//! Where a replay appends when no other process has to be asked.

use std::time::Duration;

use fanal_storage::log::{AppendError, Batch, EventLog};

use crate::import::{HeadHash, ImportError, ImportTarget, Position};

/// A log that is only busy is asked again, for half a minute in all.
const RETRIES_MAX: u32 = 300;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// An event log, embedded or on Kafka. Knows no positions: what a replay has done stands
/// in its marks.
#[derive(Debug, Clone)]
pub struct LogTarget<L> {
    log: L,
}

impl<L: EventLog> LogTarget<L> {
    pub fn new(log: L) -> Self {
        Self { log }
    }
}

impl<L: EventLog> ImportTarget for LogTarget<L> {
    async fn lookup(&self, _head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        Ok(Vec::new())
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        for _ in 0..RETRIES_MAX {
            match self.log.append(batch.clone()).await {
                Err(AppendError::Overloaded) => tokio::time::sleep(RETRY_PAUSE).await,
                other => return other.map(drop).map_err(ImportError::from),
            }
        }
        Err(AppendError::Overloaded.into())
    }

    /// The archive ends its files by itself.
    async fn seal(&self) -> Result<(), ImportError> {
        Ok(())
    }
}
