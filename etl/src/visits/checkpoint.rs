//! The state of open visits with its offset: one atomic write to the archive
//! store, and what the tables know beyond it.

use std::sync::Arc;

use clickhouse_rows::{FoundOutcome, FoundVisit};
use fanal_storage::clickhouse::{ClickHouse, ClickHouseError, OutcomeRow};
use fanal_storage::log::Partition;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use thiserror::Error;

use crate::rows::streamed_version;
use crate::stream::{Engine, EngineConfig, StateError};

/// The newest and one to fall back on, should the disk have lost the newest.
const KEPT: usize = 2;

#[derive(Debug, Error)]
pub(super) enum CheckpointError {
    #[error(
        "the state of open visits cannot be stored or read: {0}; check the archive store's space and permissions"
    )]
    Store(#[from] object_store::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

pub(super) struct Checkpoints {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    /// Is there, with the offset of the newest state, while nobody works on the partition
    /// and who did so last has ended by itself.
    stopped: Path,
    stored_offset: Option<u64>,
}

impl Checkpoints {
    pub(super) fn new(store: Arc<dyn ObjectStore>, partition: Partition) -> Self {
        let stopped = Path::from(format!("visits-stopped/{partition}"));
        Self { store, folder: Path::from(format!("visits/{partition}")), stopped, stored_offset: None }
    }

    /// The offset at which the last worker ended by itself; from now on nobody has.
    pub(super) async fn take_stopped(&self) -> Result<Option<u64>, CheckpointError> {
        let bytes = match self.store.get(&self.stopped).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.store.delete(&self.stopped).await?;
        Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()))
    }

    /// Says that everything up to the newest state is written and nothing is under way.
    pub(super) async fn note_stopped(&self) -> Result<(), CheckpointError> {
        let Some(offset) = self.stored_offset else { return Ok(()) };
        self.store.put(&self.stopped, offset.to_string().into_bytes().into()).await?;
        Ok(())
    }

    pub(super) fn stored_offset(&self) -> Option<u64> {
        self.stored_offset
    }

    /// The newest state that is whole.
    pub(super) async fn load(&self, config: EngineConfig) -> Result<Option<Engine>, CheckpointError> {
        for path in self.list().await?.into_iter().rev() {
            let bytes = self.store.get(&path).await?.bytes().await?;
            match Engine::from_bytes(config, &bytes) {
                Ok(engine) => return Ok(Some(engine)),
                Err(error) => tracing::error!(path = %path, %error, "a checkpoint cannot be used"),
            }
        }
        Ok(None)
    }

    pub(super) async fn store(&mut self, engine: &Engine) -> Result<(), CheckpointError> {
        let offset = engine.end_offset();
        let path = self.folder.clone().join(format!("{offset:020}.state"));
        self.store.put(&path, engine.to_bytes()?.into()).await?;
        self.stored_offset = Some(offset);
        let known = self.list().await?;
        for old in known.iter().take(known.len().saturating_sub(KEPT)) {
            self.store.delete(old).await?;
        }
        Ok(())
    }

    /// All stored states, oldest first.
    async fn list(&self) -> Result<Vec<Path>, CheckpointError> {
        let objects: Vec<_> = self.store.list(Some(&self.folder)).try_collect().await?;
        let mut paths: Vec<Path> = objects.into_iter().map(|object| object.location).collect();
        paths.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        Ok(paths)
    }
}

/// Tells the engine what a process that died wrote after its last checkpoint.
/// Returns the offset up to which the tables are ahead of the state.
pub(super) async fn tell(clickhouse: &ClickHouse, engine: &mut Engine) -> Result<u64, ClickHouseError> {
    const WHAT: &str = "say what it holds beyond the checkpoint";
    let version = streamed_version(engine.end_offset());
    // Rows that streaming wrote have even versions. A visit that it may still
    // touch began at most a day and its timeout before the horizon.
    let since = i64::try_from(engine.horizon_ms() / 1000).unwrap_or(0) - 2 * 86_400;
    let since = since.max(0);
    let streamed = format!(
        "log_partition = {} AND version > {version} AND bitAnd(version, 1) = 0",
        engine.partition().number()
    );
    let visits: Vec<FoundVisit> = clickhouse
        .fetch_all(
            WHAT,
            &format!(
                "SELECT site_code, visitor_code, visit_id, toUnixTimestamp64Milli(started_at) AS started_at_ms \
                 FROM visit_rows FINAL WHERE {streamed} AND visit_date >= toDate({since})"
            ),
        )
        .await?;
    for visit in visits {
        let started_at_ms = u64::try_from(visit.started_at_ms).unwrap_or(0);
        engine.found_in_table(&visit.site_code, &visit.visitor_code, visit.visit_id, started_at_ms);
    }
    let outcomes: Vec<FoundOutcome> = clickhouse
        .fetch_all(
            WHAT,
            &format!(
                "SELECT log_partition, first_offset, site_code, toUnixTimestamp(minute) AS minute, outcome, count \
                 FROM outcome_rows FINAL WHERE {streamed}"
            ),
        )
        .await?;
    for found in outcomes {
        engine.outcome_found_in_table(OutcomeRow::from(found));
    }
    let ahead: u64 = clickhouse
        .fetch_one(
            WHAT,
            &format!(
                "SELECT max(ahead) FROM (\
                 SELECT max(version) AS ahead FROM visit_rows WHERE {streamed} AND visit_date >= toDate({since}) UNION ALL \
                 SELECT max(version) FROM event_rows WHERE {streamed} AND event_date >= toDate({since}) UNION ALL \
                 SELECT max(version) FROM outcome_rows WHERE {streamed})"
            ),
        )
        .await?;
    Ok(ahead / 2)
}

mod clickhouse_rows {
    use fanal_storage::clickhouse::OutcomeRow;
    use serde::Deserialize;

    #[derive(clickhouse::Row, Deserialize)]
    pub(super) struct FoundVisit {
        pub(super) site_code: String,
        pub(super) visitor_code: String,
        pub(super) visit_id: u64,
        pub(super) started_at_ms: i64,
    }

    #[derive(clickhouse::Row, Deserialize)]
    pub(super) struct FoundOutcome {
        log_partition: u32,
        first_offset: u64,
        site_code: String,
        minute: u32,
        outcome: String,
        count: u64,
    }

    impl From<FoundOutcome> for OutcomeRow {
        fn from(found: FoundOutcome) -> Self {
            Self {
                log_partition: found.log_partition,
                first_offset: found.first_offset,
                site_code: found.site_code,
                minute: found.minute,
                outcome: found.outcome,
                count: found.count,
                version: 0,
                is_deleted: 0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn only_who_ended_by_itself_leaves_word_of_it_and_it_counts_once() {
        let config =
            EngineConfig { partition: Partition::EMBEDDED, key_partitions: 1, allowed_lateness_ms: 120_000 };
        let store = Arc::new(InMemory::new());
        let mut checkpoints = Checkpoints::new(store.clone(), Partition::EMBEDDED);
        assert_eq!(checkpoints.take_stopped().await.unwrap(), None);
        checkpoints.store(&Engine::new(config, 7)).await.unwrap();
        // Killed here, nobody knows what it had sent after the checkpoint.
        assert_eq!(checkpoints.take_stopped().await.unwrap(), None);
        checkpoints.note_stopped().await.unwrap();
        let next = Checkpoints::new(store, Partition::EMBEDDED);
        assert_eq!(next.take_stopped().await.unwrap(), Some(7));
        assert_eq!(next.take_stopped().await.unwrap(), None, "the next one has not ended yet");
        assert_eq!(next.load(config).await.unwrap().map(|engine| engine.end_offset()), Some(7));
    }
}
