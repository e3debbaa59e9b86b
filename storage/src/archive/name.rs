//! Names of archive files: they say what is inside, so nothing else has to.

use std::ops::RangeInclusive;

use crate::log::Partition;

pub(super) const BEACONS: &str = "beacons/v1";
pub(super) const DEAD: &str = "dead/v1";

/// A file of the archive, as its name tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileInfo {
    pub partition: Partition,
    pub first_offset: u64,
    pub last_offset: u64,
    /// Event times of the beacons inside; append times when there are none.
    pub min_received_ms: u64,
    pub max_received_ms: u64,
    /// Size of the file; not part of the name.
    pub bytes: u64,
}

impl FileInfo {
    /// The path below the archive's root.
    #[must_use]
    pub fn path(&self) -> String {
        self.path_below(BEACONS)
    }

    /// Where the dead letters of the same offsets are, if there were any.
    #[must_use]
    pub fn dead_path(&self) -> String {
        self.path_below(DEAD)
    }

    /// Whether events from `from_ms` up to, not including, `to_ms` can be inside.
    #[must_use]
    pub fn overlaps(&self, from_ms: u64, to_ms: u64) -> bool {
        self.min_received_ms < to_ms && self.max_received_ms >= from_ms
    }

    /// Offsets after the first at which smaller files may have begun that this one
    /// replaces. Whoever keeps values per file under the file's first offset must drop
    /// what it has under these once it has taken this file.
    #[must_use]
    pub fn replaced_starts(&self) -> RangeInclusive<u64> {
        self.first_offset + 1..=self.last_offset
    }

    /// Whether all offsets of `other` are inside.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.first_offset <= other.first_offset && other.last_offset <= self.last_offset
    }

    fn path_below(&self, root: &str) -> String {
        let Self { partition, first_offset, last_offset, min_received_ms, max_received_ms, .. } = self;
        format!(
            "{root}/{partition}/{first_offset:020}-{last_offset:020}_{min_received_ms}-{max_received_ms}.parquet"
        )
    }

    /// Reads a path; only one that `path` would write is ours.
    pub(super) fn parse(path: &str) -> Option<Self> {
        Self::parse_below(BEACONS, path)
    }

    /// As `parse`, for `dead_path`.
    pub(super) fn parse_dead(path: &str) -> Option<Self> {
        Self::parse_below(DEAD, path)
    }

    fn parse_below(root: &str, path: &str) -> Option<Self> {
        let (partition, name) = path.strip_prefix(root)?.strip_prefix('/')?.split_once('/')?;
        let (offsets, times) = name.strip_suffix(".parquet")?.split_once('_')?;
        let (first, last) = offsets.split_once('-')?;
        let (min, max) = times.split_once('-')?;
        let info = Self {
            partition: Partition::parse(partition)?,
            first_offset: first.parse().ok()?,
            last_offset: last.parse().ok()?,
            min_received_ms: min.parse().ok()?,
            max_received_ms: max.parse().ok()?,
            bytes: 0,
        };
        (info.path_below(root) == path && info.first_offset <= info.last_offset).then_some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_others_are_refused() {
        let info = FileInfo {
            partition: Partition::EMBEDDED,
            first_offset: 5,
            last_offset: 9,
            min_received_ms: 1,
            max_received_ms: 2,
            bytes: 0,
        };
        assert_eq!(info.path(), "beacons/v1/0/00000000000000000005-00000000000000000009_1-2.parquet");
        assert_eq!(FileInfo::parse(&info.path()), Some(info));
        for other in [
            "beacons/v1/0/5-9_1-2.parquet",
            "beacons/v1/0/00000000000000000009-00000000000000000005_1-2.parquet",
            "beacons/v1/0/readme.txt",
            "beacons/v2/0/00000000000000000005-00000000000000000009_1-2.parquet",
        ] {
            assert_eq!(FileInfo::parse(other), None, "{other}");
        }
    }
}
