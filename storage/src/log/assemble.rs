//! Several batches become the bytes of one commit. Pure; shared by the log on
//! disk and its memory twin, so that both write the same bytes.

use std::collections::BTreeMap;

use super::batch::{Batch, ReceiptCounts, encode_receipt};
use super::format::{HEADER_BYTES, Header, Topic, put_record};

/// The bytes of one commit; the buffer is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
}

impl Assembly {
    /// Puts `batches` into one commit at `base_offset`. Receipts of the same site
    /// and minute become one record, after the records of all batches. `None` if
    /// the batches hold nothing.
    pub(super) fn commit<'b>(
        &mut self,
        base_offset: u64,
        append_time_ms: u64,
        batches: impl Iterator<Item = &'b Batch>,
    ) -> Option<(Header, &[u8])> {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES, 0);
        let mut record_count = 0_u32;
        let mut receipts: BTreeMap<(u64, &str), ReceiptCounts> = BTreeMap::new();
        for batch in batches {
            self.bytes.extend_from_slice(&batch.records);
            record_count += batch.record_count;
            for counts in &batch.receipts {
                merge(&mut receipts, counts);
            }
        }
        for counts in receipts.values() {
            // A site code is far shorter than a key may be, and a receipt than a record.
            let put = put_record(&mut self.bytes, Topic::Receipts, counts.site.as_bytes(), |v| {
                encode_receipt(counts, v)
            });
            debug_assert!(put.is_ok(), "a receipt always fits a record");
            record_count += u32::from(put.is_ok());
        }
        if record_count == 0 {
            return None;
        }
        let payload = &self.bytes[HEADER_BYTES..];
        let header = Header {
            base_offset,
            record_count,
            // The queue holds no batch longer than a commit may be.
            payload_bytes: u32::try_from(payload.len()).ok()?,
            append_time_ms,
            payload_crc: crc32fast::hash(payload),
        };
        self.bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        Some((header, &self.bytes))
    }
}

fn merge<'b>(receipts: &mut BTreeMap<(u64, &'b str), ReceiptCounts>, counts: &'b ReceiptCounts) {
    let merged = receipts.entry((counts.minute_ms, &*counts.site)).or_insert_with(|| ReceiptCounts {
        received: 0,
        accepted: 0,
        rejected: 0,
        ..counts.clone()
    });
    merged.received += counts.received;
    merged.accepted += counts.accepted;
    merged.rejected += counts.rejected;
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanal_model::Receipt;

    #[test]
    fn receipts_of_one_site_and_minute_become_one_record() {
        let mut first = Batch::new();
        first.push(Topic::Beacons, b"a", |v| v.push(1)).unwrap();
        first.receipt(0, "a", 1, 1, 0);
        let mut second = Batch::new();
        second.receipt(0, "a", 2, 1, 1);
        second.receipt(60_000, "a", 5, 5, 0);
        let mut assembly = Assembly::default();
        let (header, bytes) = assembly.commit(10, 99, [&first, &second].into_iter()).unwrap();
        assert_eq!((header.base_offset, header.record_count, header.append_time_ms), (10, 3, 99));
        let payload = &bytes[HEADER_BYTES..];
        let (_, rest) = super::super::format::split_checked(payload).unwrap();
        let (record, _) = super::super::format::split_checked(rest).unwrap();
        let receipt = Receipt::decode(record.value).unwrap();
        assert_eq!((receipt.received, receipt.accepted, receipt.rejected), (3, 2, 1));
    }

    #[test]
    fn nothing_makes_no_commit() {
        assert!(Assembly::default().commit(0, 0, [&Batch::new()].into_iter()).is_none());
    }
}
