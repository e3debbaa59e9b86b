//! What is known of imported files: rebuilt from a snapshot and the log after it.
//!
//! The log is the truth; the snapshot only lets retention delete old segments. Its
//! position in the log is the consumer position `imports`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanal_storage::log::{AppendError, Appender, Batch, Log, Topic};
use serde::{Deserialize, Serialize};

use super::ImportTarget;
use super::error::ImportError;
use super::position::{HeadHash, Position};

const CONSUMER: &str = "imports";
const SNAPSHOT: &str = "imports.json";
const SNAPSHOT_VERSION: u32 = 1;
const READ_BYTES: usize = 1 << 20;
/// A log that is only busy is asked again, for half a minute in all.
const RETRIES_MAX: u32 = 300;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The imported files of one log. Clones share it.
#[derive(Clone)]
pub struct Imports {
    log: Log,
    path: PathBuf,
    files: Arc<Mutex<Files>>,
    /// One position at a time, so that two imports of one file cannot both go on.
    appending: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Files {
    /// By head; for each, the furthest position of every content that began so.
    heads: HashMap<HeadHash, Vec<Position>>,
    /// Everything before this offset of the log is in here.
    next_offset: u64,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    log_offset: u64,
    heads: BTreeMap<String, Vec<Position>>,
}

impl Imports {
    /// Reads the snapshot in `dir` and the log after it.
    pub fn open(log: &Log, dir: &Path) -> Result<Self, ImportError> {
        let path = dir.join(SNAPSHOT);
        let mut files = load(&path)?;
        let lost = |detail: String| ImportError::SnapshotLost { path: path.clone(), detail };
        if files.next_offset > log.end_offset() {
            return Err(lost(format!("it covers offset {}, the log ends before", files.next_offset)));
        }
        if files.next_offset < log.start_offset() {
            return Err(lost(format!("it ends at offset {}, the log begins later", files.next_offset)));
        }
        let mut reader = log.reader(files.next_offset)?;
        while let Some(chunk) = reader.try_next(READ_BYTES)? {
            for record in chunk.records().filter(|r| r.topic == Topic::Positions) {
                if let Some((head, position)) = Position::of_record(record.key, record.value) {
                    files.apply(head, position);
                }
            }
            files.next_offset = chunk.next_offset();
        }
        let imports =
            Self { log: log.clone(), path, files: Arc::new(Mutex::new(files)), appending: Arc::default() };
        imports.store()?;
        Ok(imports)
    }

    /// The positions of files with this head, by offset.
    #[must_use]
    pub fn lookup(&self, head: &HeadHash) -> Vec<Position> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).sorted(head)
    }

    /// Appends a batch of an import. Its position must go on from one that is known.
    pub async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        let positions: Vec<_> = batch
            .records()
            .filter(|(topic, ..)| *topic == Topic::Positions)
            .filter_map(|(_, key, value)| Position::of_record(key, value))
            .collect();
        let _one_at_a_time = self.appending.lock().await;
        {
            let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            if positions.iter().any(|(head, position)| !files.continues(head, position)) {
                return Err(ImportError::Concurrent);
            }
        }
        append_patiently(&self.log.appender(), batch).await?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (head, position) in positions {
            files.apply(head, position);
        }
        Ok(())
    }

    /// Ends the file of the raw archive.
    pub async fn seal(&self) -> Result<(), ImportError> {
        self.log.appender().seal().await?;
        Ok(())
    }

    /// Writes what is known, so that retention can go on. Waits for a batch under way.
    pub async fn snapshot(&self) -> Result<(), ImportError> {
        let _one_at_a_time = self.appending.lock().await;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).next_offset = self.log.end_offset();
        self.store()
    }

    fn store(&self) -> Result<(), ImportError> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let heads =
            files.heads.iter().map(|(head, positions)| (head.to_string(), positions.clone())).collect();
        let snapshot = Snapshot { version: SNAPSHOT_VERSION, log_offset: files.next_offset, heads };
        let stored = serde_json::to_vec(&snapshot).map_err(io::Error::other);
        stored
            .and_then(|json| replace(&self.path, &json))
            .map_err(|source| ImportError::Snapshot { path: self.path.clone(), source })?;
        // Only now may retention delete what the snapshot holds.
        self.log.positions().commit(CONSUMER, snapshot.log_offset)?;
        Ok(())
    }
}

impl Files {
    fn apply(&mut self, head: HeadHash, position: Position) {
        let known = self.heads.entry(head).or_default();
        known.retain(|old| position.extends.as_ref() != Some(&old.prefix) && old.prefix != position.prefix);
        known.push(position);
    }

    fn sorted(&self, head: &HeadHash) -> Vec<Position> {
        let mut positions = self.heads.get(head).cloned().unwrap_or_default();
        positions.sort_by(|a, b| (a.offset, &a.prefix).cmp(&(b.offset, &b.prefix)));
        positions
    }

    /// Whether nobody else has gone on from where this position begins.
    fn continues(&self, head: &HeadHash, position: &Position) -> bool {
        match (&position.known, &position.extends) {
            (Some(known), _) => *known == Position::summary(&self.sorted(head)),
            (None, Some(prefix)) => {
                self.heads.get(head).is_some_and(|known| known.iter().any(|old| old.prefix == *prefix))
            }
            (None, None) => false,
        }
    }
}

async fn append_patiently(appender: &Appender, batch: Batch) -> Result<(), ImportError> {
    for _ in 0..RETRIES_MAX {
        match appender.append(batch.clone()).await {
            Err(AppendError::Overloaded) => tokio::time::sleep(RETRY_PAUSE).await,
            other => return other.map(|_| ()).map_err(ImportError::from),
        }
    }
    Err(AppendError::Overloaded.into())
}

fn load(path: &Path) -> Result<Files, ImportError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::default()),
        Err(source) => return Err(ImportError::Snapshot { path: path.to_owned(), source }),
    };
    let lost = |detail: String| ImportError::SnapshotLost { path: path.to_owned(), detail };
    let snapshot: Snapshot = serde_json::from_slice(&text).map_err(|error| lost(error.to_string()))?;
    if snapshot.version != SNAPSHOT_VERSION {
        return Err(lost(format!(
            "it has version {}, this program reads {SNAPSHOT_VERSION}",
            snapshot.version
        )));
    }
    let mut files = Files { next_offset: snapshot.log_offset, ..Files::default() };
    for (head, positions) in snapshot.heads {
        let head = HeadHash::parse(&head).ok_or_else(|| lost(format!("`{head}` is no head")))?;
        files.heads.insert(head, positions);
    }
    Ok(files)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Imports into the log of this process.
#[derive(Clone)]
pub struct LocalTarget {
    pub imports: Imports,
}

impl ImportTarget for LocalTarget {
    async fn lookup(&self, head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        Ok(self.imports.lookup(head))
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        self.imports.append(batch).await
    }

    async fn seal(&self) -> Result<(), ImportError> {
        self.imports.seal().await?;
        self.imports.snapshot().await
    }
}
