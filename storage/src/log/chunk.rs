//! Records as a reader gets them: borrowed from one buffer.

use super::Partition;
use super::format::{HEADER_BYTES, Header, Topic, split_record};

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub partition: Partition,
    pub offset: u64,
    pub topic: Topic,
    /// When the record was appended, by the log's clock.
    pub append_time_ms: u64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// Records of one partition in the order of their offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    partition: Partition,
    bytes: Vec<u8>,
    layout: Layout,
    /// Records before this one were not asked for.
    first_offset: u64,
    next_offset: u64,
}

/// What `Chunk::bytes` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// Whole commits of the embedded log; checked when they were read.
    Commits,
    /// Keys and values one after the other, as these places say.
    Places(Vec<Place>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    append_time_ms: u64,
    topic: Topic,
    key_len: usize,
    value_len: usize,
}

impl Chunk {
    /// `bytes` must be whole, checked commits that hold `first_offset` up to
    /// `next_offset`.
    pub(super) fn new(bytes: Vec<u8>, first_offset: u64, next_offset: u64) -> Self {
        Self { partition: Partition::EMBEDDED, bytes, layout: Layout::Commits, first_offset, next_offset }
    }

    /// An empty chunk for the records of a partition of another log, which goes on
    /// at `first_offset`.
    #[must_use]
    pub fn of(partition: Partition, first_offset: u64) -> Self {
        Self {
            partition,
            bytes: Vec::new(),
            layout: Layout::Places(Vec::new()),
            first_offset,
            next_offset: first_offset,
        }
    }

    /// Adds a record to a chunk that `of` made; offsets must ascend, and may leave
    /// gaps where the log keeps marks of its own.
    pub fn push(&mut self, offset: u64, topic: Topic, append_time_ms: u64, key: &[u8], value: &[u8]) {
        let Layout::Places(places) = &mut self.layout else {
            debug_assert!(false, "commits take no further record");
            return;
        };
        debug_assert!(offset >= self.next_offset, "offsets ascend");
        places.push(Place { offset, append_time_ms, topic, key_len: key.len(), value_len: value.len() });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.next_offset = offset + 1;
    }

    /// Notes that no record stands before `offset` that is not here.
    pub fn skip_to(&mut self, offset: u64) {
        self.next_offset = self.next_offset.max(offset);
    }

    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Offset from which the chunk was asked for.
    #[must_use]
    pub fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// Offset after the last record: where to go on.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The records in the order of their offsets, of all topics.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        let layout = match &self.layout {
            Layout::Commits => Rest::Commits { commit: &[], offset: 0, append_time_ms: 0 },
            Layout::Places(places) => Rest::Places(places),
        };
        Records { partition: self.partition, first_offset: self.first_offset, rest: &self.bytes, layout }
    }
}

impl<'a> IntoIterator for &'a Chunk {
    type Item = Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// Iterator over the records of a [`Chunk`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    partition: Partition,
    first_offset: u64,
    rest: &'a [u8],
    layout: Rest<'a>,
}

#[derive(Debug, Clone)]
enum Rest<'a> {
    Commits { commit: &'a [u8], offset: u64, append_time_ms: u64 },
    Places(&'a [Place]),
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let partition = self.partition;
        match &mut self.layout {
            Rest::Places(places) => {
                let (place, left) = places.split_first()?;
                *places = left;
                let (key, rest) = self.rest.split_at_checked(place.key_len)?;
                let (value, rest) = rest.split_at_checked(place.value_len)?;
                self.rest = rest;
                let Place { offset, append_time_ms, topic, .. } = *place;
                Some(Record { partition, offset, topic, append_time_ms, key, value })
            }
            Rest::Commits { commit, offset: next, append_time_ms } => loop {
                if commit.is_empty() {
                    let (head, rest) = self.rest.split_first_chunk::<HEADER_BYTES>()?;
                    let header = Header::decode(head).ok()?;
                    (*commit, self.rest) = rest.split_at_checked(header.payload_len())?;
                    *next = header.base_offset;
                    *append_time_ms = header.append_time_ms;
                }
                let (record, rest) = split_record(commit)?;
                *commit = rest;
                let offset = *next;
                *next += 1;
                if offset >= self.first_offset {
                    let (topic, key, value) = (record.topic, record.key, record.value);
                    let append_time_ms = *append_time_ms;
                    return Some(Record { partition, offset, topic, append_time_ms, key, value });
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::*;

    #[test]
    fn pushed_records_are_read_back_with_their_gaps() {
        let partition = Partition::new(Family::Dead, 2).unwrap();
        let mut chunk = Chunk::of(partition, 5);
        chunk.push(5, Topic::Dead, 10, b"key", b"value");
        chunk.push(8, Topic::Seal, 11, b"", b"");
        chunk.skip_to(12);
        let records: Vec<_> = chunk
            .records()
            .map(|r| (r.partition, r.offset, r.topic, r.append_time_ms, r.key, r.value))
            .collect();
        assert_eq!(
            records,
            [
                (partition, 5, Topic::Dead, 10, &b"key"[..], &b"value"[..]),
                (partition, 8, Topic::Seal, 11, b"", b"")
            ]
        );
        assert_eq!((chunk.first_offset(), chunk.next_offset()), (5, 12));
    }
}
