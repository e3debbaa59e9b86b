//! How much the spool may still take.
//!
//! Counts the bytes on disk, not those that wait: a drained file counts until it is
//! deleted. What must stay true: the count is never less than what the files hold
//! and the batches on their way will add.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How old the word of the file system on free space may be.
const FREE_AGE_MAX: Duration = Duration::from_millis(500);
/// Bytes of a commit beside its records, at most.
const COMMIT_OVERHEAD: u64 = 64;
/// A spool with less room than this is called full; larger requests may be refused before.
const FULL_MARGIN: u64 = 1 << 20;

/// Why a batch finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    Bound,
    FreeFloor,
}

impl NoRoom {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Bound => "bytes_max",
            Self::FreeFloor => "free_bytes_min",
        }
    }
}

pub(super) struct Room {
    /// Holds the spool's files.
    dir: PathBuf,
    bytes_max: u64,
    free_bytes_min: u64,
    account: Mutex<Account>,
}

#[derive(Default)]
struct Account {
    on_disk: u64,
    on_their_way: u64,
    /// Free bytes of the disk, and when it said so.
    free: Option<(u64, Instant)>,
}

impl Room {
    pub(super) fn new(dir: PathBuf, bytes_max: u64, free_bytes_min: u64) -> io::Result<Self> {
        let room = Self { dir, bytes_max, free_bytes_min, account: Mutex::default() };
        room.recount()?;
        Ok(room)
    }

    /// Sets `bytes` aside until the reservation ends. `nothing_waits` lets a batch
    /// into a spool whose only file is drained but not yet deleted.
    pub(super) fn reserve(
        &self,
        bytes: usize,
        nothing_waits: impl Fn() -> bool,
    ) -> Result<Reservation<'_>, NoRoom> {
        let bytes = bytes as u64 + COMMIT_OVERHEAD;
        let mut account = self.lock();
        let taken = account.on_disk + account.on_their_way;
        let first = account.on_their_way == 0 && bytes <= self.bytes_max;
        if taken + bytes > self.bytes_max && !(first && nothing_waits()) {
            return Err(NoRoom::Bound);
        }
        if self.free(&mut account) < self.free_bytes_min.saturating_add(account.on_their_way + bytes) {
            return Err(NoRoom::FreeFloor);
        }
        account.on_their_way += bytes;
        Ok(Reservation { room: self, bytes })
    }

    /// Why there is no room for a common request, if so.
    pub(super) fn shortage(&self) -> Option<NoRoom> {
        let mut account = self.lock();
        let margin = FULL_MARGIN.min(self.bytes_max / 16);
        let taken = account.on_disk + account.on_their_way;
        if taken + margin > self.bytes_max {
            return Some(NoRoom::Bound);
        }
        (self.free(&mut account) < self.free_bytes_min.saturating_add(margin)).then_some(NoRoom::FreeFloor)
    }

    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.lock().on_disk
    }

    /// Asks the disk what the files take. Held under the lock: a batch that ends
    /// meanwhile is counted twice rather than not at all, until the next time.
    pub(super) fn recount(&self) -> io::Result<()> {
        let mut account = self.lock();
        let mut bytes = 0;
        for entry in fs::read_dir(&self.dir)? {
            match entry?.metadata() {
                Ok(metadata) => bytes += metadata.len(),
                // Deleted since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        account.on_disk = bytes;
        Ok(())
    }

    fn free(&self, account: &mut Account) -> u64 {
        match account.free {
            Some((free, at)) if at.elapsed() < FREE_AGE_MAX => free,
            _ => {
                // A disk that does not answer says so when it is written to.
                let free = rustix::fs::statvfs(&self.dir)
                    .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
                account.free = Some((free, Instant::now()));
                free
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room that a batch on its way to the disk has.
pub(super) struct Reservation<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Reservation<'_> {
    /// The batch is on disk.
    pub(super) fn stored(self) {
        let mut account = self.room.lock();
        account.on_disk += self.bytes;
        if let Some((free, _)) = &mut account.free {
            *free = free.saturating_sub(self.bytes);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.room.lock().on_their_way -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_counts_and_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), [0; 1000]).unwrap();
        let room = Room::new(dir.path().to_owned(), 3000, 0).unwrap();
        let first = room.reserve(1500, || false).unwrap_or_else(|_| panic!("there is room"));
        assert_eq!(room.reserve(500, || true).err(), Some(NoRoom::Bound));
        drop(first);
        room.reserve(500, || false).unwrap_or_else(|_| panic!("there is room")).stored();
        assert_eq!(room.bytes_on_disk(), 1564);
        assert_eq!(room.reserve(1500, || false).err(), Some(NoRoom::Bound));
        assert!(room.reserve(1500, || true).is_ok(), "a drained file keeps nobody out");
        room.recount().unwrap();
        assert_eq!(room.bytes_on_disk(), 1000);
    }

    #[test]
    fn a_disk_below_its_floor_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::new(dir.path().to_owned(), 1 << 30, u64::MAX / 2).unwrap();
        assert_eq!(room.reserve(1, || true).err(), Some(NoRoom::FreeFloor));
        assert_eq!(room.shortage(), Some(NoRoom::FreeFloor));
    }
}
