//! The catalogue: sites, published SDK configurations, token clients. SQLite.
//!
//! Never holds events or visits. What must stay true: what a request needs is
//! answered from memory; a change is on disk before anyone sees it; a change by
//! another process on the same file is seen within [`POLL_INTERVAL`]; within a
//! site each publication has a later `Last-Modified` second than the one before.

mod client;
mod configuration;
mod error;
mod migrate;
mod site;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::{Mutex, broadcast};

pub use configuration::{Configuration, ConfigurationDirectory, Publication, Published};
pub use error::CatalogueError;
pub use site::{Site, SiteDirectory, VisitorCookie};

/// How soon a change by another process is seen.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a write waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of one process; reads come from memory, so that few are enough.
const CONNECTIONS_MAX: u32 = 4;
/// Publications that a slow listener may lag behind before it is told so.
const PUBLICATIONS_QUEUED: usize = 256;

/// The open catalogue. Clones share it.
#[derive(Debug, Clone)]
pub struct Catalogue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    pool: SqlitePool,
    sites: SiteDirectory,
    configurations: ConfigurationDirectory,
    publications: broadcast::Sender<Publication>,
    /// The revision in memory; held while it is brought up to date.
    loaded: Mutex<i64>,
}

/// Whether a write made something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    Changed,
}

impl Catalogue {
    /// Opens the file, made if it is not there, and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Self, CatalogueError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A published configuration must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|error| CatalogueError::of(path, error))?;
        migrate::migrate(&pool, path).await?;
        let catalogue = Self(Arc::new(Inner {
            path: path.to_owned(),
            pool,
            sites: SiteDirectory::default(),
            configurations: ConfigurationDirectory::default(),
            publications: broadcast::Sender::new(PUBLICATIONS_QUEUED),
            loaded: Mutex::new(0),
        }));
        catalogue.refresh().await?;
        Ok(catalogue)
    }

    /// The sites, for lookups on every request.
    #[must_use]
    pub fn sites(&self) -> SiteDirectory {
        self.0.sites.clone()
    }

    /// The published SDK configurations, for lookups on every request.
    #[must_use]
    pub fn configurations(&self) -> ConfigurationDirectory {
        self.0.configurations.clone()
    }

    /// Each publication from now on, by this or another process, once
    /// [`Self::configurations`] has it.
    #[must_use]
    pub fn publications(&self) -> broadcast::Receiver<Publication> {
        self.0.publications.subscribe()
    }

    /// Brings the memory up to date. Cheap when nothing changed.
    pub async fn refresh(&self) -> Result<(), CatalogueError> {
        let mut loaded = self.0.loaded.lock().await;
        let failed = |error| self.failed(error);
        let mut read = self.0.pool.begin().await.map_err(failed)?;
        let revision: i64 =
            sqlx::query_scalar("SELECT number FROM revision").fetch_one(&mut *read).await.map_err(failed)?;
        if revision == *loaded {
            return Ok(());
        }
        let sites = site::load(&mut read).await.map_err(failed)?;
        let changes = configuration::load(&mut read, &self.0.configurations).await.map_err(failed)?;
        drop(read);
        self.0.sites.replace(sites);
        for publication in self.0.configurations.apply(changes) {
            // Nobody listening is fine.
            let _ = self.0.publications.send(publication);
        }
        *loaded = revision;
        Ok(())
    }

    /// Keeps the memory up to date with what other processes write, until `stop`.
    pub async fn follow(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut failing = false;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            match self.refresh().await {
                Ok(()) => {
                    if failing {
                        tracing::info!("catalogue is readable again");
                    }
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "cannot read changes of the catalogue");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Closes the file; open transactions end first.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    fn failed(&self, error: sqlx::Error) -> CatalogueError {
        CatalogueError::of(&self.0.path, error)
    }

    /// A transaction that holds the write lock from the start, so that what it reads stays true.
    async fn write(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, CatalogueError> {
        self.0.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.failed(error))
    }
}
