//! Reading: whole commits that are durable, each checked again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::EventSource;
use super::chunk::Chunk;
use super::error::{Damage, ReadError};
use super::format::{HEADER_BYTES, Header};
use super::segment::{Segment, check_commit};
use super::writer::{Durable, Shared};

/// Reads a log from one offset on. Each reader stands for itself.
pub struct Reader {
    shared: Arc<Shared>,
    durable: watch::Receiver<Durable>,
    segment: Arc<Segment>,
    file: File,
    /// Byte of `segment` where a commit begins.
    byte: u64,
    /// The record that comes next.
    offset: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from_offset: u64) -> Result<Self, ReadError> {
        let end = shared.end_offset();
        if from_offset > end {
            return Err(ReadError::BeyondEnd { wanted: from_offset, end });
        }
        let segment = find(&shared, from_offset)?;
        let file = open(&segment)?;
        let byte = segment.seek_hint(from_offset);
        let durable = shared.durable.subscribe();
        Ok(Self { shared, durable, segment, file, byte, offset: from_offset })
    }

    /// Offset of the record that comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// Waits for durable records and returns one commit or more, in about
    /// `max_bytes` (a single larger commit comes whole). Dropping the future loses
    /// nothing. The read itself is one bounded read of recent data and does not
    /// leave the task.
    pub async fn next(&mut self, max_bytes: usize) -> Result<Chunk, ReadError> {
        loop {
            let closed = self.durable.borrow_and_update().closed;
            if let Some(chunk) = self.try_next(max_bytes)? {
                return Ok(chunk);
            }
            if closed || self.durable.changed().await.is_err() {
                return Err(ReadError::Closed);
            }
        }
    }

    /// As `next`, but `None` instead of waiting.
    pub fn try_next(&mut self, max_bytes: usize) -> Result<Option<Chunk>, ReadError> {
        loop {
            let durable = self.segment.durable_bytes();
            if self.byte < durable {
                let header = self.header_at()?;
                if header.end_offset() > self.offset {
                    return self.read(header, durable, max_bytes).map(Some);
                }
                self.byte += header.commit_len() as u64;
            } else if let Some(next) = self.following() {
                // The segment may have grown between the two looks.
                if self.segment.durable_bytes() == durable {
                    if next.base_offset != self.offset {
                        return Err(self.damage("the segment ends before the next one begins"));
                    }
                    self.file = open(&next)?;
                    self.segment = next;
                    self.byte = 0;
                }
            } else {
                return Ok(None);
            }
        }
    }

    fn following(&self) -> Option<Arc<Segment>> {
        let segments = self.shared.segments.read().unwrap_or_else(PoisonError::into_inner);
        let at = segments.partition_point(|s| s.base_offset <= self.segment.base_offset);
        segments.get(at).cloned()
    }

    fn header_at(&self) -> Result<Header, ReadError> {
        let mut head = [0; HEADER_BYTES];
        self.read_exact(&mut head, self.byte)?;
        Header::decode(&head).map_err(|detail| self.damage(detail))
    }

    /// Reads the commit of `first` and those after it that fit.
    fn read(&mut self, first: Header, durable: u64, max_bytes: usize) -> Result<Chunk, ReadError> {
        let wanted = max_bytes.max(first.commit_len()) as u64;
        let len = wanted.min(durable - self.byte);
        let len = usize::try_from(len).map_err(|_| self.damage("the commit is larger than memory"))?;
        if len < first.commit_len() {
            return Err(self.damage("the commit is cut off"));
        }
        let mut bytes = vec![0; len];
        self.read_exact(&mut bytes, self.byte)?;
        let mut whole = 0;
        let mut next_offset = first.base_offset;
        while let Some(head) = bytes[whole..].first_chunk() {
            let header = Header::decode(head).map_err(|detail| self.damage_at(whole, next_offset, detail))?;
            let Some(payload) = bytes.get(whole + HEADER_BYTES..whole + header.commit_len()) else { break };
            let detail = match check_commit(&header, payload) {
                Ok(()) if header.base_offset == next_offset => None,
                Ok(()) => Some("the commit does not continue the one before it"),
                Err(detail) => Some(detail),
            };
            if let Some(detail) = detail {
                return Err(self.damage_at(whole, next_offset, detail));
            }
            whole += header.commit_len();
            next_offset = header.end_offset();
        }
        bytes.truncate(whole);
        self.byte += whole as u64;
        let first_offset = std::mem::replace(&mut self.offset, next_offset);
        Ok(Chunk::new(bytes, first_offset, next_offset))
    }

    fn read_exact(&self, bytes: &mut [u8], position: u64) -> Result<(), ReadError> {
        self.file
            .read_exact_at(bytes, position)
            .map_err(|source| ReadError::Io { path: self.segment.path.clone(), source })
    }

    fn damage(&self, detail: &'static str) -> ReadError {
        self.damage_at(0, self.offset, detail)
    }

    fn damage_at(&self, after: usize, first_offset: u64, detail: &'static str) -> ReadError {
        let (file, position) = (self.segment.path.clone(), self.byte + after as u64);
        ReadError::Damaged(Damage { file, position, first_offset, detail })
    }
}

impl EventSource for Reader {
    async fn next(&mut self, max_bytes: usize) -> Result<Chunk, ReadError> {
        Self::next(self, max_bytes).await
    }

    fn try_next(&mut self, max_bytes: usize) -> Result<Option<Chunk>, ReadError> {
        Self::try_next(self, max_bytes)
    }

    fn position(&self) -> u64 {
        Self::position(self)
    }
}

/// The segment that holds `offset`.
fn find(shared: &Shared, offset: u64) -> Result<Arc<Segment>, ReadError> {
    let segments = shared.segments.read().unwrap_or_else(PoisonError::into_inner);
    let after = segments.partition_point(|s| s.base_offset <= offset);
    let start = segments.first().map_or(0, |s| s.base_offset);
    let deleted = ReadError::Deleted { wanted: offset, start };
    after.checked_sub(1).map(|at| Arc::clone(&segments[at])).ok_or(deleted)
}

fn open(segment: &Segment) -> Result<File, ReadError> {
    File::open(&segment.path).map_err(|source| ReadError::Io { path: segment.path.clone(), source })
}
