//! Lines of a log's content, with the hash of everything before them.

use std::io::{self, BufRead};

use sha2::{Digest, Sha256};

use super::position::{HEAD_BYTES_MAX, HeadHash, Position, hex};

/// A longer line is cut; its rest is read and thrown away, but hashed.
pub(super) const LOG_LINE_BYTES_MAX: usize = 24 << 20;

/// Reads lines and keeps count of bytes and hash.
pub(super) struct Lines {
    content: Box<dyn BufRead>,
    hasher: Sha256,
    /// Bytes read so far.
    pub(super) offset: u64,
    line: Vec<u8>,
}

/// What `Lines::next` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A line with its end, at most `LOG_LINE_BYTES_MAX` long.
    Line,
    /// As `Line`, but cut.
    TooLong,
    /// The content ends without an end of line. Not counted as read.
    Unfinished,
    End,
}

impl Lines {
    pub(super) fn new(content: Box<dyn BufRead>) -> Self {
        Self { content, hasher: Sha256::new(), offset: 0, line: Vec::new() }
    }

    /// The line that `next` found, without its end.
    pub(super) fn line(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    /// Hash of everything read so far.
    pub(super) fn prefix(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }

    pub(super) fn next(&mut self) -> io::Result<Found> {
        self.line.clear();
        let mut whole_hash = self.hasher.clone();
        let mut length = 0_u64;
        loop {
            let buffer = match self.content.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                // One that is too long as well stays unread, however often it is tried.
                let whole = (1..=LOG_LINE_BYTES_MAX as u64).contains(&length);
                return Ok(if whole { Found::Unfinished } else { Found::End });
            }
            let end = memchr::memchr(b'\n', buffer);
            let piece = &buffer[..end.map_or(buffer.len(), |at| at + 1)];
            whole_hash.update(piece);
            let room = LOG_LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            let taken = piece.len();
            length += taken as u64;
            self.content.consume(taken);
            if end.is_some() {
                self.hasher = whole_hash;
                self.offset += length;
                let cut = length > LOG_LINE_BYTES_MAX as u64;
                return Ok(if cut { Found::TooLong } else { Found::Line });
            }
        }
    }

    /// Counts a line without an end as read after all.
    pub(super) fn take_unfinished(&mut self) {
        self.hasher.update(&self.line);
        self.offset += self.line.len() as u64;
    }

    /// Reads on to `offset`, counting lines. `false` if the content ends before.
    pub(super) fn skip_to(&mut self, offset: u64, lines: &mut u64) -> io::Result<bool> {
        while self.offset < offset {
            let buffer = match self.content.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                return Ok(false);
            }
            let left = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
            let piece = &buffer[..buffer.len().min(left)];
            self.hasher.update(piece);
            *lines += memchr::memchr_iter(b'\n', piece).count() as u64;
            let taken = piece.len();
            self.offset += taken as u64;
            self.content.consume(taken);
        }
        Ok(true)
    }
}

/// The head of the content: its first line, or its first 64 KiB.
pub(super) fn head(content: &mut dyn BufRead) -> io::Result<Option<HeadHash>> {
    let mut head = Vec::new();
    let mut limited = io::Read::take(content, HEAD_BYTES_MAX as u64);
    limited.read_until(b'\n', &mut head)?;
    Ok((!head.is_empty()).then(|| HeadHash::of(&head)))
}

/// The furthest position that this content truly begins with. `positions` ascend.
pub(super) fn furthest<'p>(lines: &mut Lines, positions: &'p [Position]) -> io::Result<Option<&'p Position>> {
    let mut found = None;
    let mut skipped = 0;
    for position in positions {
        if !lines.skip_to(position.offset, &mut skipped)? {
            break;
        }
        if lines.prefix() == position.prefix {
            found = Some(position);
        }
    }
    Ok(found)
}
