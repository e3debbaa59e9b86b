//! Where files of the raw archive and states of open visits lie: folders of this
//! machine, or HDFS.

use std::sync::Arc;

use anyhow::Context;
use fanal_hdfs::HdfsStore;
use fanal_storage::archive::Archive;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;

use super::parts::make_folder;
use crate::config::{ArchiveStore, Config};

pub(super) struct Stores {
    pub(super) archive: Archive,
    pub(super) checkpoints: Arc<dyn ObjectStore>,
}

impl Stores {
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        match config.archive.store {
            ArchiveStore::Local => {
                let checkpoints = make_folder(config.path("checkpoints"))?;
                Ok(Self {
                    archive: Archive::local(&config.path("archive"))?,
                    checkpoints: Arc::new(LocalFileSystem::new_with_prefix(&checkpoints)?.with_fsync(true)),
                })
            }
            ArchiveStore::Hdfs => {
                let store = Arc::new(HdfsStore::new(config.archive.hdfs.clone())?);
                Ok(Self {
                    archive: Archive::on(Arc::new(PrefixStore::new(Arc::clone(&store), ARCHIVE))),
                    checkpoints: Arc::new(PrefixStore::new(store, "checkpoints")),
                })
            }
        }
    }
}

/// The archive's folder, below what the configuration names.
const ARCHIVE: &str = "archive";

/// The archive's store. Unlike what writes the archive, this removes nothing that
/// looks left over: a running process may be writing it now.
pub(crate) fn archive_store(config: &Config) -> anyhow::Result<Arc<dyn ObjectStore>> {
    match config.archive.store {
        ArchiveStore::Local => {
            let dir = config.path(ARCHIVE);
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            Ok(Arc::new(LocalFileSystem::new_with_prefix(&dir)?.with_fsync(true)))
        }
        ArchiveStore::Hdfs => {
            Ok(Arc::new(PrefixStore::new(HdfsStore::new(config.archive.hdfs.clone())?, ARCHIVE)))
        }
    }
}
