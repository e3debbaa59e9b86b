//! The raw archive: every beacon as Parquet files, the source of truth from which
//! everything else is rebuilt.
//!
//! A file holds all of one range of log offsets, and its name says which, so the
//! names alone tell where to go on after a crash: no position is stored apart from
//! the data. Where files end is a function of the records alone. A file is never
//! changed, and one whose name exists is never written again.
//!
//! `docs/archive.md` describes names, columns and the ledger for other readers.

mod columns;
mod error;
mod ledger;
mod name;
mod read;
mod rotation;
mod write;

use std::path::Path as LocalPath;
use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::log::Partition;

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

    /// The files of one partition by their offsets, without hole or overlap.
    pub async fn list(&self, partition: Partition) -> Result<Vec<FileInfo>, ArchiveError> {
        let prefix = Path::from(format!("{}/{partition}", name::BEACONS));
        let objects: Vec<_> = self.store.list(Some(&prefix)).try_collect().await?;
        let mut files = Vec::with_capacity(objects.len());
        for object in objects {
            let mut info = FileInfo::parse(object.location.as_ref())
                .ok_or_else(|| ArchiveError::ForeignFile(object.location.to_string()))?;
            info.bytes = object.size;
            files.push(info);
        }
        files.sort_unstable_by_key(|file| (file.first_offset, file.last_offset));
        for pair in files.windows(2) {
            let expected = pair[0].last_offset + 1;
            if pair[1].first_offset != expected {
                return Err(ArchiveError::Broken {
                    before: pair[0].path(),
                    after: pair[1].path(),
                    expected,
                    kind: if pair[1].first_offset > expected { "a hole" } else { "an overlap" },
                });
            }
        }
        Ok(files)
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

    /// Opens a file of `list`.
    pub async fn open(&self, file: &FileInfo) -> Result<ArchiveFile, ArchiveError> {
        let bytes = self.store.get(&Path::from(file.path())).await?.bytes().await?;
        ArchiveFile::new(file.path(), bytes)
    }

    /// The dead letters of the same offsets; `None` when there were none.
    pub async fn open_dead(&self, file: &FileInfo) -> Result<Option<DeadLetters>, ArchiveError> {
        let path = file.dead_path();
        match self.store.get(&Path::from(path.as_str())).await {
            Ok(found) => Ok(Some(DeadLetters::new(path, found.bytes().await?)?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a complete file under its name. One that is there stays: it was made of
    /// the same records.
    async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<u64, ArchiveError> {
        let len = bytes.len() as u64;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&Path::from(path), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(len),
            Err(object_store::Error::AlreadyExists { .. }) => {
                tracing::info!(path, "archive file exists already and is left as it is");
                Ok(self.store.head(&Path::from(path)).await?.size)
            }
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
mod tests;
