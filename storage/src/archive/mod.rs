//! The raw archive: every beacon as Parquet files, the source of truth from which
//! everything else is rebuilt.
//!
//! A file holds all of one range of log offsets, and its name says which, so the
//! names alone tell where to go on after a crash: no position is stored apart from
//! the data. Where files end is a function of the records alone. A file is never
//! changed, and one whose name exists is never written again. Compaction puts one
//! file over the ranges of many small ones before it removes them.
//!
//! `docs/archive.md` describes names, columns and the ledger for other readers.

mod columns;
mod compact;
mod encode;
mod error;
mod ledger;
mod listing;
mod merge;
mod name;
mod read;
mod rotation;
mod write;

use std::path::Path as LocalPath;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::log::Partition;

pub use compact::{Compacted, Compaction};
pub use error::ArchiveError;
pub use ledger::{Ledger, LedgerCounts, LedgerKey};
pub use name::FileInfo;
pub use read::{ArchiveFile, ArchivedBeacon, ArchivedLetter, DeadLetters, Filter, Rows};
pub use rotation::Rotation;
pub use write::{ArchiveWriter, read_beacon};

/// The raw archive of one event log.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
}

impl Archive {
    /// The archive in a local folder, created if it is not there. What a crash left
    /// half written is removed: its name was never given, so nobody relied on it.
    pub fn local(dir: &LocalPath) -> Result<Self, ArchiveError> {
        let io = |source| ArchiveError::Folder { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        remove_leftovers(dir).map_err(io)?;
        let store = LocalFileSystem::new_with_prefix(dir)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// The archive in any object store whose `put` is atomic and durable.
    #[must_use]
    pub fn on(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// The files of one partition by their offsets, without hole or overlap. Files
    /// whose range a larger one covers are left out.
    pub async fn list(&self, partition: Partition) -> Result<Vec<FileInfo>, ArchiveError> {
        Ok(self.listing(partition).await?.files)
    }

    /// All partitions that have files.
    pub async fn partitions(&self) -> Result<Vec<Partition>, ArchiveError> {
        let found = self.store.list_with_delimiter(Some(&Path::from(name::BEACONS))).await?;
        if let Some(object) = found.objects.first() {
            return Err(ArchiveError::ForeignFile(object.location.to_string()));
        }
        let parse = |folder: &Path| {
            let name = folder.filename().and_then(Partition::parse);
            name.ok_or_else(|| ArchiveError::ForeignFile(folder.to_string()))
        };
        let mut partitions = found.common_prefixes.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// The offset from which the archive goes on; `None` if it is empty.
    pub async fn resume_offset(&self, partition: Partition) -> Result<Option<u64>, ArchiveError> {
        Ok(self.list(partition).await?.last().map(|file| file.last_offset + 1))
    }

    /// Opens a file of `list`. [`ArchiveError::Gone`] says that it was merged since
    /// then: list again.
    pub async fn open(&self, file: &FileInfo) -> Result<ArchiveFile, ArchiveError> {
        let path = file.path();
        match self.fetch(&path).await? {
            Some(bytes) => ArchiveFile::new(path, bytes),
            None => Err(ArchiveError::Gone(path)),
        }
    }

    /// The dead letters of the same offsets; `None` when there were none. As `open`
    /// for a file that was merged since it was listed.
    pub async fn open_dead(&self, file: &FileInfo) -> Result<Option<DeadLetters>, ArchiveError> {
        let path = file.dead_path();
        if let Some(bytes) = self.fetch(&path).await? {
            return DeadLetters::new(path, bytes).map(Some);
        }
        // Of a merged file the beacons go first: where they are, nothing was removed.
        match self.size(&file.path()).await? {
            Some(_) => Ok(None),
            None => Err(ArchiveError::Gone(file.path())),
        }
    }

    /// The bytes of a file; `None` if it is not there, also when it was removed while
    /// it was read.
    async fn fetch(&self, path: &str) -> Result<Option<Bytes>, ArchiveError> {
        let read = async { self.store.get(&Path::from(path)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => match self.size(path).await {
                Ok(None) => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    async fn size(&self, path: &str) -> Result<Option<u64>, ArchiveError> {
        match self.store.head(&Path::from(path)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts the files of one range under their names. The beacons come last: their
    /// name is what says that the range is done.
    async fn put_file(
        &self,
        info: &mut FileInfo,
        beacons: Vec<u8>,
        dead: Option<Vec<u8>>,
    ) -> Result<(), ArchiveError> {
        if let Some(dead) = dead {
            let dead = Bytes::from(dead);
            match self.put(&info.dead_path(), dead.clone(), PutMode::Create).await {
                // Left by a writer that got no further, perhaps of another version.
                Err(ArchiveError::Conflict { .. }) => {
                    self.put(&info.dead_path(), dead, PutMode::Overwrite).await?;
                }
                other => other?,
            }
        }
        info.bytes = beacons.len() as u64;
        self.put(&info.path(), beacons.into(), PutMode::Create).await
    }

    /// Puts a complete file under its name. One of the same length that is there was
    /// made of the same records, and stays.
    async fn put(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<(), ArchiveError> {
        let ours = bytes.len() as u64;
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(&Path::from(path), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => match self.size(path).await? {
                Some(there) if there == ours => {
                    tracing::info!(path, "archive file exists already and is left as it is");
                    Ok(())
                }
                Some(there) => Err(ArchiveError::Conflict { path: path.to_owned(), there, ours }),
                None => Err(ArchiveError::Gone(path.to_owned())),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file; one that is not there is no error.
    async fn remove(&self, path: &str) -> Result<(), ArchiveError> {
        match self.store.delete(&Path::from(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The local store writes beside the final name, with `#` and a number behind it.
fn remove_leftovers(dir: &LocalPath) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_leftovers(&entry.path())?;
            continue;
        }
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.split_once(".parquet#")).map(|(_, suffix)| suffix);
        if suffix.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())) {
            tracing::info!(file = %entry.path().display(), "removed a half written archive file");
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod earlier;
#[cfg(test)]
mod tests;
