//! The bytes of a log, wherever and however they are kept: plain, gzip, zstd, or on
//! standard input. Reads in one pass and can be asked how far it has come.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::error::ImportError;

const BUFFER_BYTES: usize = 256 << 10;
/// A last line without an end may be half a line, as long as somebody writes the
/// file: nginx writes whole lines, so a pause of this length ends the doubt.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
const SETTLE_POLL: Duration = Duration::from_millis(100);
/// zstd frames may ask for this much memory: `zstd --long=27` at most.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A log to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Stdin,
    File(PathBuf),
}

impl Input {
    /// `-` is standard input.
    #[must_use]
    pub fn parse(argument: &str) -> Self {
        if argument == "-" { Self::Stdin } else { Self::File(PathBuf::from(argument)) }
    }

    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "-".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The content, unpacked, to be read once from its beginning to where it ends now.
    pub fn content(&self) -> io::Result<Box<dyn BufRead>> {
        match self {
            Self::File(path) => Source::new(File::open(path)?, true)?.content(),
            Self::Stdin => {
                let mut stored = BufReader::with_capacity(BUFFER_BYTES, io::stdin());
                let packing = Packing::of(stored.fill_buf()?);
                packing.unpacked(stored)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Stdin => Path::new("-"),
            Self::File(path) => path,
        }
    }

    /// Makes the input one that can be read more than once. Standard input is kept in
    /// a temporary file, because where to go on is only known after reading it.
    pub(super) async fn open(&self) -> Result<Source, ImportError> {
        let failed = |source| ImportError::Read { path: self.path().to_owned(), source };
        match self {
            Self::Stdin => {
                let mut spool = tempfile::tempfile().map_err(failed)?;
                io::copy(&mut io::stdin().lock(), &mut spool).map_err(failed)?;
                Source::new(spool, true).map_err(failed)
            }
            Self::File(path) => {
                let file = File::open(path).map_err(failed)?;
                let about = file.metadata().map_err(failed)?;
                if about.is_dir() {
                    return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
                }
                let mut source = Source::new(file, false).map_err(failed)?;
                if source.packing == Packing::Plain {
                    let file = &source.file;
                    source.complete =
                        ends_a_line(file).map_err(failed)? || settles(file).await.map_err(failed)?;
                }
                Ok(source)
            }
        }
    }
}

fn ends_a_line(mut file: &File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Waits a little where the file was written just now; true if nobody writes on.
async fn settles(file: &File) -> io::Result<bool> {
    let before = file.metadata()?;
    let age =
        |about: &Metadata| about.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    let polls = SETTLED_AFTER.as_millis() / SETTLE_POLL.as_millis() + 1;
    for _ in 0..polls {
        let now = file.metadata()?;
        if now.len() != before.len() {
            return Ok(false);
        }
        // A clock that went back makes no file younger than it is.
        if age(&now).is_none_or(|age| age >= SETTLED_AFTER) {
            return Ok(true);
        }
        tokio::time::sleep(SETTLE_POLL).await;
    }
    Ok(true)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// The content says how it is packed; names lie after a rename.
    fn of(begin: &[u8]) -> Self {
        match begin {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    fn unpacked(self, stored: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
        Ok(match self {
            Self::Plain => Box::new(stored),
            Self::Gzip => {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::bufread::MultiGzDecoder::new(stored)))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
            }
        })
    }
}

/// An open log.
pub(super) struct Source {
    file: File,
    packing: Packing,
    /// Size as stored.
    pub(super) stored_bytes: u64,
    /// Bytes read as stored, for progress.
    pub(super) read_bytes: Arc<AtomicU64>,
    /// Whether a last line without an end is a line.
    pub(super) complete: bool,
}

impl Source {
    fn new(mut file: File, settled: bool) -> io::Result<Self> {
        let stored_bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(0))?;
        let mut magic = Vec::new();
        (&file).take(4).read_to_end(&mut magic)?;
        let packing = Packing::of(&magic);
        let complete = settled || packing != Packing::Plain;
        Ok(Self { file, packing, stored_bytes, read_bytes: Arc::default(), complete })
    }

    /// The content from its beginning.
    pub(super) fn content(&self) -> io::Result<Box<dyn BufRead>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        self.read_bytes.store(0, Ordering::Relaxed);
        // A file that grows while it is read is read up to the size it had.
        let limited = file.take(self.stored_bytes);
        let counted = Counted { inner: limited, read_bytes: Arc::clone(&self.read_bytes) };
        let stored = BufReader::with_capacity(BUFFER_BYTES, counted);
        self.packing.unpacked(stored)
    }
}

struct Counted<R> {
    inner: R,
    read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
