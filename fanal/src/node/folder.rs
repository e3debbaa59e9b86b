//! The data folder belongs to one process at a time.
//!
//! Never decides what is in the folder. What must stay true: whoever opens parts holds the
//! lock, and gives it back when the last of them is closed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use fanal_storage::log::OpenError;
use thiserror::Error;

const LOCK: &str = "lock";
/// How often, and how long apart, a lock that is held is tried again: a process that is ending,
/// or a child between fork and exec, may hold it for a moment longer.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// The data folder belongs to a running process.
#[derive(Debug, Error)]
#[error(
    "the data folder {} is in use by process {pid}; stop that process, or name another folder", dir.display()
)]
pub(crate) struct InUse {
    dir: PathBuf,
    pid: String,
}

impl InUse {
    /// Whether a start failed because another process has the folder, or the log in it.
    pub(crate) fn is(error: &anyhow::Error) -> bool {
        error.is::<Self>() || matches!(error.downcast_ref(), Some(OpenError::InUse { .. }))
    }
}

/// Nobody else uses the data folder while this is there.
pub(crate) struct Folder(#[expect(dead_code, reason = "the lock ends with the file")] File);

impl Folder {
    /// Takes the folder, which must be there.
    pub(crate) async fn take(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(LOCK);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.with_context(|| format!("cannot make {}", path.display()))?;
        try_lock(&mut file, dir).await?;
        // Only a help for people. A full disk must not keep the process from starting.
        if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
            tracing::warn!(%error, "cannot write the process id into the lock file");
        }
        Ok(Self(file))
    }

    /// Fails if another process has the folder now; makes nothing.
    pub(crate) async fn is_free(dir: &Path) -> anyhow::Result<()> {
        match OpenOptions::new().read(true).write(true).open(dir.join(LOCK)) {
            Ok(mut file) => try_lock(&mut file, dir).await,
            // What else is wrong with it shows when it is taken.
            Err(_) => Ok(()),
        }
    }
}

async fn try_lock(file: &mut File, dir: &Path) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", dir.join(LOCK).display()));
            }
        }
    }
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok();
    let pid = if pid.trim().is_empty() { "(unknown)" } else { pid.trim() };
    Err(InUse { dir: dir.to_owned(), pid: pid.to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_taken_is_refused_with_the_process_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        Folder::is_free(dir.path()).await.unwrap();
        assert!(!dir.path().join(LOCK).exists(), "a look makes nothing");
        let folder = Folder::take(dir.path()).await.unwrap();
        for refused in [Folder::is_free(dir.path()).await, Folder::take(dir.path()).await.map(drop)] {
            let error = refused.unwrap_err();
            assert!(InUse::is(&error));
            assert!(
                error.to_string().contains(&format!("in use by process {};", std::process::id())),
                "{error}"
            );
        }
        drop(folder);
        Folder::is_free(dir.path()).await.unwrap();
        Folder::take(dir.path()).await.map(drop).unwrap();
    }
}
