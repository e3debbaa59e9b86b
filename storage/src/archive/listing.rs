//! Which files count. Between two steps of a compaction a file and the smaller ones
//! that it was made of are both there: the larger one counts.

use std::cmp::Reverse;

use futures_util::TryStreamExt;
use object_store::path::Path;

use super::{Archive, ArchiveError, FileInfo, name};
use crate::log::Partition;

/// The files of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// Those that count, by their offsets.
    pub(super) files: Vec<FileInfo>,
    /// Those whose rows are all in a file that counts.
    pub(super) covered: Vec<FileInfo>,
}

impl Archive {
    pub(super) async fn listing(&self, partition: Partition) -> Result<Listing, ArchiveError> {
        let prefix = Path::from(format!("{}/{partition}", name::BEACONS));
        let objects: Vec<_> = self.store.list(Some(&prefix)).try_collect().await?;
        let mut found = Vec::with_capacity(objects.len());
        for object in objects {
            let mut info = FileInfo::parse(object.location.as_ref())
                .ok_or_else(|| ArchiveError::ForeignFile(object.location.to_string()))?;
            info.bytes = object.size;
            found.push(info);
        }
        Listing::of(found)
    }

    /// Files of dead letters whose rows are in a file of larger range.
    pub(super) async fn covered_dead(
        &self,
        partition: Partition,
        files: &[FileInfo],
    ) -> Result<Vec<FileInfo>, ArchiveError> {
        let prefix = Path::from(format!("{}/{partition}", name::DEAD));
        let objects: Vec<_> = self.store.list(Some(&prefix)).try_collect().await?;
        let mut covered = Vec::new();
        for object in objects {
            let info = FileInfo::parse_dead(object.location.as_ref())
                .ok_or_else(|| ArchiveError::ForeignFile(object.location.to_string()))?;
            let behind = files.partition_point(|file| file.first_offset <= info.first_offset);
            let around = behind.checked_sub(1).map(|index| &files[index]);
            if around.is_some_and(|file| file.covers(&info) && file.dead_path() != info.dead_path()) {
                covered.push(info);
            }
        }
        Ok(covered)
    }
}

impl Listing {
    /// Sorts the files; neither a hole nor a file that only partly covers another is
    /// accepted.
    fn of(mut found: Vec<FileInfo>) -> Result<Self, ArchiveError> {
        // A covering file comes before the first that it covers.
        found.sort_unstable_by_key(|file| (file.first_offset, Reverse(file.last_offset)));
        let mut listing = Self { files: Vec::with_capacity(found.len()), covered: Vec::new() };
        for file in found {
            let Some(last) = listing.files.last() else {
                listing.files.push(file);
                continue;
            };
            let expected = last.last_offset + 1;
            let is_same_range =
                last.first_offset == file.first_offset && last.last_offset == file.last_offset;
            if last.covers(&file) && !is_same_range {
                listing.covered.push(file);
            } else if file.first_offset == expected {
                listing.files.push(file);
            } else {
                return Err(ArchiveError::Broken {
                    before: last.path(),
                    after: file.path(),
                    expected,
                    kind: if file.first_offset > expected { "a hole" } else { "an overlap" },
                });
            }
        }
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(first_offset: u64, last_offset: u64) -> FileInfo {
        let partition = Partition::EMBEDDED;
        FileInfo { partition, first_offset, last_offset, min_received_ms: 1, max_received_ms: 2, bytes: 3 }
    }

    #[test]
    fn a_file_that_covers_others_takes_their_place() {
        let listing = Listing::of(vec![
            file(10, 14),
            file(0, 4),
            file(0, 9),
            file(5, 9),
            file(15, 30),
            file(20, 22),
            file(0, 14),
        ]);
        let listing = listing.unwrap();
        assert_eq!(listing.files, [file(0, 14), file(15, 30)]);
        assert_eq!(listing.covered, [file(0, 9), file(0, 4), file(5, 9), file(10, 14), file(20, 22)]);
    }

    #[test]
    fn what_covers_a_range_in_part_is_an_overlap() {
        for files in [
            vec![file(0, 9), file(5, 12)],
            vec![file(0, 9), file(10, 14), file(12, 20)],
            vec![file(0, 4), file(0, 9), file(8, 20)],
        ] {
            let error = Listing::of(files).unwrap_err().to_string();
            assert!(error.contains("an overlap"), "{error}");
        }
        let other_times = FileInfo { max_received_ms: 9, ..file(0, 9) };
        assert!(Listing::of(vec![file(0, 9), other_times]).is_err(), "nobody knows which one is right");
        let error = Listing::of(vec![file(0, 9), file(2, 3), file(11, 12)]).unwrap_err().to_string();
        assert!(error.contains("a hole") && error.contains("offset 10 should follow"), "{error}");
    }
}
