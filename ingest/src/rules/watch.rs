//! The rules' file, read again when it changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fanal_service::stop::Stop;

use super::{Rules, RulesError, RulesHandle};
use crate::metrics;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What changes when somebody writes a file or puts another one in its place.
type Look = Option<(u64, u64, i64, i64)>;

fn look(path: &Path) -> Look {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

impl RulesHandle {
    /// The rules of a file; none where there is no file.
    pub fn read(path: &Path) -> Result<Self, RulesError> {
        let handle = Self::default();
        handle.replace(path)?;
        Ok(handle)
    }

    fn replace(&self, path: &Path) -> Result<(), RulesError> {
        self.0.store(Arc::new(Rules::read(path)?));
        Ok(())
    }

    /// Reads the file again whenever it changed, until `stop`. What is wrong with it is
    /// logged, and the rules before it stay.
    pub async fn watch(self, path: PathBuf, stop: Stop) {
        let mut seen = None;
        loop {
            let (handle, at) = (self.clone(), path.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let now = Some(look(&at));
                if now != seen {
                    handle.reload(&at);
                }
                now
            });
            seen = looked.await.unwrap_or(seen);
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = stop.stopped() => return,
            }
        }
    }

    fn reload(&self, path: &Path) {
        let result = self.replace(path);
        metrics::rules_are_stale(result.is_err());
        match result {
            Ok(()) => tracing::info!(file = %path.display(), "rules of the collector are in force"),
            Err(error) => tracing::error!(%error, "rules of the collector not reread, the old ones stay"),
        }
    }
}
