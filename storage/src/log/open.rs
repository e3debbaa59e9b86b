//! Opening: the lock, the torn tail, and the proof that nothing is missing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::error::{Damage, OpenError};
use super::file::{Opener, sync_dir};
use super::format::PAYLOAD_BYTES_MAX;
use super::segment::{self, Scan, Segment, Tail};
use super::writer::{self, Shared, Writer};
use super::{Log, LogConfig, Positions, positions, positions_dir, quarantine_dir, segments_dir};

/// At least this many segments at the end are read through, whatever consumers have done.
const CHECKED_SEGMENTS_MIN: usize = 2;

pub(super) fn open(dir: &Path, mut config: LogConfig, opener: Opener) -> Result<Log, OpenError> {
    config.commit_bytes_max = config.commit_bytes_max.min(PAYLOAD_BYTES_MAX);
    create_dirs(dir)?;
    let lock = lock(dir)?;
    let known = positions::load(&positions_dir(dir))?;
    let found = read_segments(dir, known.values().copied().min().unwrap_or(0), &opener)?;
    if let Some((consumer, position)) = known.iter().find(|(_, position)| **position > found.end_offset) {
        return Err(OpenError::BehindConsumer {
            consumer: consumer.clone(),
            position: *position,
            end: found.end_offset,
        });
    }
    let Some(segment) = found.segments.last().cloned() else {
        return Err(OpenError::Io {
            action: "find a segment in",
            path: dir.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        });
    };
    let file = opener(&segment.path).map_err(OpenError::io("open", &segment.path))?;
    let shared = Arc::new(Shared::new(dir.to_owned(), config, found.segments, found.end_offset, lock));
    let positions = Positions::new(positions_dir(dir), known, shared.durable.subscribe());
    let writer = Writer {
        shared: Arc::clone(&shared),
        opener,
        file,
        position: segment.durable_bytes(),
        segment,
        next_offset: found.end_offset,
        last_append_ms: found.last_append_ms,
    };
    let appender = writer.start().map_err(OpenError::io("start the writer of", dir))?;
    Ok(Log { shared, positions: Arc::new(positions), appender })
}

pub(super) fn create_dirs(dir: &Path) -> Result<(), OpenError> {
    for dir in [segments_dir(dir), positions_dir(dir), quarantine_dir(dir)] {
        fs::create_dir_all(&dir).map_err(OpenError::io("create", &dir))?;
    }
    sync_dir(dir).map_err(OpenError::io("sync", dir))
}

/// How often, and how long apart, a lock that is held is tried again.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

/// Takes the directory for this process; the system frees it when the process ends.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::io("open", &path))?;
    match lock_soon(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).ok();
            let pid = if pid.trim().is_empty() { "(unknown)" } else { pid.trim() };
            return Err(OpenError::InUse { dir: dir.to_owned(), pid: pid.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::Io { action: "lock", path, source }),
    }
    // Only a help for people. A full disk must not keep the log from opening.
    let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = named {
        tracing::warn!(%error, "cannot write the process id into the lock file");
    }
    Ok(file)
}

/// A process that is ending, or a child between fork and exec, may hold the lock
/// for a moment longer.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            tried => return tried,
        }
    }
    file.try_lock()
}

struct Found {
    segments: Vec<Arc<Segment>>,
    end_offset: u64,
    last_append_ms: u64,
}

/// Checks the segments that somebody will still read; `finished` is the offset that
/// every consumer has passed. The older ones are checked when they are read.
fn read_segments(dir: &Path, finished: u64, opener: &Opener) -> Result<Found, OpenError> {
    let dir = segments_dir(dir);
    let mut bases = segment::list(&dir).map_err(OpenError::io("list", &dir))?;
    if bases.is_empty() {
        let first = Segment::new(&dir, 0);
        writer::create(opener, &first.path).map_err(OpenError::io("create", &first.path))?;
        bases.push(0);
    }
    let mut found = Found { segments: Vec::with_capacity(bases.len()), end_offset: 0, last_append_ms: 0 };
    for (at, &base) in bases.iter().enumerate() {
        let segment = Segment::new(&dir, base);
        let next = bases.get(at + 1).copied();
        let recent = at + CHECKED_SEGMENTS_MIN >= bases.len();
        if recent || next.is_some_and(|next| next > finished) {
            let scan = check(&segment, next)?;
            found.end_offset = scan.end_offset;
            found.last_append_ms = found.last_append_ms.max(scan.last_append_ms);
        } else {
            glance(&segment)?;
        }
        found.segments.push(Arc::new(segment));
    }
    Ok(found)
}

/// Reads a segment through; cuts a torn tail off the last one.
fn check(segment: &Segment, next: Option<u64>) -> Result<Scan, OpenError> {
    let path = &segment.path;
    let scan = segment::scan(path, 0, segment.base_offset, |position, header, _| {
        segment.note_commit(header, position);
        Ok(())
    })
    .map_err(OpenError::io("read", path))?;
    let damaged = |detail| {
        OpenError::Damaged(Damage {
            file: path.clone(),
            position: scan.end_position,
            first_offset: scan.end_offset,
            detail,
        })
    };
    match (scan.tail, next) {
        (Tail::Damaged(detail), _) => return Err(damaged(detail)),
        (Tail::Torn, Some(_)) => {
            return Err(damaged("the segment ends inside a commit, but a newer one follows"));
        }
        (Tail::Clean, Some(found)) if found != scan.end_offset => {
            return Err(OpenError::Hole { file: path.clone(), expected: scan.end_offset, found });
        }
        (Tail::Clean, Some(_)) => {}
        (tail, None) => {
            let file = OpenOptions::new().write(true).open(path).map_err(OpenError::io("open", path))?;
            if tail == Tail::Torn {
                let bytes = scan.file_bytes - scan.end_position;
                tracing::info!(file = %path.display(), position = scan.end_position, bytes, "cut a torn tail");
                file.set_len(scan.end_position).map_err(OpenError::io("cut", path))?;
            }
            // A commit that was written but not yet synced when the process was
            // killed is about to be shown to readers.
            file.sync_all().map_err(OpenError::io("sync", path))?;
        }
    }
    segment.set_durable_bytes(scan.end_position);
    Ok(scan)
}

/// Takes note of a segment that every consumer has finished.
fn glance(segment: &Segment) -> Result<(), OpenError> {
    use super::format::{HEADER_BYTES, Header};
    let path = &segment.path;
    let mut file = File::open(path).map_err(OpenError::io("open", path))?;
    let bytes = file.metadata().map_err(OpenError::io("read", path))?.len();
    let mut head = [0; HEADER_BYTES];
    // A damaged header is found by whoever reads; here it only has no age.
    if file.read_exact(&mut head).is_ok()
        && let Ok(header) = Header::decode(&head)
    {
        segment.note_commit(&header, 0);
    }
    segment.set_durable_bytes(bytes);
    Ok(())
}
