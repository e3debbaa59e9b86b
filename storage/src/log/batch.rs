//! What one append makes durable together.

use fanal_model::Receipt;

use super::error::BatchError;
use super::format::{Topic, check_records, put_record, split_record};

/// The largest batch in the form that travels to a running process.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
const BATCH_MAGIC: [u8; 4] = *b"FNLB";
const BATCH_VERSION: u16 = 1;
/// Magic, version, record count, receipt count, bytes of the records.
const BATCH_HEAD_BYTES: usize = 4 + 2 + 4 + 4 + 4;

/// Received, accepted and rejected lines of one site and minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptCounts {
    pub minute_ms: u64,
    pub site: Box<str>,
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
}

/// Receipts that are looked through for one to add to. A batch of many requests has as
/// many as it has sites; beyond these a second entry costs less than the search.
const RECEIPTS_SEARCHED: usize = 16;

/// A place between two records of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    bytes: usize,
    records: u32,
}

/// Records that are durable together or not at all, in the order of `push`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records as they will stand in the log.
    pub(super) records: Vec<u8>,
    pub(super) record_count: u32,
    pub(super) receipts: Vec<ReceiptCounts>,
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch whose buffer takes `bytes` without growing.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { records: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Adds a record; `write_value` appends its value to the buffer it is given
    /// and must leave what stands there alone.
    pub fn push(
        &mut self,
        topic: Topic,
        key: &[u8],
        write_value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), BatchError> {
        let count = self.record_count.checked_add(1).ok_or(BatchError::TooLarge)?;
        put_record(&mut self.records, topic, key, write_value).map_err(BatchError::Record)?;
        self.record_count = count;
        Ok(())
    }

    /// Adds to the counts of `site` in the minute that `minute_ms` begins.
    pub fn receipt(&mut self, minute_ms: u64, site: &str, received: u64, accepted: u64, rejected: u64) {
        let mut last = self.receipts.iter_mut().rev().take(RECEIPTS_SEARCHED);
        match last.find(|r| r.minute_ms == minute_ms && *r.site == *site) {
            Some(counts) => {
                counts.received += received;
                counts.accepted += accepted;
                counts.rejected += rejected;
            }
            None => self.receipts.push(ReceiptCounts {
                minute_ms,
                site: site.into(),
                received,
                accepted,
                rejected,
            }),
        }
    }

    /// The place behind the last record.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.records.len(), records: self.record_count }
    }

    /// Takes back the records behind `mark`, which is a place of this batch. Receipts stay.
    pub fn rewind(&mut self, mark: Mark) {
        self.records.truncate(mark.bytes);
        self.record_count = self.record_count.min(mark.records);
    }

    /// Moves the records behind `mark` into a batch of their own. Receipts stay.
    #[must_use]
    pub fn split_off(&mut self, mark: Mark) -> Self {
        let records = self.records.split_off(mark.bytes.min(self.records.len()));
        let record_count = self.record_count.saturating_sub(mark.records);
        self.record_count -= record_count;
        Self { records, record_count, receipts: Vec::new() }
    }

    /// Whether nothing stands before `mark`.
    #[must_use]
    pub fn begins_at(&self, mark: Mark) -> bool {
        mark.bytes == 0
    }

    /// Bytes of all records.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.records.len()
    }

    /// Bytes of the records behind `mark`.
    #[must_use]
    pub fn bytes_since(&self, mark: Mark) -> usize {
        self.records.len().saturating_sub(mark.bytes)
    }

    /// Neither a record nor a receipt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0 && self.receipts.is_empty()
    }

    /// Records pushed so far; receipts not counted.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    #[must_use]
    pub fn receipts(&self) -> &[ReceiptCounts] {
        &self.receipts
    }

    /// Topic, key and value of each record.
    pub fn records(&self) -> impl Iterator<Item = (Topic, &[u8], &[u8])> {
        let mut rest = &self.records[..];
        std::iter::from_fn(move || {
            let (record, tail) = split_record(rest)?;
            rest = tail;
            Some((record.topic, record.key, record.value))
        })
    }

    /// An upper bound of the bytes that this adds to a commit.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.records.len() + self.receipts.iter().map(receipt_bytes_max).sum::<usize>()
    }

    /// The form that travels to a process that holds the log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BATCH_HEAD_BYTES + self.byte_len() + 4);
        out.extend_from_slice(&BATCH_MAGIC);
        out.extend_from_slice(&BATCH_VERSION.to_le_bytes());
        out.extend_from_slice(&self.record_count.to_le_bytes());
        let receipts = u32::try_from(self.receipts.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&receipts.to_le_bytes());
        let records = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&records.to_le_bytes());
        out.extend_from_slice(&self.records);
        for counts in &self.receipts {
            let mut value = Vec::with_capacity(96);
            encode_receipt(counts, &mut value);
            let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&value);
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads what `to_bytes` wrote. Every record is checked, so that a running log
    /// takes nothing from outside that it could not read again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge);
        }
        let malformed = || BatchError::Malformed("it is cut off");
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(malformed)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(BatchError::Malformed("it does not match its checksum"));
        }
        let mut rest = body;
        let mut take = |len: usize| -> Result<&[u8], BatchError> {
            let (head, tail) = rest.split_at_checked(len).ok_or_else(malformed)?;
            rest = tail;
            Ok(head)
        };
        if take(4)? != BATCH_MAGIC || take(2)? != BATCH_VERSION.to_le_bytes() {
            return Err(BatchError::Malformed(
                "it was made by another version; use the same program on both sides",
            ));
        }
        let record_count = take_u32(&mut take)?;
        let receipt_count = take_u32(&mut take)?;
        let record_bytes = take_u32(&mut take)? as usize;
        let records = take(record_bytes)?;
        check_records(records, record_count, true).map_err(BatchError::Malformed)?;
        let mut batch = Self { records: records.to_vec(), record_count, receipts: Vec::new() };
        if batch.records().any(|(topic, ..)| {
            matches!(topic, Topic::Receipts | Topic::Lost | Topic::Foreign | Topic::Overflowed)
        }) {
            return Err(BatchError::Malformed("it holds records that only the log itself writes"));
        }
        for _ in 0..receipt_count {
            let len = take_u32(&mut take)? as usize;
            let value = Receipt::decode(take(len)?)
                .map_err(|_| BatchError::Malformed("a receipt in it cannot be read"))?;
            batch.receipts.push(ReceiptCounts {
                minute_ms: value.minute_ms,
                site: value.site_code.into(),
                received: value.received,
                accepted: value.accepted,
                rejected: value.rejected,
            });
        }
        if rest.is_empty() { Ok(batch) } else { Err(BatchError::Malformed("there are bytes after its end")) }
    }
}

/// Appends a receipt as the log holds it.
pub(super) fn encode_receipt(counts: &ReceiptCounts, out: &mut Vec<u8>) {
    let ReceiptCounts { minute_ms, ref site, received, accepted, rejected } = *counts;
    Receipt { minute_ms, site_code: site, received, accepted, rejected }.encode(out);
}

/// Five fields of at most eleven bytes, the site in key and value, the framing.
fn receipt_bytes_max(counts: &ReceiptCounts) -> usize {
    5 * 11 + 2 * counts.site.len() + super::format::RECORD_OVERHEAD
}

fn take_u32<'a>(take: &mut impl FnMut(usize) -> Result<&'a [u8], BatchError>) -> Result<u32, BatchError> {
    let bytes = take(4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch::new();
        batch.push(Topic::Beacons, b"site\0visitor", |v| v.extend_from_slice(b"one")).unwrap();
        batch.push(Topic::Dead, b"site", |v| v.extend_from_slice(b"two")).unwrap();
        batch.receipt(60_000, "site", 2, 1, 1);
        batch.receipt(60_000, "site", 1, 1, 0);
        batch
    }

    #[test]
    fn a_batch_travels_unchanged() {
        let batch = batch();
        assert_eq!(Batch::from_bytes(&batch.to_bytes()), Ok(batch.clone()));
        assert_eq!(batch.receipts().len(), 1, "counts of one site and minute are merged");
        let values: Vec<_> = batch.records().map(|(topic, _, value)| (topic, value)).collect();
        assert_eq!(values, [(Topic::Beacons, &b"one"[..]), (Topic::Dead, &b"two"[..])]);
    }

    #[test]
    fn what_stands_behind_a_mark_can_be_taken_back_or_out() {
        let mut whole = batch();
        let mark = whole.mark();
        whole.push(Topic::Beacons, b"site\0visitor", |v| v.extend_from_slice(b"three")).unwrap();
        assert!(whole.bytes_since(mark) > 5);
        let mut cut = whole.clone();
        cut.rewind(mark);
        assert_eq!(cut, batch());
        let rest = whole.split_off(mark);
        assert_eq!(whole, batch());
        let values: Vec<_> = rest.records().map(|(_, _, value)| value.to_vec()).collect();
        assert_eq!((values, rest.record_count()), (vec![b"three".to_vec()], 1));
    }

    #[test]
    fn a_batch_with_any_byte_changed_or_cut_is_refused() {
        let bytes = batch().to_bytes();
        for at in 0..bytes.len() {
            assert!(Batch::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Batch::from_bytes(&bad).is_err(), "changed at {at}");
        }
    }
}
