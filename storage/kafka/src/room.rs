//! What appends may hold in memory at once, by records and bytes. It is given back when
//! the append ends, however it ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use fanal_storage::log::AppendError;

use crate::metrics;

/// Records that wait for confirmation at once; with their bytes the bound of the queue.
const RECORDS_MAX: usize = 500_000;

/// What waits for confirmation, of all batches.
#[derive(Debug, Default)]
pub(crate) struct Room {
    bytes: AtomicUsize,
    records: AtomicUsize,
}

/// A batch's part of the room.
pub(crate) struct Place<'r> {
    room: &'r Room,
    records: usize,
    bytes: usize,
}

impl Room {
    pub(crate) fn take(
        &self,
        records: usize,
        bytes: usize,
        bytes_max: usize,
    ) -> Result<Place<'_>, AppendError> {
        let queued = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let count = self.records.fetch_add(records, Ordering::AcqRel) + records;
        metrics::queued(records, bytes);
        let place = Place { room: self, records, bytes };
        if queued > bytes_max || count > RECORDS_MAX.max(records) {
            return Err(AppendError::Overloaded);
        }
        Ok(place)
    }

    /// Records and bytes that are taken.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.records.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.room.records.fetch_sub(self.records, Ordering::AcqRel);
        metrics::unqueued(self.records, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let room = Room::default();
        let one = room.take(1, 60, 100).unwrap();
        assert!(matches!(room.take(1, 41, 100), Err(AppendError::Overloaded)));
        let two = room.take(2, 40, 100).unwrap();
        assert_eq!(room.taken(), (3, 100));
        drop(one);
        assert_eq!(room.taken(), (2, 40));
        drop(two);
        assert!(
            room.take(RECORDS_MAX + 1, 1, 100).is_ok(),
            "a large batch alone is not refused for its number"
        );
        assert_eq!(room.taken(), (0, 0));
    }
}
