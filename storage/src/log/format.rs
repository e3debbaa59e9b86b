//! The bytes of a commit and of a record. Pure: no file, no clock.
//!
//! All numbers are little-endian. A reader refuses what it does not understand.

/// First bytes of every commit.
pub(super) const MAGIC: [u8; 4] = *b"FNLC";
pub(super) const VERSION: u16 = 1;
/// Bytes of a commit's header.
pub(super) const HEADER_BYTES: usize = 40;
/// Bytes of a record beside key and value: length, crc, topic, key length.
pub(super) const RECORD_OVERHEAD: usize = 4 + RECORD_BYTES_MIN;
/// The least that a record's length can say: crc, topic, key length.
const RECORD_BYTES_MIN: usize = 4 + 1 + 2;
/// The longest key of a record.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// No commit is longer, whatever the configuration said when it was written: a
/// header that claims more is damage, not a request for memory.
pub(super) const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Topic {
    /// `fanal.v1.Beacon`, key: site, NUL, visitor.
    Beacons = 1,
    /// `fanal.v1.DeadLetter`, key: site.
    Dead = 2,
    /// `fanal.v1.Receipt`, key: site. Written by the log itself, one per site and
    /// minute of a commit.
    Receipts = 3,
    /// How far an import has come; key: identity of the imported file.
    Positions = 4,
    /// A border that the raw archive puts between two files.
    Seal = 5,
    /// Stands in for a record that a repair could not read, so that offsets stay
    /// dense and the loss stays visible.
    Lost = 6,
    /// A record on a Kafka topic that says it is of a version that this program does
    /// not know. The raw archive keeps it among the dead letters.
    Foreign = 7,
    /// Says that lines of its key stand on Kafka's overflow topic, and their time in
    /// decimal milliseconds: whoever builds visits here does not see them.
    Overflowed = 8,
}

impl Topic {
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Beacons,
            2 => Self::Dead,
            3 => Self::Receipts,
            4 => Self::Positions,
            5 => Self::Seal,
            6 => Self::Lost,
            _ => return None,
        })
    }
}

/// A commit's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) base_offset: u64,
    pub(super) record_count: u32,
    pub(super) payload_bytes: u32,
    pub(super) append_time_ms: u64,
    pub(super) payload_crc: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        // 6..8: flags, none yet.
        out[8..16].copy_from_slice(&self.base_offset.to_le_bytes());
        out[16..20].copy_from_slice(&self.record_count.to_le_bytes());
        out[20..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[24..32].copy_from_slice(&self.append_time_ms.to_le_bytes());
        out[32..36].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..36]);
        out[36..40].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header, or says what is wrong with it.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        if bytes[0..4] != MAGIC {
            return Err("no commit begins here (wrong magic)");
        }
        if u32_at(bytes, 36) != crc32fast::hash(&bytes[..36]) {
            return Err("the commit's header does not match its checksum");
        }
        if bytes[4..6] != VERSION.to_le_bytes() || bytes[6..8] != [0, 0] {
            return Err("the commit has a format version that this program does not know; use a newer one");
        }
        let header = Self {
            base_offset: u64_at(bytes, 8),
            record_count: u32_at(bytes, 16),
            payload_bytes: u32_at(bytes, 20),
            append_time_ms: u64_at(bytes, 24),
            payload_crc: u32_at(bytes, 32),
        };
        if header.record_count == 0 || header.payload_len() > PAYLOAD_BYTES_MAX {
            return Err("the commit's header holds impossible sizes");
        }
        Ok(header)
    }

    pub(super) fn payload_len(&self) -> usize {
        self.payload_bytes as usize
    }

    pub(super) fn commit_len(&self) -> usize {
        HEADER_BYTES + self.payload_len()
    }

    /// Offset after the commit's last record.
    pub(super) fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.record_count)
    }
}

/// Whether `bytes`, shorter than a header, can be the beginning of the header of
/// the commit that starts at `base_offset`.
pub(super) fn may_begin_header(bytes: &[u8], base_offset: u64) -> bool {
    let mut expected = [0; 16];
    expected[0..4].copy_from_slice(&MAGIC);
    expected[4..6].copy_from_slice(&VERSION.to_le_bytes());
    expected[8..16].copy_from_slice(&base_offset.to_le_bytes());
    let known = bytes.len().min(expected.len());
    bytes[..known] == expected[..known]
}

/// A record in the buffer that it was read into.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub(super) topic: Topic,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Appends a record; `write_value` appends the value. Nothing is left behind when
/// the key or the value is too long.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    topic: Topic,
    key: &[u8],
    write_value: impl FnOnce(&mut Vec<u8>),
) -> Result<(), &'static str> {
    let key_len = u16::try_from(key.len()).map_err(|_| "the key is longer than 65535 bytes")?;
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.push(topic as u8);
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(key);
    write_value(out);
    let length = out.len() - start - 4;
    if length > PAYLOAD_BYTES_MAX {
        out.truncate(start);
        return Err("the value is longer than a commit may be");
    }
    let length = u32::try_from(length).map_err(|_| "the value is longer than a commit may be")?;
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Bytes of the record that begins at `bytes`, as its length says; `None` if it
/// does not end within `bytes`.
pub(super) fn record_len(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    let whole = length.checked_add(4)?;
    (length >= RECORD_BYTES_MIN && whole <= bytes.len()).then_some(whole)
}

/// Splits the first record off `bytes`; the checksum of the commit vouches for it.
pub(super) fn split_record(bytes: &[u8]) -> Option<(RawRecord<'_>, &[u8])> {
    let (record, rest) = bytes.split_at(record_len(bytes)?);
    let topic = Topic::from_number(record[8])?;
    let key_len = usize::from(u16::from_le_bytes([record[9], record[10]]));
    let (key, value) = record[RECORD_OVERHEAD..].split_at_checked(key_len)?;
    Some((RawRecord { topic, key, value }, rest))
}

/// As `split_record`, but only if the record's own checksum is right.
pub(super) fn split_checked(bytes: &[u8]) -> Option<(RawRecord<'_>, &[u8])> {
    // The cheap tests first: a repair tries this at every byte of a damaged run.
    let (record, rest) = split_record(bytes)?;
    let whole = bytes.len() - rest.len();
    (u32_at(bytes, 4) == crc32fast::hash(&bytes[8..whole])).then_some((record, rest))
}

/// Checks that `payload` is exactly `count` records. `own_crc` also checks each
/// record's checksum.
pub(super) fn check_records(mut payload: &[u8], count: u32, own_crc: bool) -> Result<(), &'static str> {
    for _ in 0..count {
        let split = if own_crc { split_checked(payload) } else { split_record(payload) };
        payload = split.ok_or("a record does not fit its length, topic or checksum")?.1;
    }
    if payload.is_empty() { Ok(()) } else { Err("there are bytes after the last record") }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_any_bit_flipped_is_refused() {
        let header =
            Header { base_offset: 7, record_count: 2, payload_bytes: 30, append_time_ms: 9, payload_crc: 1 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_reads_back_and_a_cut_one_does_not() {
        let mut out = Vec::new();
        put_record(&mut out, Topic::Dead, b"key", |v| v.extend_from_slice(b"value")).unwrap();
        let (record, rest) = split_checked(&out).unwrap();
        assert_eq!((record.topic, record.key, record.value), (Topic::Dead, &b"key"[..], &b"value"[..]));
        assert!(rest.is_empty());
        for len in 0..out.len() {
            assert!(split_record(&out[..len]).is_none(), "{len}");
        }
    }

    #[test]
    fn a_key_that_is_too_long_leaves_nothing_behind() {
        let mut out = vec![1, 2, 3];
        assert!(put_record(&mut out, Topic::Dead, &vec![0; KEY_BYTES_MAX + 1], |_| {}).is_err());
        assert_eq!(out, [1, 2, 3]);
    }
}
