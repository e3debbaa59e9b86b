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
}

/// What `consumer` has not finished in the log of `dir`; nothing where there is no log. What
/// stands behind damaged bytes is not counted.
pub fn waiting(dir: &Path, consumer: &str) -> io::Result<Waiting> {
    let mut waiting = Waiting::default();
    let segments = segments_dir(dir);
    let bases = match segment::list(&segments) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(waiting),
        listed => listed?,
    };
    let from = positions::peek(&positions_dir(dir), consumer)?.unwrap_or(0);
    for (at, &base) in bases.iter().enumerate() {
        if bases.get(at + 1).is_none_or(|next| *next > from) {
            match add(&Segment::new(&segments, base).path, from, &mut waiting) {
                // Finished and deleted since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                added => added?,
            }
        }
    }
    Ok(waiting)
}

/// Adds the commits of a file that end after `from`, by their headers.
fn add(path: &Path, from: u64, waiting: &mut Waiting) -> io::Result<()> {
    let file = File::open(path)?;
    let mut left = file.metadata()?.len();
    let mut input = BufReader::new(file);
    let mut head = [0; HEADER_BYTES];
    while left >= HEADER_BYTES as u64 {
        input.read_exact(&mut head)?;
        let Ok(header) = Header::decode(&head) else { break };
        let commit_bytes = header.commit_len() as u64;
        if commit_bytes > left {
            break;
        }
        if header.end_offset() > from {
            waiting.records += header.end_offset() - header.base_offset.max(from);
            waiting.bytes += commit_bytes;
        }
        left -= commit_bytes;
        input.seek_relative(i64::from(header.payload_bytes))?;
    }
    Ok(())
}
