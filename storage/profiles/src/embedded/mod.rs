//! Profiles in a file of this node.
//!
//! What must stay true: one process writes the file; after a crash it opens and holds
//! a state that once was, with everything written before `flush_to_disk` returned.
//! Between such calls commits wait for no disk, since the archive has everything.

mod keys;
mod tables;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableError, WriteTransaction,
};

use crate::batch::ProfileVisit;
use crate::config::EmbeddedConfig;
use crate::error::ProfileError;
use crate::profile::{Link, Swept};
use crate::writes::{Stamp, Writes, oldest_ms};
use crate::{LINKS_READ_MAX, Limits, encoding};
use keys::Kind;
use tables::Tables;

/// Version of the tables; another one is refused.
const SCHEMA_VERSION: u64 = 1;
/// Changes that wait for no disk at most: pages of such commits are not used again
/// before a lasting one.
const UNFLUSHED_MAX: u64 = 20_000;
/// Entries of the expiry index that one step looks at.
const SWEEP_STEP: usize = 1000;
/// Entries of a removed site that one transaction takes.
const REMOVE_STEP: usize = 10_000;

/// The embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedProfiles {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    limits: Limits,
    /// Changes since the last commit that reached the disk.
    unflushed: AtomicU64,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl EmbeddedProfiles {
    /// Opens or makes the file. Blocks for a moment.
    pub fn open(path: &Path, config: &EmbeddedConfig, limits: Limits) -> Result<Self, ProfileError> {
        let failed =
            |source: redb::Error| ProfileError::Open { path: path.to_owned(), source: Box::new(source) };
        let mut builder = Database::builder();
        builder.set_cache_size(config.cache_mib as usize * 1024 * 1024);
        let database = builder.create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => ProfileError::InUse { path: path.to_owned() },
            other => failed(other.into()),
        })?;
        if let Some(found) = make_tables(&database).map_err(failed)? {
            return Err(ProfileError::NewerSchema { found, known: SCHEMA_VERSION });
        }
        Ok(Self { inner: Arc::new(Inner { database, limits, unflushed: AtomicU64::new(0) }) })
    }

    pub(crate) fn limits(&self) -> Limits {
        self.inner.limits
    }

    pub(crate) async fn write(&self, writes: Writes) -> Result<(), ProfileError> {
        self.run(move |inner| {
            let visits_max = inner.limits.visits_per_visitor_max;
            let changes = (writes.slots.len() + writes.links.len()) as u64;
            inner.change(changes, |tables| {
                // In the order of the keys, so that neighbours share their pages.
                let mut slots: Vec<_> = writes.slots.iter().collect();
                slots.sort_unstable_by_key(|(key, _)| *key);
                for (key, slot) in slots {
                    tables.put_slot(key, slot, visits_max)?;
                }
                let mut links: Vec<_> = writes.links.iter().collect();
                links.sort_unstable();
                for (key, at_ms) in links {
                    tables.put_link(key, *at_ms)?;
                }
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn flush_to_disk(&self) -> Result<(), ProfileError> {
        self.run(|inner| {
            let transaction = inner.begin(true)?;
            inner.finish(transaction)
        })
        .await
    }

    pub(crate) async fn visits(
        &self,
        site_code: &str,
        visitor_code: &str,
        now_ms: u64,
    ) -> Result<Vec<ProfileVisit>, ProfileError> {
        let visitor = keys::codes(&[site_code, visitor_code]);
        self.run(move |inner| inner.visits(&visitor, oldest_ms(inner.limits, now_ms))).await
    }

    pub(crate) async fn linked(
        &self,
        site_code: &str,
        mapping_value: &str,
        now_ms: u64,
    ) -> Result<Vec<Link>, ProfileError> {
        let prefix = keys::codes(&[site_code, mapping_value]);
        self.run(move |inner| inner.links(tables::LINKS, &prefix, oldest_ms(inner.limits, now_ms))).await
    }

    pub(crate) async fn links_of(
        &self,
        site_code: &str,
        visitor_code: &str,
        now_ms: u64,
    ) -> Result<Vec<Link>, ProfileError> {
        let prefix = keys::codes(&[site_code, visitor_code]);
        self.run(move |inner| inner.links(tables::VALUES, &prefix, oldest_ms(inner.limits, now_ms))).await
    }

    pub(crate) async fn erase(
        &self,
        site_code: &str,
        visitor_code: &str,
        version: u64,
        at_ms: u64,
    ) -> Result<(), ProfileError> {
        let (site, visitor) = (site_code.to_owned(), visitor_code.to_owned());
        self.run(move |inner| {
            inner.change(1, |tables| tables.erase([&site, &visitor], Stamp::erasure(version), at_ms))
        })
        .await?;
        // A person was promised that it is gone.
        self.flush_to_disk().await
    }

    pub(crate) async fn remove_site(&self, site_code: &str) -> Result<(), ProfileError> {
        let prefix = keys::codes(&[site_code]);
        self.run(move |inner| {
            loop {
                let mut removed = 0;
                inner.change(REMOVE_STEP as u64, |tables| {
                    removed += remove_some(&mut tables.visits, &prefix)?;
                    removed += remove_some(&mut tables.links, &prefix)?;
                    removed += remove_some(&mut tables.values, &prefix)?;
                    removed += remove_some(&mut tables.erased, &prefix)?;
                    Ok(())
                })?;
                if removed == 0 {
                    return Ok(());
                }
            }
        })
        .await?;
        self.flush_to_disk().await
    }

    pub(crate) async fn sweep(&self, now_ms: u64) -> Result<Swept, ProfileError> {
        self.run(move |inner| inner.sweep(oldest_ms(inner.limits, now_ms))).await
    }

    pub(crate) async fn ping(&self) -> Result<(), ProfileError> {
        self.run(|inner| {
            let transaction = inner.database.begin_read().map_err(storage)?;
            let meta = transaction.open_table(tables::META).map_err(storage)?;
            meta.get("version").map_err(storage).map(|_| ())
        })
        .await
    }

    /// Runs what waits for the disk away from the threads that answer requests.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ProfileError> + Send + 'static,
    ) -> Result<T, ProfileError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|error| ProfileError::Interrupted(error.to_string()))?
    }
}

impl Inner {
    fn begin(&self, lasting: bool) -> Result<WriteTransaction, ProfileError> {
        let mut transaction = self.database.begin_write().map_err(storage)?;
        let durability = if lasting { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability).map_err(storage)?;
        // The file opens at once after a crash, whatever its size.
        transaction.set_quick_repair(lasting);
        if lasting {
            // Writers take turns, so nothing is added before the commit.
            self.unflushed.store(0, Ordering::Relaxed);
        }
        Ok(transaction)
    }

    fn finish(&self, transaction: WriteTransaction) -> Result<(), ProfileError> {
        transaction.commit().map_err(storage)
    }

    /// Runs `work` in a transaction of its own, which reaches the disk every so often.
    fn change(
        &self,
        changes: u64,
        work: impl FnOnce(&mut Tables<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), ProfileError> {
        let unflushed = self.unflushed.fetch_add(changes, Ordering::Relaxed) + changes;
        let transaction = self.begin(unflushed >= UNFLUSHED_MAX)?;
        {
            let mut tables = Tables::open(&transaction).map_err(storage)?;
            work(&mut tables).map_err(storage)?;
        }
        self.finish(transaction)
    }

    fn visits(&self, visitor: &[u8], oldest_ms: u64) -> Result<Vec<ProfileVisit>, ProfileError> {
        let transaction = self.database.begin_read().map_err(storage)?;
        let table = transaction.open_table(tables::VISITS).map_err(storage)?;
        let mut visits = Vec::new();
        for entry in tables::range(&table, visitor).map_err(storage)?.take(self.limits.visits_per_visitor_max)
        {
            let (key, value) = entry.map_err(storage)?;
            let Some(key) = keys::read_slot(key.value()) else { continue };
            if key.started_at_ms < oldest_ms {
                break;
            }
            let data = tables::split_slot(value.value()).map(|(_, data)| data).unwrap_or_default();
            visits.extend(encoding::read(&key, data)?);
        }
        Ok(visits)
    }

    fn links(
        &self,
        table: redb::TableDefinition<'static, &'static [u8], u64>,
        prefix: &[u8],
        oldest_ms: u64,
    ) -> Result<Vec<Link>, ProfileError> {
        let transaction = self.database.begin_read().map_err(storage)?;
        let table = transaction.open_table(table).map_err(storage)?;
        let mut links = Vec::new();
        for entry in tables::range(&table, prefix).map_err(storage)? {
            let (key, at_ms) = entry.map_err(storage)?;
            let Some(([_, _, to], _)) = keys::split_codes::<3>(key.value()) else { continue };
            if at_ms.value() < oldest_ms {
                continue;
            }
            links.push(Link { to: to.to_owned(), linked_at_ms: at_ms.value() });
            if links.len() == LINKS_READ_MAX {
                break;
            }
        }
        Ok(links)
    }

    fn sweep(&self, oldest_ms: u64) -> Result<Swept, ProfileError> {
        let mut due = Vec::new();
        {
            let transaction = self.database.begin_read().map_err(storage)?;
            let expiry = transaction.open_table(tables::EXPIRY).map_err(storage)?;
            for entry in expiry.iter().map_err(storage)?.take(SWEEP_STEP) {
                let key = entry.map_err(storage)?.0.value().to_vec();
                if keys::read_expiry(&key).is_some_and(|(hour_end_ms, _, _)| hour_end_ms > oldest_ms) {
                    break;
                }
                due.push(key);
            }
        }
        let mut removed = 0;
        if !due.is_empty() {
            self.change(due.len() as u64, |tables| {
                for key in &due {
                    removed += match keys::read_expiry(key) {
                        Some((_, Kind::Visits, visitor)) => tables.expire_visits(visitor, oldest_ms)?,
                        Some((_, Kind::Link, by_value)) => tables.expire_link(by_value, oldest_ms)?,
                        Some((_, Kind::Erasure, visitor)) => tables.expire_erasure(visitor, oldest_ms)?,
                        None => 0,
                    };
                    tables.expiry.remove(key.as_slice())?;
                }
                Ok(())
            })?;
        }
        Ok(Swept { removed, is_done: due.len() < SWEEP_STEP })
    }
}

/// Makes the tables, or gives the version of a file that is not ours to write.
fn make_tables(database: &Database) -> Result<Option<u64>, redb::Error> {
    {
        let transaction = database.begin_read()?;
        match transaction.open_table(tables::META) {
            Ok(meta) => match meta.get("version")?.map(|version| version.value()) {
                Some(SCHEMA_VERSION) => return Ok(None),
                Some(found) => return Ok(Some(found)),
                None => {}
            },
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    let transaction = database.begin_write()?;
    {
        transaction.open_table(tables::META)?.insert("version", SCHEMA_VERSION)?;
        Tables::open(&transaction)?;
    }
    transaction.commit()?;
    Ok(None)
}

/// Removes up to [`REMOVE_STEP`] entries whose key begins with `prefix`.
fn remove_some<V: redb::Value + 'static>(
    table: &mut redb::Table<'_, &'static [u8], V>,
    prefix: &[u8],
) -> Result<usize, redb::Error> {
    let mut keys = Vec::new();
    for entry in tables::range(table, prefix)?.take(REMOVE_STEP) {
        keys.push(entry?.0.value().to_vec());
    }
    for key in &keys {
        table.remove(key.as_slice())?;
    }
    Ok(keys.len())
}

fn storage(error: impl Into<redb::Error>) -> ProfileError {
    ProfileError::Storage(Box::new(error.into()))
}
