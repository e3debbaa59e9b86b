//! The rules' file, read again when it changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fanal_service::stop::Stop;

use super::{Rules, RulesCount, RulesError, RulesHandle};
use crate::metrics;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What changes when somebody writes a file, allows it to be read, or puts another one in its
/// place; none where there is no file.
type Look = Option<[i128; 6]>;

fn look(path: &Path) -> Look {
    let found = std::fs::metadata(path).ok()?;
    let (written, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    let times = [written.0, written.1, changed.0, changed.1].map(i128::from);
    Some([found.ino().into(), found.size().into(), times[0], times[1], times[2], times[3]])
}

impl RulesHandle {
    /// The rules of a file; none where there is no file.
    pub fn read(path: &Path) -> Result<Self, RulesError> {
        let handle = Self::default();
        handle.replace(path)?;
        Ok(handle)
    }

    /// What a file holds that is to become the rules. Unlike for [`Self::read`], it must be there.
    pub fn check(path: &Path) -> Result<RulesCount, RulesError> {
        let missing = || RulesError::Missing { path: path.display().to_string() };
        Rules::read(path)?.map(|rules| rules.count()).ok_or_else(missing)
    }

    /// What is in force now; none where there is no file.
    fn replace(&self, path: &Path) -> Result<Option<RulesCount>, RulesError> {
        let read = Rules::read(path)?;
        let count = read.as_ref().map(Rules::count);
        let mut rules = read.unwrap_or_default();
        rules.go_on_from(&self.0.load());
        self.0.store(Arc::new(rules));
        Ok(count)
    }

    /// Reads the file again when it has changed and two looks find the same, so that a file
    /// that is just being written is left alone; until `stop`. What is wrong with it is logged,
    /// and the rules before it stay.
    pub async fn watch(self, path: PathBuf, stop: Stop) {
        // What is in force may be older than the first look.
        let (mut seen, mut in_force) = (None, None);
        loop {
            let (handle, at) = (self.clone(), path.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let now = Some(look(&at));
                let is_due = now == seen && now != in_force;
                (now, is_due && handle.reload(&at))
            });
            if let Ok((now, is_done)) = looked.await {
                seen = now;
                if is_done {
                    in_force = now;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = stop.stopped() => return,
            }
        }
    }

    /// Whether there is nothing more to try with this version of the file.
    fn reload(&self, path: &Path) -> bool {
        let result = self.replace(path);
        metrics::rules_are_stale(result.is_err());
        match result {
            Ok(Some(RulesCount { quotas, kill_rules })) => {
                tracing::info!(file = %path.display(), quotas, kill_rules, "rules of the collector are in force");
                true
            }
            Ok(None) => {
                tracing::info!(file = %path.display(), "no file of rules: no quotas and no kill rules");
                true
            }
            Err(error) => {
                tracing::error!(%error, "rules of the collector not reread, the old ones stay");
                // Its content will not get better by itself.
                !matches!(error, RulesError::Read { .. })
            }
        }
    }
}
