//! Reading dead letters out of the archive, one file in memory at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use fanal_model::Source;
use fanal_storage::archive::{Archive, ArchiveError, ArchivedLetter, FileInfo};
use fanal_storage::log::Partition;
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::mpsc;

use super::ReplayError;
use super::filter::LetterId;

/// Where the archive keeps dead letters.
const DEAD: &str = "dead/v1";
/// Letters that are handed over at once.
const CHUNK_LETTERS: usize = 1000;
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait for who reads them.
const CHUNKS_QUEUED: usize = 2;
/// How often a listing that changed while it was made is made again.
const LISTINGS_MAX: u32 = 10;

/// A dead letter with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub id: LetterId,
    pub append_time_ms: u64,
    pub received_at_ms: u64,
    pub site_code: String,
    pub reason: String,
    pub rules_version: u32,
    pub source: Source,
    pub node: String,
    pub bytes: Vec<u8>,
}

impl Letter {
    fn of(partition: Partition, archived: &ArchivedLetter<'_>) -> Self {
        let letter = &archived.letter;
        Self {
            id: LetterId { partition, offset: archived.log_offset },
            append_time_ms: archived.append_time_ms,
            received_at_ms: letter.received_at_ms,
            site_code: letter.site_code.to_owned(),
            reason: letter.reason.to_owned(),
            rules_version: letter.rules_version,
            source: letter.source,
            node: letter.node.to_owned(),
            bytes: letter.bytes.to_vec(),
        }
    }
}

/// The archive's dead letters, and the marks beside them. Clones share it.
#[derive(Clone)]
pub struct DeadLetterStore {
    pub(super) store: Arc<dyn ObjectStore>,
    archive: Archive,
}

impl DeadLetterStore {
    /// On the archive's store. Reads while others write to it.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { archive: Archive::on(Arc::clone(&store)), store }
    }

    /// Partitions whose records are archived, each with the offset that comes next: a
    /// change says that more was archived.
    pub async fn ends(&self) -> Result<Vec<(Partition, u64)>, ReplayError> {
        let mut ends = Vec::new();
        for partition in self.archive.partitions().await? {
            if let Some(end) = self.archive.resume_offset(partition).await? {
                ends.push((partition, end));
            }
        }
        Ok(ends)
    }

    /// Partitions with dead letters.
    pub(super) async fn partitions(&self) -> Result<Vec<Partition>, ReplayError> {
        let found = self.store.list_with_delimiter(Some(&Path::from(DEAD))).await?;
        let mut partitions: Vec<_> =
            found.common_prefixes.iter().filter_map(|path| Partition::parse(path.filename()?)).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// The archive files of a partition that have dead letters, by their offsets.
    pub(super) async fn files(&self, partition: Partition) -> Result<Vec<FileInfo>, ReplayError> {
        let mut before = self.dead_paths(partition).await?;
        for _ in 0..LISTINGS_MAX {
            let files = self.archive.list(partition).await?;
            let after = self.dead_paths(partition).await?;
            // Merging puts a larger file first and removes what it covers last, so that
            // a listing during which neither happened is whole.
            if before == after {
                return Ok(files.into_iter().filter(|file| after.contains(&file.dead_path())).collect());
            }
            before = after;
        }
        Err(ReplayError::Reading("the archive's files do not come to rest".to_owned()))
    }

    async fn dead_paths(&self, partition: Partition) -> Result<BTreeSet<String>, ReplayError> {
        let prefix = Path::from(format!("{DEAD}/{partition}"));
        let objects: Vec<_> = self.store.list(Some(&prefix)).try_collect().await?;
        Ok(objects.into_iter().map(|object| object.location.to_string()).collect())
    }

    /// The letters of a file, in chunks and in the order of the log.
    pub(super) async fn read(&self, file: &FileInfo) -> Result<Chunks, ReplayError> {
        let Some(dead) = self.archive.open_dead(file).await? else {
            return Err(ArchiveError::Gone(file.dead_path()).into());
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_QUEUED);
        let partition = file.partition;
        let reading = tokio::task::spawn_blocking(move || {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            let read = dead.for_each(|archived| {
                // Nobody listens any more: the rest is read in vain, at most one file.
                if sender.is_closed() {
                    return;
                }
                bytes += archived.letter.bytes.len();
                chunk.push(Letter::of(partition, &archived));
                if chunk.len() >= CHUNK_LETTERS || bytes >= CHUNK_BYTES {
                    bytes = 0;
                    sender.blocking_send(std::mem::take(&mut chunk)).ok();
                }
            });
            sender.blocking_send(chunk).ok();
            read
        });
        Ok(Chunks { chunks, reading })
    }
}

/// The letters of one file as they are read.
pub(super) struct Chunks {
    chunks: mpsc::Receiver<Vec<Letter>>,
    reading: tokio::task::JoinHandle<Result<(), ArchiveError>>,
}

impl Chunks {
    pub(super) async fn next(&mut self) -> Option<Vec<Letter>> {
        self.chunks.recv().await
    }

    /// After the last chunk: whether the file was read to its end.
    pub(super) async fn end(self) -> Result<(), ReplayError> {
        let read = self.reading.await.map_err(|error| ReplayError::Reading(error.to_string()))?;
        Ok(read?)
    }
}
