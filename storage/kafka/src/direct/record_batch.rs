//! One partition's records as a Kafka record batch, version 2: written once into a kept
//! buffer, compressed if that makes them smaller, and the same bytes with every try.
//!
//! Never looks into keys or values. What must stay true: a batch that was stamped with a
//! producer and a sequence is never changed again while its fate is open.

use super::compress::Compressor;
use super::wire::{put_varint, varint_len};
use crate::record::KIND_HEADER;

/// Bytes of a batch before its records.
pub(super) const HEAD_BYTES: usize = 61;
/// Where the checksum stands; it covers everything behind it.
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
/// Below this, a record or two, compression costs more than it saves: repeats are few.
const COMPRESSED_BYTES_MIN: usize = 1024;
/// Buffers above this are given back when the batch is decided.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// A whole record batch in a partition's buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    from: usize,
    to: usize,
    compressed: bool,
    pub(super) records: i32,
}

/// Who stamps a batch, so that a broker tells a second try from a second batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
}

/// What of a record goes to Kafka.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'r> {
    pub(crate) key: Option<&'r [u8]>,
    pub(crate) value: Option<&'r [u8]>,
    /// The content of the header that tells records apart that are no lines.
    pub(crate) kind: Option<&'r [u8]>,
}

/// Record batches of one partition, in the order in which they must arrive.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Batches as they are before compression, each with room for its head.
    plain: Vec<u8>,
    /// Compressed batches.
    packed: Vec<u8>,
    chunks: Vec<Chunk>,
    open_from: usize,
    open_records: i32,
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.open_records == 0 && self.chunks.is_empty()
    }

    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Adds a record; begins another batch where this one would be longer than `max`.
    pub(super) fn push(&mut self, content: Content<'_>, max: usize, now_ms: i64, with: &mut Compressor) {
        let needed = HEAD_BYTES + content.len_max();
        if self.open_records > 0 && self.plain.len() - self.open_from + needed > max {
            self.close(now_ms, with);
        }
        if self.open_records == 0 {
            self.open_from = self.plain.len();
            self.plain.resize(self.open_from + HEAD_BYTES, 0);
        }
        content.put(self.open_records, &mut self.plain);
        self.open_records += 1;
    }

    /// Ends the open batch.
    pub(super) fn close(&mut self, now_ms: i64, with: &mut Compressor) {
        if self.open_records == 0 {
            return;
        }
        let (from, records) = (self.open_from, std::mem::take(&mut self.open_records));
        let body = &self.plain[from + HEAD_BYTES..];
        let packed_from = self.packed.len();
        let mut codec = 0;
        if body.len() >= COMPRESSED_BYTES_MIN {
            self.packed.resize(packed_from + HEAD_BYTES, 0);
            codec = with.compress(body, &mut self.packed);
        }
        let smaller = codec != 0 && self.packed.len() - packed_from < body.len() + HEAD_BYTES;
        let chunk = if smaller {
            self.plain.truncate(from);
            Chunk { from: packed_from, to: self.packed.len(), compressed: true, records }
        } else {
            self.packed.truncate(packed_from);
            codec = 0;
            Chunk { from, to: self.plain.len(), compressed: false, records }
        };
        put_head(self.bytes_mut(chunk), codec, records, now_ms);
        self.chunks.push(chunk);
    }

    fn bytes_mut(&mut self, chunk: Chunk) -> &mut [u8] {
        let buffer = if chunk.compressed { &mut self.packed } else { &mut self.plain };
        &mut buffer[chunk.from..chunk.to]
    }

    /// A whole batch as it is sent.
    pub(super) fn bytes(&self, chunk: Chunk) -> &[u8] {
        let buffer = if chunk.compressed { &self.packed } else { &self.plain };
        &buffer[chunk.from..chunk.to]
    }

    /// Writes producer and sequences into all batches, and the checksums; returns the
    /// sequence that comes after them.
    pub(super) fn stamp(&mut self, identity: Identity, mut sequence: i32) -> i32 {
        for at in 0..self.chunks.len() {
            let chunk = self.chunks[at];
            let bytes = self.bytes_mut(chunk);
            bytes[43..51].copy_from_slice(&identity.producer_id.to_be_bytes());
            bytes[51..53].copy_from_slice(&identity.epoch.to_be_bytes());
            bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
            bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
            sequence = after(sequence, chunk.records);
        }
        sequence
    }

    /// Forgets everything; keeps the memory if it is not much.
    pub(super) fn clear(&mut self) {
        for buffer in [&mut self.plain, &mut self.packed] {
            buffer.clear();
            if buffer.capacity() > KEPT_BYTES_MAX {
                buffer.shrink_to(0);
            }
        }
        self.chunks.clear();
        self.open_records = 0;
    }

    /// Bytes of memory that it holds.
    pub(super) fn capacity(&self) -> usize {
        self.plain.capacity() + self.packed.capacity()
    }
}

/// The sequence `count` after `sequence`: it goes on at 0 after the largest number.
pub(super) fn after(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

/// Everything but what `stamp` writes.
fn put_head(batch: &mut [u8], codec: i16, records: i32, now_ms: i64) {
    // The length counts what comes after itself.
    let length = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
    batch[..8].fill(0);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    // The leader's epoch is the broker's to fill in.
    batch[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
    batch[16] = 2;
    batch[21..23].copy_from_slice(&codec.to_be_bytes());
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&now_ms.to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
}

impl Content<'_> {
    /// No record takes more: five bytes for each number.
    fn len_max(&self) -> usize {
        let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        40 + KIND_HEADER.len() + len(self.key) + len(self.value) + len(self.kind)
    }

    fn put(&self, delta: i32, out: &mut Vec<u8>) {
        let kind =
            self.kind.map_or(0, |kind| field_len(Some(KIND_HEADER.as_bytes())) + field_len(Some(kind)));
        // Attributes, no difference of time, and the number of headers: a byte each.
        let len = 3 + varint_len(delta) + field_len(self.key) + field_len(self.value) + kind;
        out.reserve(len + 5);
        put_varint(out, length(len));
        out.extend_from_slice(&[0, 0]);
        put_varint(out, delta);
        put_field(out, self.key);
        put_field(out, self.value);
        match self.kind {
            None => out.push(0),
            Some(kind) => {
                put_varint(out, 1);
                put_field(out, Some(KIND_HEADER.as_bytes()));
                put_field(out, Some(kind));
            }
        }
    }
}

fn length(len: usize) -> i32 {
    // Batches have 256 MiB at most, by the configuration's check.
    i32::try_from(len).unwrap_or(i32::MAX)
}

fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| varint_len(length(field.len())) + field.len())
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    put_varint(out, field.map_or(-1, |field| length(field.len())));
    out.extend_from_slice(field.unwrap_or_default());
}

#[cfg(test)]
mod tests;
