//! What was read from the spool becomes batches again. Pure.
//!
//! What must stay true: all records come in their order, and the counts of a batch
//! are those of its records, so that a log which compares the two (it marks lines
//! that have no record) sees the same as when the requests came.

use std::collections::BTreeMap;

use fanal_model::Receipt;
use fanal_storage::log::{Batch, BatchError, Chunk, Record, Topic};

/// Site and counts that no batch has taken yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Left {
    received: u64,
    accepted: u64,
    rejected: u64,
}

/// A chunk of the spool on its way to the log behind it.
pub(super) struct Pieces {
    chunk: Chunk,
    /// Records that are done with, of all that the chunk has.
    done: usize,
    total: usize,
    receipts: BTreeMap<(String, u64), Left>,
}

/// The next batch; `Pieces::confirmed` takes it off.
pub(super) struct Piece {
    pub(super) batch: Batch,
    done: usize,
    receipts: BTreeMap<(String, u64), Left>,
}

impl Pieces {
    pub(super) fn of(chunk: Chunk) -> Self {
        let mut receipts: BTreeMap<(String, u64), Left> = BTreeMap::new();
        let mut total = 0;
        for record in &chunk {
            total += 1;
            if record.topic == Topic::Receipts
                && let Ok(receipt) = Receipt::decode(record.value)
            {
                let left = receipts.entry((receipt.site_code.to_owned(), receipt.minute_ms)).or_default();
                left.received += receipt.received;
                left.accepted += receipt.accepted;
                left.rejected += receipt.rejected;
            }
        }
        Self { chunk, done: 0, total, receipts }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done >= self.total
    }

    pub(super) fn next_offset(&self) -> u64 {
        self.chunk.next_offset()
    }

    /// All records of the chunk, also those that are not sent on.
    pub(super) fn record_count(&self) -> u64 {
        self.total as u64
    }

    /// When the oldest record that is not done was spooled.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.chunk.records().nth(self.done).map(|record| record.append_time_ms)
    }

    /// Records of at most `bytes_max`, but at least one, if any is left.
    pub(super) fn next(&self, bytes_max: usize) -> Result<Piece, BatchError> {
        let mut batch = Batch::new();
        let mut sites: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
        let mut done = self.done;
        for record in self.chunk.records().skip(self.done) {
            if goes_on(&record) {
                let full = batch.byte_len() + record.key.len() + record.value.len() > bytes_max;
                if full && batch.record_count() > 0 {
                    break;
                }
                batch.push(record.topic, record.key, |value| value.extend_from_slice(record.value))?;
                let site = record.key.split(|byte| *byte == 0).next().unwrap_or_default();
                let counts = sites.entry(site).or_default();
                match record.topic {
                    Topic::Beacons => counts.0 += 1,
                    _ => counts.1 += 1,
                }
            }
            done += 1;
        }
        let mut receipts = self.receipts.clone();
        if done < self.total {
            share(&mut batch, &mut receipts, &sites);
        } else {
            // Whatever is left, lines without a record too.
            for ((site, minute_ms), left) in std::mem::take(&mut receipts) {
                if left != Left::default() {
                    batch.receipt(minute_ms, &site, left.received, left.accepted, left.rejected);
                }
            }
        }
        Ok(Piece { batch, done, receipts })
    }

    pub(super) fn confirmed(&mut self, piece: Piece) {
        self.done = piece.done;
        self.receipts = piece.receipts;
    }
}

/// Receipts are counts again. Marks of a repair and probes were nobody's lines.
fn goes_on(record: &Record<'_>) -> bool {
    matches!(record.topic, Topic::Beacons | Topic::Dead)
}

/// Moves the counts of `sites` from `receipts` to `batch`, oldest minute first.
fn share(
    batch: &mut Batch,
    receipts: &mut BTreeMap<(String, u64), Left>,
    sites: &BTreeMap<&[u8], (u64, u64)>,
) {
    for ((site, minute_ms), left) in receipts.iter_mut() {
        let Some((wanted_accepted, wanted_rejected)) = sites.get(site.as_bytes()) else { continue };
        let before = batch.receipts().iter().filter(|counts| *counts.site == **site);
        let (had_accepted, had_rejected) =
            before.fold((0, 0), |(a, r), counts| (a + counts.accepted, r + counts.rejected));
        let accepted = left.accepted.min(wanted_accepted - had_accepted);
        let rejected = left.rejected.min(wanted_rejected - had_rejected);
        let received = (accepted + rejected).min(left.received);
        if received > 0 {
            batch.receipt(*minute_ms, site, received, accepted, rejected);
        }
        left.accepted -= accepted;
        left.rejected -= rejected;
        left.received -= received;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fanal_storage::log::{EventSource, MemoryLog, ReceiptCounts};

    use super::*;

    fn chunk() -> Chunk {
        let log = MemoryLog::new(Arc::new(|| 7));
        for (minute_ms, unaccounted) in [(0, 0), (60_000, 3)] {
            let mut batch = Batch::new();
            for (topic, key) in [
                (Topic::Beacons, &b"a\0v"[..]),
                (Topic::Dead, b"a"),
                (Topic::Beacons, b"b\0w"),
                (Topic::Positions, b""),
            ] {
                batch.push(topic, key, |v| v.extend_from_slice(&[b'x'; 50])).unwrap();
            }
            batch.receipt(minute_ms, "a", 2 + unaccounted, 1, 1);
            batch.receipt(minute_ms, "b", 1, 1, 0);
            log.append_now(&batch).unwrap();
        }
        log.reader(0).unwrap().try_next(usize::MAX).unwrap().unwrap()
    }

    /// All batches of pieces of `bytes_max`.
    fn cut(bytes_max: usize) -> Vec<Batch> {
        let mut pieces = Pieces::of(chunk());
        let mut batches = Vec::new();
        while !pieces.is_done() {
            let piece = pieces.next(bytes_max).unwrap();
            batches.push(piece.batch.clone());
            pieces.confirmed(piece);
        }
        batches
    }

    #[test]
    fn pieces_of_any_size_hold_all_records_in_order_and_the_same_counts() {
        let whole = cut(usize::MAX);
        assert_eq!(whole.len(), 1);
        let totals = |batches: &[Batch]| {
            let mut totals: BTreeMap<_, (u64, u64, u64)> = BTreeMap::new();
            for ReceiptCounts { minute_ms, site, received, accepted, rejected } in
                batches.iter().flat_map(Batch::receipts)
            {
                let total = totals.entry((site.clone(), *minute_ms)).or_default();
                *total = (total.0 + received, total.1 + accepted, total.2 + rejected);
            }
            totals
        };
        for bytes_max in [1, 60, 130, 200, 400] {
            let batches = cut(bytes_max);
            let records: Vec<_> = batches.iter().flat_map(Batch::records).collect();
            assert_eq!(records, whole[0].records().collect::<Vec<_>>(), "{bytes_max}");
            assert_eq!(totals(&batches), totals(&whole), "{bytes_max}");
            for batch in &batches[..batches.len() - 1] {
                let received: u64 = batch.receipts().iter().map(|counts| counts.received).sum();
                assert_eq!(received, u64::from(batch.record_count()), "{bytes_max}");
            }
        }
        assert_eq!(totals(&whole)[&("a".into(), 60_000)], (5, 1, 1), "lines without a record stay visible");
    }

    #[test]
    fn an_unconfirmed_piece_comes_again() {
        let pieces = Pieces::of(chunk());
        let first = pieces.next(60).unwrap().batch;
        assert_eq!(first.record_count(), 1);
        assert_eq!(pieces.next(60).unwrap().batch, first);
        assert_eq!(pieces.oldest_ms(), Some(7));
    }
}
