//! How much waits in a log, seen from beside: the process that has it may run or be gone.
//!
//! Takes no lock, changes nothing, and reads no record: what it says may be a moment old.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use super::format::{HEADER_BYTES, Header};
use super::segment::{self, Segment};
use super::{positions, positions_dir, segments_dir};

/// What a consumer has not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    pub records: u64,
    /// Of the commits that hold them.
    pub bytes: u64,
    /// The log ends before the position, or bytes in it are not what was written: more may wait.
    pub is_damaged: bool,
}

/// What `consumer` has not finished in the log of `dir`; nothing where there is no log. Of a
/// file with damaged bytes only what stands before them is counted.
pub fn waiting(dir: &Path, consumer: &str) -> io::Result<Waiting> {
    let first = look(dir, consumer)?;
    // A process that rolls and deletes meanwhile looks damaged for a moment.
    if first.is_damaged { look(dir, consumer) } else { Ok(first) }
}

fn look(dir: &Path, consumer: &str) -> io::Result<Waiting> {
    let mut waiting = Waiting::default();
    let segments = segments_dir(dir);
    // Before the files: a process that goes on meanwhile only adds to them.
    let from = positions::peek(&positions_dir(dir), consumer)?.unwrap_or(0);
    let bases = match segment::list(&segments) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(waiting),
        listed => listed?,
    };
    // A log has at least one file.
    let mut end = bases.last().copied().unwrap_or(0);
    for (at, &base) in bases.iter().enumerate() {
        let next = bases.get(at + 1);
        if next.is_some_and(|next| *next <= from) {
            continue;
        }
        match add(&Segment::new(&segments, base).path, from, &mut waiting) {
            // Finished and deleted since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // Cut since it was measured.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            added => {
                let ends = added?.unwrap_or(base);
                waiting.is_damaged |= next.is_some_and(|next| *next != ends);
                end = end.max(ends);
            }
        }
    }
    waiting.is_damaged |= end < from;
    Ok(waiting)
}

/// Adds the commits of a file that end after `from`, by their headers; the offset behind the last.
fn add(path: &Path, from: u64, waiting: &mut Waiting) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let mut left = file.metadata()?.len();
    let mut input = BufReader::new(file);
    let mut head = [0; HEADER_BYTES];
    let mut end = None;
    while left >= HEADER_BYTES as u64 {
        input.read_exact(&mut head)?;
        let Ok(header) = Header::decode(&head) else {
            waiting.is_damaged = true;
            break;
        };
        let commit_bytes = header.commit_len() as u64;
        if commit_bytes > left {
            break;
        }
        end = Some(header.end_offset());
        if header.end_offset() > from {
            waiting.records += header.end_offset() - header.base_offset.max(from);
            waiting.bytes += commit_bytes;
        }
        left -= commit_bytes;
        input.seek_relative(i64::from(header.payload_bytes))?;
    }
    Ok(end)
}
