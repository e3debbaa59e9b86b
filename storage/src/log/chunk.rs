//! Records as a reader gets them: borrowed from one buffer of whole commits.

use super::EMBEDDED_PARTITION;
use super::format::{HEADER_BYTES, Header, Topic, split_record};

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub partition: u32,
    pub offset: u64,
    pub topic: Topic,
    /// When the commit was appended, by the log's clock; never goes back.
    pub append_time_ms: u64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// One commit or more, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Whole commits; checked when they were read.
    bytes: Vec<u8>,
    /// Records before this one were not asked for.
    first_offset: u64,
    next_offset: u64,
}

impl Chunk {
    /// `bytes` must be whole, checked commits that hold `first_offset` up to
    /// `next_offset`.
    pub(super) fn new(bytes: Vec<u8>, first_offset: u64, next_offset: u64) -> Self {
        Self { bytes, first_offset, next_offset }
    }

    #[must_use]
    pub fn partition(&self) -> u32 {
        EMBEDDED_PARTITION
    }

    /// Offset of the first record.
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
        Records {
            rest: &self.bytes,
            commit: &[],
            offset: 0,
            append_time_ms: 0,
            first_offset: self.first_offset,
        }
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
    rest: &'a [u8],
    commit: &'a [u8],
    offset: u64,
    append_time_ms: u64,
    first_offset: u64,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            if self.commit.is_empty() {
                let (head, rest) = self.rest.split_first_chunk::<HEADER_BYTES>()?;
                let header = Header::decode(head).ok()?;
                (self.commit, self.rest) = rest.split_at_checked(header.payload_len())?;
                self.offset = header.base_offset;
                self.append_time_ms = header.append_time_ms;
            }
            let (record, rest) = split_record(self.commit)?;
            self.commit = rest;
            let offset = self.offset;
            self.offset += 1;
            if offset >= self.first_offset {
                return Some(Record {
                    partition: EMBEDDED_PARTITION,
                    offset,
                    topic: record.topic,
                    append_time_ms: self.append_time_ms,
                    key: record.key,
                    value: record.value,
                });
            }
        }
    }
}
