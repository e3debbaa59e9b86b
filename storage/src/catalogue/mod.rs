//! The catalogue: sites, published SDK configurations, token clients. A SQLite file,
//! or a database on MySQL or MariaDB that several machines share.
//!
//! Never holds events or visits. What must stay true: what a request needs is
//! answered from memory, and stays there when the database is gone; a change is on
//! disk before anyone sees it; a change by another process is seen within
//! [`POLL_INTERVAL`]; within a site each publication has a later `Last-Modified`
//! second than the one before; no wait is without a bound; no password is shown.

mod client;
mod configuration;
mod database;
mod dialect;
mod error;
mod lease;
mod migrate;
mod place;
mod site;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, broadcast};

use database::{Database, Transaction, on};

pub use configuration::{Configuration, ConfigurationDirectory, Publication, Published};
pub use error::CatalogueError;
pub use place::{CatalogueConfig, Place, Server};
pub use site::{Site, SiteDirectory, VisitorCookie};

/// How soon a change by another process is seen.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Publications that a slow listener may lag behind before it is told so.
const PUBLICATIONS_QUEUED: usize = 256;

/// The open catalogue. Clones share it.
#[derive(Debug, Clone)]
pub struct Catalogue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    sites: SiteDirectory,
    configurations: ConfigurationDirectory,
    publications: broadcast::Sender<Publication>,
    /// The revision in memory; held while it is brought up to date.
    loaded: Mutex<i64>,
    /// Why the last look at the database failed, if it did.
    trouble: ArcSwapOption<String>,
}

/// Whether a write made something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    Changed,
}

impl Catalogue {
    /// Opens the place and brings its tables up to date. A file is made if it is not
    /// there; a database is not.
    pub async fn open(place: impl Into<Place>) -> Result<Self, CatalogueError> {
        let database = Database::open(place.into()).await?;
        migrate::migrate(&database).await?;
        let catalogue = Self(Arc::new(Inner {
            database,
            sites: SiteDirectory::default(),
            configurations: ConfigurationDirectory::default(),
            publications: broadcast::Sender::new(PUBLICATIONS_QUEUED),
            loaded: Mutex::new(0),
            trouble: ArcSwapOption::empty(),
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

    /// Why changes by others are not seen at the moment; `None` when all is well. What
    /// is in memory is served meanwhile.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.0.trouble.load_full()
    }

    /// Brings the memory up to date. Cheap when nothing changed.
    pub async fn refresh(&self) -> Result<(), CatalogueError> {
        let refreshed = self.0.database.bounded(self.load()).await;
        self.0.trouble.store(refreshed.as_ref().err().map(|error| Arc::new(error.to_string())));
        refreshed
    }

    async fn load(&self) -> Result<(), CatalogueError> {
        let mut loaded = self.0.loaded.lock().await;
        let failed = |error| self.failed(error);
        let mut read = self.0.database.read().await?;
        let revision: i64 =
            on!(&mut read, c => sqlx::query_scalar("SELECT number FROM revision").fetch_one(c).await)
                .map_err(failed)?;
        if revision == *loaded {
            self.0.database.end(read).await;
            return Ok(());
        }
        let sites = site::load(&mut read).await.map_err(failed)?;
        let changes = configuration::load(&mut read, &self.0.configurations).await.map_err(failed)?;
        self.0.database.end(read).await;
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

    /// Closes the database; open transactions end first.
    pub async fn close(&self) {
        self.0.database.close().await;
    }

    fn failed(&self, error: sqlx::Error) -> CatalogueError {
        self.0.database.failed(error)
    }

    /// A transaction that holds the write lock from the start, so that what it reads stays true.
    async fn write(&self) -> Result<Transaction, CatalogueError> {
        self.0.database.write().await
    }

    async fn commit(&self, write: Transaction) -> Result<(), CatalogueError> {
        self.0.database.commit(write).await
    }
}
