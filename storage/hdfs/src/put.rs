//! Writing a file so that it is there whole or not at all.
//!
//! Temporary files have a folder of their own, so that no reader ever meets one, and
//! names that no two writers share. What a dead writer left there is removed by the
//! next one after an age that no living writer's file reaches.

use std::sync::PoisonError;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hdfs_native::{HdfsError, WriteOptions};
use object_store::path::Path;
use object_store::{Error, PutMode, PutOptions, PutPayload, PutResult, Result};

use crate::error::{failed, is_missing};
use crate::{Connection, HdfsStore};

/// Folder of temporary files, below the archive's own.
const TEMPORARY: &str = "_tmp";
/// Permissions of folders that are created.
const FOLDER_MODE: u32 = 0o755;

pub(crate) async fn put(
    store: &HdfsStore,
    location: &Path,
    payload: PutPayload,
    options: &PutOptions,
) -> Result<PutResult> {
    let overwrite = match &options.mode {
        PutMode::Create => false,
        PutMode::Overwrite => true,
        PutMode::Update(_) => return Err(crate::not_here("a conditional put")),
    };
    let connection = store.connection();
    let path = store.absolute(location);
    // Most double work is seen before it is done.
    if !overwrite && length(store, &connection, &path).await?.is_some() {
        return Err(failed("write", &path, HdfsError::AlreadyExists(path.clone())));
    }
    let temporary = format!("{}/{TEMPORARY}/{:032x}", store.config().root, rand::random::<u128>());
    let len = payload.content_length() as u64;
    // In a box: the client's futures are large.
    let writing = Box::pin(write(store, &connection, &temporary, payload));
    let put_timeout = store.config().put_timeout();
    let written = store.bounded_by(put_timeout, &connection, "write", &path, writing).await;
    let placed = match written {
        Ok(Ok(())) => place(store, &connection, &temporary, &path, len, overwrite).await,
        Ok(Err(error)) => Err(failed("write", &path, error)),
        Err(error) => Err(error),
    };
    if placed.is_err() {
        discard(store, &temporary).await;
    }
    placed?;
    clean_now_and_then(store).await;
    Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
}

/// Writes and syncs a temporary file.
async fn write(
    store: &HdfsStore,
    connection: &Connection,
    temporary: &str,
    payload: PutPayload,
) -> Result<(), HdfsError> {
    let config = store.config();
    let block_bytes = config.block_bytes();
    let mut options = WriteOptions::default().block_size(block_bytes);
    if config.replication > 0 {
        options = options.replication(config.replication);
    }
    let mut file = connection.client.create(temporary, options).await?;
    let mut in_block = 0;
    for mut piece in payload {
        while !piece.is_empty() {
            // A sync reaches the current block only, so each is synced before the next.
            let room = usize::try_from(block_bytes - in_block).unwrap_or(usize::MAX);
            let part: Bytes = piece.split_to(room.min(piece.len()));
            in_block += part.len() as u64;
            Box::pin(file.write_bytes(part)).await?;
            if in_block == block_bytes {
                in_block = 0;
                if config.sync {
                    file.hsync().await?;
                }
            }
        }
    }
    if config.sync && in_block > 0 {
        file.hsync().await?;
    }
    Box::pin(file.close()).await
}

/// Gives the file its name.
async fn place(
    store: &HdfsStore,
    connection: &Connection,
    temporary: &str,
    path: &str,
    len: u64,
    overwrite: bool,
) -> Result<()> {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let made = connection.client.mkdirs(folder, FOLDER_MODE, true);
    let made = store.bounded(connection, "create the folder of", path, made).await?;
    made.map_err(|error| failed("create the folder of", path, error))?;
    let renamed = connection.client.rename(temporary, path, overwrite);
    let problem = match store.bounded(connection, "rename to", path, renamed).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error @ HdfsError::AlreadyExists(_))) => return Err(failed("rename to", path, error)),
        Ok(Err(error)) => failed("rename to", path, error),
        Err(error) => error,
    };
    // The answer can be lost after the NameNode has renamed.
    let connection = store.connection();
    let is_gone = length(store, &connection, temporary).await?.is_none();
    if is_gone && length(store, &connection, path).await? == Some(len) {
        return Ok(());
    }
    match problem {
        // The folder was made just now: this is the temporary file, not the wanted one.
        Error::NotFound { path, source } => {
            Err(Error::Generic { store: "HDFS", source: format!("`{path}` vanished: {source}").into() })
        }
        other => Err(other),
    }
}

/// Length of a file that is there.
async fn length(store: &HdfsStore, connection: &Connection, path: &str) -> Result<Option<u64>> {
    match store.bounded(connection, "look at", path, connection.client.get_file_info(path)).await? {
        Ok(status) => Ok(Some(status.length as u64)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("look at", path, error)),
    }
}

/// One try: what stays is a leftover.
async fn discard(store: &HdfsStore, temporary: &str) {
    let connection = store.connection();
    let asked = connection.client.delete(temporary, false);
    let outcome = store.bounded(&connection, "delete", temporary, asked).await;
    if !matches!(outcome, Ok(Ok(_))) {
        tracing::warn!(file = temporary, "left a temporary file behind");
    }
}

async fn clean_now_and_then(store: &HdfsStore) {
    let after = std::time::Duration::from_millis(store.config().leftover_after_ms);
    {
        let mut cleaned = store.shared.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        if cleaned.is_some_and(|at| at.elapsed() < after) {
            return;
        }
        *cleaned = Some(Instant::now());
    }
    match store.remove_leftovers().await {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "removed temporary files of dead writers"),
        Err(error) => tracing::warn!(%error, "temporary files of dead writers stay for now"),
    }
}

impl HdfsStore {
    /// Removes temporary files that are older than `leftover_after_ms` and returns how
    /// many. Done by itself after the first put and from time to time.
    pub async fn remove_leftovers(&self) -> Result<u64> {
        let (connection, folder) = (self.connection(), format!("{}/{TEMPORARY}", self.config().root));
        let asked = connection.client.list_status(&folder, false);
        let found = match self.bounded(&connection, "list", &folder, asked).await? {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(0),
            Err(error) => return Err(failed("list", &folder, error)),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = u64::try_from(now).unwrap_or(u64::MAX);
        let mut removed = 0;
        for file in found.iter().filter(|file| !file.isdir) {
            if now_ms.saturating_sub(file.modification_time) >= self.config().leftover_after_ms {
                let asked = connection.client.delete(&file.path, false);
                let deleted = self.bounded(&connection, "delete", &file.path, asked).await?;
                deleted.map_err(|error| failed("delete", &file.path, error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
