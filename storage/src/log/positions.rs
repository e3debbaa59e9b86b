//! How far each consumer has come: one small file each, replaced atomically.
//!
//! A position never lies beyond what is durable; that is how a log which lost its
//! end is told from one that never had it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::error::PositionError;
use super::file::sync_dir;
use super::writer::Durable;

const NAME_CHARS_MAX: usize = 64;
/// First word of a position file.
const MARK: &str = "fanal-position-1";

/// The committed positions of all consumers.
#[derive(Debug)]
pub struct Positions {
    dir: PathBuf,
    known: Mutex<BTreeMap<String, u64>>,
    durable: watch::Receiver<Durable>,
}

impl Positions {
    pub(super) fn new(dir: PathBuf, known: BTreeMap<String, u64>, durable: watch::Receiver<Durable>) -> Self {
        Self { dir, known: Mutex::new(known), durable }
    }

    /// Says that `consumer` has finished everything before `offset`. Durable when
    /// it returns; blocks for that time. Going back is allowed: it reads again.
    pub fn commit(&self, consumer: &str, offset: u64) -> Result<(), PositionError> {
        check_name(consumer)?;
        let end = self.durable.borrow().end_offset;
        if offset > end {
            return Err(PositionError::BeyondEnd { wanted: offset, end });
        }
        // The lock is held over the write, so that file and map never disagree.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        store(&self.dir, consumer, offset)
            .map_err(|source| PositionError::Io { path: self.dir.join(consumer), source })?;
        known.insert(consumer.to_owned(), offset);
        Ok(())
    }

    /// Makes retention wait for `consumer`, from `offset` on, unless it has a
    /// position. Returns the position.
    pub fn register(&self, consumer: &str, offset: u64) -> Result<u64, PositionError> {
        match self.get(consumer) {
            Some(position) => Ok(position),
            None => self.commit(consumer, offset).map(|()| offset),
        }
    }

    /// Offset from which `consumer` goes on.
    #[must_use]
    pub fn get(&self, consumer: &str) -> Option<u64> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(consumer).copied()
    }

    /// All consumers with their positions.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets `consumer`; retention no longer waits for it.
    pub fn remove(&self, consumer: &str) -> Result<(), PositionError> {
        check_name(consumer)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.remove(consumer).is_some() {
            let path = self.dir.join(consumer);
            fs::remove_file(&path)
                .and_then(|()| sync_dir(&self.dir))
                .map_err(|source| PositionError::Io { path, source })?;
        }
        Ok(())
    }
}

/// Reads all positions of `dir`.
pub(super) fn load(dir: &Path) -> Result<BTreeMap<String, u64>, PositionError> {
    let io = |source| PositionError::Io { path: dir.to_owned(), source };
    let mut known = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if check_name(&name).is_err() {
            // What a crash left between writing and renaming.
            if name.ends_with(".tmp") {
                fs::remove_file(&path).map_err(io)?;
            }
            continue;
        }
        let text = fs::read_to_string(&path).map_err(io)?;
        let offset = parse(&text).ok_or_else(|| PositionError::Unreadable(path.clone()))?;
        known.insert(name, offset);
    }
    Ok(known)
}

/// The position of one consumer, read beside whoever writes it.
pub(super) fn peek(dir: &Path, consumer: &str) -> io::Result<Option<u64>> {
    match fs::read_to_string(dir.join(consumer)) {
        Ok(text) => match parse(&text) {
            Some(offset) => Ok(Some(offset)),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the position of `{consumer}` is unreadable"),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn store(dir: &Path, consumer: &str, offset: u64) -> io::Result<()> {
    let temporary = dir.join(format!("{consumer}.tmp"));
    let crc = crc32fast::hash(offset.to_string().as_bytes());
    let written = File::create(&temporary).and_then(|mut file| {
        writeln!(file, "{MARK} {offset} {crc:08x}")?;
        file.sync_data()
    });
    if let Err(error) = written {
        // On a full disk the empty file would only be in the way.
        fs::remove_file(&temporary).ok();
        return Err(error);
    }
    fs::rename(&temporary, dir.join(consumer))?;
    sync_dir(dir)
}

fn parse(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let (mark, offset, crc) = (words.next()?, words.next()?, words.next()?);
    let right = mark == MARK && crc == format!("{:08x}", crc32fast::hash(offset.as_bytes()));
    (right && words.next().is_none()).then(|| offset.parse().ok())?
}

fn check_name(name: &str) -> Result<(), PositionError> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if plain && (1..=NAME_CHARS_MAX).contains(&name.len()) {
        Ok(())
    } else {
        Err(PositionError::Name(name.chars().take(NAME_CHARS_MAX).collect()))
    }
}
