//! Repair of a damaged log: every whole record is kept, the damaged bytes are saved
//! aside, and each offset that could not be read is marked with a `Lost` record, so
//! that offsets stay dense and the loss stays visible to everybody who reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{OpenError, RepairError};
use super::file::sync_dir;
use super::format::{HEADER_BYTES, Header, MAGIC, Topic, put_record, record_len, split_checked};
use super::segment::{self, Segment, Tail, check_commit};
use super::{open, positions, positions_dir, quarantine_dir, segments_dir};

/// Records in one commit of nothing but `Lost` marks.
const LOST_PER_COMMIT: u64 = 100_000;

/// Repairs of one place; more mean a disk that must be replaced.
const QUARANTINED_MAX: u32 = 1000;

/// What a repair did. Empty regions: nothing was damaged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    pub checked_segments: u64,
    pub regions: Vec<RepairedRegion>,
}

impl RepairReport {
    #[must_use]
    pub fn lost_records(&self) -> u64 {
        self.regions.iter().map(|r| r.lost_records).sum()
    }

    #[must_use]
    pub fn kept_records(&self) -> u64 {
        self.regions.iter().map(|r| r.kept_records).sum()
    }
}

/// A run of damaged bytes, or a run of offsets that is missing altogether.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedRegion {
    pub segment: PathBuf,
    pub position: u64,
    /// Damaged bytes, all of them saved in `quarantine`.
    pub bytes: u64,
    /// Where the bytes are; `None` where there were none.
    pub quarantine: Option<PathBuf>,
    /// The region stands for the offsets from `first_offset` up to, not including, `next_offset`.
    pub first_offset: u64,
    pub next_offset: u64,
    pub kept_records: u64,
    pub lost_records: u64,
}

/// Repairs the log in `dir`, which no process may hold. A log without damage is left
/// as it is; so is a torn tail, which opening cuts.
pub fn repair(dir: &Path) -> Result<RepairReport, RepairError> {
    open::create_dirs(dir)?;
    let _lock = open::lock(dir)?;
    let segments = segments_dir(dir);
    let bases = segment::list(&segments).map_err(RepairError::io("list", &segments))?;
    let mut report = RepairReport::default();
    let mut end = 0;
    for (at, &base) in bases.iter().enumerate() {
        let file = Segment::new(&segments, base).path;
        let next = bases.get(at + 1).copied();
        let scan = segment::scan(&file, 0, base, |_, _, _| Ok(())).map_err(RepairError::io("read", &file))?;
        report.checked_segments += 1;
        end = scan.end_offset;
        let whole = match (scan.tail, next) {
            (Tail::Clean, Some(next)) => next == scan.end_offset,
            (Tail::Clean | Tail::Torn, None) => true,
            _ => false,
        };
        if !whole {
            end = Mending::run(dir, &file, base, next, &mut report)?;
        }
    }
    let known = positions::load(&positions_dir(dir)).map_err(OpenError::from)?;
    if let (Some(&base), Some(&read)) = (bases.last(), known.values().max())
        && read > end
    {
        mark_lost_end(&Segment::new(&segments, base).path, base, read, &mut report)?;
    }
    Ok(report)
}

/// One segment on its way into a whole copy of itself.
struct Mending<'r> {
    dir: &'r Path,
    file: &'r Path,
    out: BufWriter<File>,
    offset: u64,
    append_time_ms: u64,
    report: &'r mut RepairReport,
}

impl<'r> Mending<'r> {
    /// Returns the end offset of the mended segment.
    fn run(
        dir: &'r Path,
        file: &'r Path,
        base: u64,
        next: Option<u64>,
        report: &'r mut RepairReport,
    ) -> Result<u64, RepairError> {
        let bytes = fs::read(file).map_err(RepairError::io("read", file))?;
        let temporary = file.with_extension("repair");
        let out = File::create(&temporary).map_err(RepairError::io("create", &temporary))?;
        let out = BufWriter::with_capacity(1 << 20, out);
        let mut mending = Mending { dir, file, out, offset: base, append_time_ms: 0, report };
        mending.mend(&bytes, next).map_err(RepairError::io("mend", file))?;
        if let Some(found) = next.filter(|next| *next < mending.offset) {
            fs::remove_file(&temporary).ok();
            let expected = mending.offset;
            return Err(OpenError::Hole { file: file.to_owned(), expected, found }.into());
        }
        let end = mending.offset;
        let finished = mending.out.into_inner().map_err(io::IntoInnerError::into_error);
        finished
            .and_then(|out| out.sync_all())
            .and_then(|()| sync_dir(&quarantine_dir(dir)))
            .and_then(|()| fs::rename(&temporary, file))
            .and_then(|()| sync_dir(&segments_dir(dir)))
            .map_err(RepairError::io("replace", file))?;
        Ok(end)
    }

    fn mend(&mut self, bytes: &[u8], next: Option<u64>) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let header = header_at(bytes, at).filter(|h| h.base_offset == self.offset);
            let payload = header.and_then(|h| bytes.get(at + HEADER_BYTES..at + h.commit_len()));
            if let (Some(header), Some(payload)) = (header, payload)
                && check_commit(&header, payload).is_ok()
            {
                self.out.write_all(&bytes[at..at + header.commit_len()])?;
                self.offset = header.end_offset();
                self.append_time_ms = header.append_time_ms;
                at += header.commit_len();
                continue;
            }
            if header.is_some() && payload.is_none() && next.is_none() {
                // A torn tail behind the damage: never acknowledged.
                return Ok(());
            }
            // A header that is right says where its commit ends; else the next right header does.
            let following = match payload {
                Some(payload) => Some(at + HEADER_BYTES + payload.len()),
                None => next_header(bytes, at + 1, self.offset),
            };
            let end = following.unwrap_or(bytes.len());
            let end_offset = match (header, following.and_then(|at| header_at(bytes, at))) {
                (Some(header), _) if payload.is_some() => Some(header.end_offset()),
                (_, Some(following)) => Some(following.base_offset),
                (header, None) => next.or(header.map(|h| h.end_offset())),
            };
            if let Some(header) = header {
                self.append_time_ms = header.append_time_ms;
            }
            self.salvage(&bytes[at..end], at, header.is_some(), end_offset)?;
            at = end;
        }
        match next.filter(|next| *next > self.offset) {
            Some(next) => self.salvage(&[], bytes.len(), false, Some(next)),
            None => Ok(()),
        }
    }

    /// Writes what is whole in `region` as a commit up to `end_offset`.
    fn salvage(&mut self, region: &[u8], at: usize, headed: bool, end_offset: Option<u64>) -> io::Result<()> {
        let quarantine = self.quarantine(region, at)?;
        let records = region.get(if headed { HEADER_BYTES } else { 0 }..).unwrap_or_default();
        let found = find_records(records);
        let known: u64 = found.iter().map(|f| u64::from(!matches!(f, Found::Gap))).sum();
        let first_offset = self.offset;
        let next_offset = end_offset.unwrap_or(first_offset + known).max(first_offset);
        let mut missing = (next_offset - first_offset).saturating_sub(known);
        let mut writer = CommitWriter::new(first_offset, self.append_time_ms);
        for item in &found {
            match item {
                Found::Whole(record) if writer.next_offset() < next_offset => writer.keep(record),
                Found::Bad if writer.next_offset() < next_offset => writer.lose(&mut self.out)?,
                Found::Gap => {
                    for _ in 0..std::mem::take(&mut missing) {
                        writer.lose(&mut self.out)?;
                    }
                }
                // More than the offsets allow cannot be ours; the bytes are saved.
                Found::Whole(_) | Found::Bad => {}
            }
        }
        while writer.next_offset() < next_offset {
            writer.lose(&mut self.out)?;
        }
        let (kept_records, lost_records) = writer.finish(&mut self.out)?;
        self.offset = next_offset;
        self.report.regions.push(RepairedRegion {
            segment: self.file.to_owned(),
            position: at as u64,
            bytes: region.len() as u64,
            quarantine,
            first_offset,
            next_offset,
            kept_records,
            lost_records,
        });
        Ok(())
    }

    fn quarantine(&self, region: &[u8], at: usize) -> io::Result<Option<PathBuf>> {
        if region.is_empty() {
            return Ok(None);
        }
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        // What an earlier repair saved is never written over.
        let names = (0..QUARANTINED_MAX).map(|n| match n {
            0 => format!("{stem}-{at}.bin"),
            n => format!("{stem}-{at}.{n}.bin"),
        });
        let mut paths = names.map(|name| quarantine_dir(self.dir).join(name));
        let path = paths.find(|path| !path.exists()).ok_or(io::ErrorKind::AlreadyExists)?;
        let mut file = File::create_new(&path)?;
        file.write_all(region)?;
        file.sync_all()?;
        Ok(Some(path))
    }
}

/// Collects records into a commit.
struct CommitWriter {
    base_offset: u64,
    append_time_ms: u64,
    payload: Vec<u8>,
    count: u32,
    kept: u64,
    lost: u64,
}

impl CommitWriter {
    fn new(base_offset: u64, append_time_ms: u64) -> Self {
        Self { base_offset, append_time_ms, payload: Vec::new(), count: 0, kept: 0, lost: 0 }
    }

    fn next_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    fn keep(&mut self, record: &[u8]) {
        self.payload.extend_from_slice(record);
        self.count += 1;
        self.kept += 1;
    }

    fn lose(&mut self, out: &mut impl Write) -> io::Result<()> {
        if u64::from(self.count) >= LOST_PER_COMMIT {
            self.flush(out)?;
        }
        put_record(&mut self.payload, Topic::Lost, b"", |_| {}).map_err(io::Error::other)?;
        self.count += 1;
        self.lost += 1;
        Ok(())
    }

    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.count > 0 {
            let header = Header {
                base_offset: self.base_offset,
                record_count: self.count,
                payload_bytes: u32::try_from(self.payload.len()).map_err(io::Error::other)?,
                append_time_ms: self.append_time_ms,
                payload_crc: crc32fast::hash(&self.payload),
            };
            out.write_all(&header.encode())?;
            out.write_all(&self.payload)?;
            self.base_offset = header.end_offset();
            self.payload.clear();
            self.count = 0;
        }
        Ok(())
    }

    /// Kept and lost records.
    fn finish(mut self, out: &mut impl Write) -> io::Result<(u64, u64)> {
        self.flush(out)?;
        Ok((self.kept, self.lost))
    }
}

enum Found<'a> {
    Whole(&'a [u8]),
    /// One record, whose end is known and whose checksum is wrong.
    Bad,
    /// Any number of records.
    Gap,
}

/// The records in a damaged run of bytes.
fn find_records(bytes: &[u8]) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if let Some((_, tail)) = split_checked(rest) {
            let len = rest.len() - tail.len();
            found.push(Found::Whole(&rest[..len]));
            at += len;
        } else if let Some(len) = record_len(rest).filter(|len| ends_or_goes_on(&rest[*len..])) {
            found.push(Found::Bad);
            at += len;
        } else {
            if !matches!(found.last(), Some(Found::Gap)) {
                found.push(Found::Gap);
            }
            at += 1;
        }
    }
    found
}

/// Whether a length that cannot be trusted led to a place where it makes sense.
fn ends_or_goes_on(rest: &[u8]) -> bool {
    rest.is_empty() || split_checked(rest).is_some()
}

fn header_at(bytes: &[u8], at: usize) -> Option<Header> {
    Header::decode(bytes.get(at..)?.first_chunk()?).ok()
}

/// Where the next header is that is right and does not lie before `offset`.
fn next_header(bytes: &[u8], from: usize, offset: u64) -> Option<usize> {
    let starts = bytes.get(from..)?.windows(MAGIC.len()).enumerate().filter(|(_, w)| **w == MAGIC);
    let mut starts = starts.map(|(at, _)| from + at);
    starts.find(|at| header_at(bytes, *at).is_some_and(|h| h.base_offset >= offset))
}

/// Marks the offsets that consumers have read and that the log no longer has.
fn mark_lost_end(
    file: &Path,
    base: u64,
    next_offset: u64,
    report: &mut RepairReport,
) -> Result<(), RepairError> {
    let scan = segment::scan(file, 0, base, |_, _, _| Ok(())).map_err(RepairError::io("read", file))?;
    let (end, position, append_time_ms) = (scan.end_offset, scan.end_position, scan.last_append_ms);
    let mut writer = CommitWriter::new(end, append_time_ms);
    let mut bytes = Vec::new();
    for _ in end..next_offset {
        writer.lose(&mut bytes).map_err(RepairError::io("mend", file))?;
    }
    let (kept_records, lost_records) = writer.finish(&mut bytes).map_err(RepairError::io("mend", file))?;
    let out = OpenOptions::new().write(true).open(file).map_err(RepairError::io("open", file))?;
    // A torn tail would stand between; it was never acknowledged.
    out.set_len(position)
        .and_then(|()| out.write_all_at(&bytes, position))
        .and_then(|()| out.sync_all())
        .map_err(RepairError::io("mend", file))?;
    report.regions.push(RepairedRegion {
        segment: file.to_owned(),
        position,
        bytes: 0,
        quarantine: None,
        first_offset: end,
        next_offset,
        kept_records,
        lost_records,
    });
    Ok(())
}
