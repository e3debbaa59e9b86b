//! Compaction: many small files of a day become few larger ones.
//!
//! Safe to interrupt anywhere. The merged file is put, read back and compared with its
//! own counts before anything is removed, and from the moment that it has its name the
//! smaller ones no longer count, whether they are still there or not. Rows, offsets,
//! dead letters and counts stay what they were. One compaction at a time per partition:
//! that of whoever archives it.

use super::merge::merge;
use super::{Archive, ArchiveError, FileInfo};
use crate::log::Partition;

const DAY_MS: u64 = 86_400_000;
/// Files merged into one at the most: bounds what an interrupted merge did in vain.
const RUN_FILES_MAX: usize = 4096;

/// What is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Files are merged up to about this size.
    pub target_bytes: u64,
    /// Fewer neighbours are left as they are.
    pub files_min: usize,
    /// A day's files are merged this long after the day has ended.
    pub after_day_ms: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { target_bytes: 64 << 20, files_min: 8, after_day_ms: 3_600_000 }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were made.
    pub merged: Vec<FileInfo>,
    /// Smaller files of beacons that were removed, also ones that an interrupted
    /// compaction had left.
    pub removed: u64,
}

impl Compaction {
    /// Runs of neighbours to be merged into one file each. A run lies in one day, so
    /// that a reader of a day has to open nothing of other days.
    fn runs(&self, files: &[FileInfo], now_ms: u64, before_offset: u64) -> Vec<Vec<FileInfo>> {
        let (mut runs, mut run, mut bytes) = (Vec::new(), Vec::<FileInfo>::new(), 0);
        let day = |file: &FileInfo| file.min_received_ms / DAY_MS;
        for file in files {
            let is_over = (day(file) + 1) * DAY_MS + self.after_day_ms <= now_ms;
            let is_one_day = day(file) == file.max_received_ms / DAY_MS;
            let fits = is_over && is_one_day && file.last_offset < before_offset;
            let joins = run.last().is_some_and(|last| day(last) == day(file))
                && bytes + file.bytes <= self.target_bytes
                && run.len() < RUN_FILES_MAX;
            if !(fits && joins) {
                runs.push(std::mem::take(&mut run));
                bytes = 0;
            }
            if fits {
                bytes += file.bytes;
                run.push(file.clone());
            }
        }
        runs.push(run);
        runs.retain(|run| run.len() >= self.files_min.max(2));
        runs
    }
}

impl Archive {
    /// Removes what an interrupted compaction left and merges small files whose offsets
    /// are all before `before_offset`. Stops after a merge for which `go_on` is false.
    /// After an error, or when the program ends in the middle, the next call goes on.
    pub async fn compact(
        &self,
        partition: Partition,
        policy: &Compaction,
        now_ms: u64,
        before_offset: u64,
        go_on: impl Fn() -> bool,
    ) -> Result<Compacted, ArchiveError> {
        let listing = self.listing(partition).await?;
        let mut compacted = Compacted::default();
        let is_around = |file: &&FileInfo| listing.covered.iter().any(|covered| file.covers(covered));
        for file in listing.files.iter().filter(is_around) {
            self.check_counts(file).await?;
        }
        compacted.removed += self.remove_covered(&listing.covered).await?;
        for dead in self.covered_dead(partition, &listing.files).await? {
            self.remove(&dead.dead_path()).await?;
        }
        for run in policy.runs(&listing.files, now_ms, before_offset) {
            if !go_on() {
                break;
            }
            let (mut info, beacons, dead) = merge(self, &run).await?;
            let current = self.listing(partition).await?.files;
            if !current.windows(run.len()).any(|files| files == run) {
                tracing::warn!(%partition, "somebody else compacts this partition; nothing more is merged now");
                break;
            }
            self.put_file(&mut info, beacons, dead).await?;
            self.check_counts(&info).await?;
            compacted.removed += self.remove_covered(&run).await?;
            compacted.merged.push(info);
        }
        Ok(compacted)
    }

    /// Beacons first: `open_dead` relies on it.
    async fn remove_covered(&self, files: &[FileInfo]) -> Result<u64, ArchiveError> {
        for file in files {
            self.remove(&file.path()).await?;
            self.remove(&file.dead_path()).await?;
        }
        Ok(files.len() as u64)
    }

    /// Reads a file as it is stored. What it replaces is removed only if it says of
    /// itself that it is whole.
    async fn check_counts(&self, file: &FileInfo) -> Result<(), ArchiveError> {
        let opened = self.open(file).await?;
        let counts = opened.ledger()?.counts;
        let archived: u64 = counts.values().map(|counts| counts.archived).sum();
        let refused: u64 = counts.values().flat_map(|counts| counts.rejected.values()).sum();
        let dead = match self.open_dead(file).await? {
            Some(dead) => dead.row_count(),
            None => 0,
        };
        if (opened.row_count(), dead) == (archived, refused) {
            return Ok(());
        }
        let detail = format!(
            "it has {} beacons and {dead} dead letters, but counts {archived} and {refused}; nothing was removed",
            opened.row_count()
        );
        Err(ArchiveError::Unreadable { path: file.path(), detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(first_offset: u64, minute: u64, bytes: u64) -> FileInfo {
        let (min, max) = (minute * 60_000, minute * 60_000 + 59_999);
        FileInfo {
            partition: Partition::EMBEDDED,
            first_offset,
            last_offset: first_offset + 9,
            min_received_ms: min,
            max_received_ms: max,
            bytes,
        }
    }

    fn first_offsets(runs: Vec<Vec<FileInfo>>) -> Vec<Vec<u64>> {
        runs.into_iter().map(|run| run.iter().map(|file| file.first_offset).collect()).collect()
    }

    #[test]
    fn neighbours_of_one_day_are_merged_up_to_the_size() {
        let policy = Compaction { target_bytes: 100, files_min: 2, after_day_ms: 1000 };
        let over_midnight = FileInfo { max_received_ms: DAY_MS, ..file(50, 1439, 30) };
        let files = [
            file(0, 0, 40),
            file(10, 1, 40),
            file(20, 2, 20),
            file(30, 3, 90),
            file(40, 1438, 5),
            over_midnight,
            file(60, 1440, 5),
            file(70, 1441, 5),
            file(80, 1442, 5),
        ];
        let two_days = 2 * DAY_MS + 1000;
        let runs = first_offsets(policy.runs(&files, two_days, 1000));
        assert_eq!(runs, [vec![0, 10, 20], vec![30, 40], vec![60, 70, 80]]);
        let runs = first_offsets(policy.runs(&files, two_days - 1, 1000));
        assert_eq!(runs, [vec![0, 10, 20], vec![30, 40]], "the second day is not over long enough");
        let runs = first_offsets(policy.runs(&files, two_days, 79));
        assert_eq!(runs, [vec![0, 10, 20], vec![30, 40]], "file 70 ends at 79");
        let runs = policy.runs(&files, two_days, 80);
        assert_eq!(runs.len(), 3);
        assert!(Compaction { files_min: 4, ..policy }.runs(&files, two_days, 1000).is_empty());
        assert!(Compaction { files_min: 0, ..policy }.runs(&files[..1], two_days, 1000).is_empty());
    }
}
