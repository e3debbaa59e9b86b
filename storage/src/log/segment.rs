//! One file of the log: its name, what is durable in it, and reading it through.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::format::{HEADER_BYTES, Header, check_records, may_begin_header};

/// Between two entries of a segment's index; a reader skips at most this much.
const INDEX_STEP_BYTES: u64 = 256 << 10;
const EXTENSION: &str = "log";

/// A file of the log as its readers see it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base_offset: u64,
    pub(super) path: PathBuf,
    /// Bytes that a reader may read: whole commits that the disk has confirmed.
    durable_bytes: AtomicU64,
    /// Append time of the first commit; `u64::MAX` while there is none.
    first_append_ms: AtomicU64,
    /// Offset and byte of some commits, both ascending.
    index: Mutex<Vec<(u64, u64)>>,
}

impl Segment {
    pub(super) fn new(dir: &Path, base_offset: u64) -> Self {
        Self {
            base_offset,
            path: dir.join(format!("{base_offset:020}.{EXTENSION}")),
            durable_bytes: AtomicU64::new(0),
            first_append_ms: AtomicU64::new(u64::MAX),
            index: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn durable_bytes(&self) -> u64 {
        self.durable_bytes.load(Ordering::Acquire)
    }

    pub(super) fn set_durable_bytes(&self, bytes: u64) {
        self.durable_bytes.store(bytes, Ordering::Release);
    }

    pub(super) fn first_append_ms(&self) -> Option<u64> {
        Some(self.first_append_ms.load(Ordering::Acquire)).filter(|ms| *ms != u64::MAX)
    }

    /// Takes note of the commit at `position`; commits come in their order.
    pub(super) fn note_commit(&self, header: &Header, position: u64) {
        self.first_append_ms.fetch_min(header.append_time_ms, Ordering::AcqRel);
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.last().is_none_or(|(_, last)| position >= last + INDEX_STEP_BYTES) {
            index.push((header.base_offset, position));
        }
    }

    /// The byte from where to look for `offset`.
    pub(super) fn seek_hint(&self, offset: u64) -> u64 {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let after = index.partition_point(|(base, _)| *base <= offset);
        after.checked_sub(1).map_or(0, |at| index[at].1)
    }
}

/// The base offsets of the segments in `dir`, ascending. Other files are left alone.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let ours = path.extension().is_some_and(|e| e == EXTENSION);
        let base = path.file_stem().and_then(|s| s.to_str()).filter(|s| s.len() == 20);
        if let (true, Some(base)) = (ours, base.and_then(|b| b.parse().ok())) {
            bases.push(base);
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// What stands after the last whole commit of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Clean,
    /// The beginning of a commit that was never finished, so never acknowledged.
    Torn,
    Damaged(&'static str),
}

/// The part of a segment that is whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    pub(super) end_position: u64,
    pub(super) end_offset: u64,
    pub(super) file_bytes: u64,
    pub(super) last_append_ms: u64,
    pub(super) tail: Tail,
}

/// Reads the commits of a segment from byte `position` on, where the next commit
/// must begin with `offset`, checking everything, and hands each to `on_commit`.
pub(super) fn scan(
    path: &Path,
    position: u64,
    offset: u64,
    mut on_commit: impl FnMut(u64, &Header, &[u8]) -> io::Result<()>,
) -> io::Result<Scan> {
    let mut file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    io::Seek::seek(&mut file, io::SeekFrom::Start(position))?;
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut payload = Vec::new();
    let mut scan =
        Scan { end_position: position, end_offset: offset, file_bytes, last_append_ms: 0, tail: Tail::Clean };
    loop {
        let left = file_bytes.saturating_sub(scan.end_position);
        if left == 0 {
            return Ok(scan);
        }
        if left < HEADER_BYTES as u64 {
            let mut rest = Vec::with_capacity(HEADER_BYTES);
            input.by_ref().take(left).read_to_end(&mut rest)?;
            scan.tail = match may_begin_header(&rest, scan.end_offset) {
                true => Tail::Torn,
                false => Tail::Damaged("no commit begins here (wrong magic, version or offset)"),
            };
            return Ok(scan);
        }
        match read_commit(&mut input, left, scan.end_offset, &mut payload)? {
            Ok(header) => {
                on_commit(scan.end_position, &header, &payload)?;
                scan.end_position += header.commit_len() as u64;
                scan.end_offset = header.end_offset();
                scan.last_append_ms = header.append_time_ms;
            }
            Err(tail) => {
                scan.tail = tail;
                return Ok(scan);
            }
        }
    }
}

fn read_commit(
    input: &mut impl Read,
    left: u64,
    offset: u64,
    payload: &mut Vec<u8>,
) -> io::Result<Result<Header, Tail>> {
    let mut head = [0; HEADER_BYTES];
    input.read_exact(&mut head)?;
    let header = match Header::decode(&head) {
        Ok(header) => header,
        Err(detail) => return Ok(Err(Tail::Damaged(detail))),
    };
    if header.base_offset != offset {
        return Ok(Err(Tail::Damaged("the commit does not continue the one before it")));
    }
    if (header.commit_len() as u64) > left {
        return Ok(Err(Tail::Torn));
    }
    payload.resize(header.payload_len(), 0);
    input.read_exact(payload)?;
    Ok(check_commit(&header, payload).map(|()| header).map_err(Tail::Damaged))
}

/// Checks the payload against its header.
pub(super) fn check_commit(header: &Header, payload: &[u8]) -> Result<(), &'static str> {
    if crc32fast::hash(payload) != header.payload_crc {
        return Err("the commit's records do not match their checksum");
    }
    check_records(payload, header.record_count, false)
}
