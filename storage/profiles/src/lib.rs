//! Visitors as delivery reads them: the last visits of each, and the visitor codes
//! that a user id stands for. In a file of this node, or on Cassandra.
//!
//! Never builds visits, and never the only place of anything: all of it can be made
//! again from the raw archive. What must stay true: the newest version of a visit
//! wins in whatever order and however often versions arrive; both stores give the
//! same answers; everything expires, and every read and write is bounded.

mod batch;
mod cassandra;
mod config;
mod embedded;
mod encoding;
mod error;
mod metrics;
mod profile;
mod writes;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use batch::{GoneVisit, ProfileBatch, ProfileLink, ProfileVisit};
pub use cassandra::CassandraProfiles;
pub use config::{CassandraConfig, CassandraTls, EmbeddedConfig, ProfileStore, ProfilesConfig, Replication};
pub use embedded::EmbeddedProfiles;
pub use error::ProfileError;
pub use metrics::describe as describe_metrics;
pub use profile::{Link, Profile, Swept};

/// Links of one user id or one visitor that are read at most; what exceeds it is no
/// person.
pub const LINKS_READ_MAX: usize = 1000;

/// How long profiles are kept, and how many visits of each visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the start of a visit, and from the time of a link.
    pub retention: Duration,
    pub visits_per_visitor_max: usize,
}

/// The profile store. Clones share one file or one set of connections.
#[derive(Debug, Clone)]
pub enum Profiles {
    Embedded(EmbeddedProfiles),
    Cassandra(CassandraProfiles),
}

impl Profiles {
    /// Opens the store that the configuration names. The embedded file is
    /// `profiles.redb` in `data_dir`. Cassandra is connected to by the first
    /// operation, so that a program starts while it is down.
    pub fn open(
        config: &ProfilesConfig,
        data_dir: &Path,
        cassandra_password: Option<String>,
    ) -> Result<Self, ProfileError> {
        config.check()?;
        let limits = config.limits();
        Ok(match config.store {
            ProfileStore::Embedded => Self::Embedded(EmbeddedProfiles::open(
                &data_dir.join("profiles.redb"),
                &config.embedded,
                limits,
            )?),
            ProfileStore::Cassandra => {
                Self::Cassandra(CassandraProfiles::new(&config.cassandra, cassandra_password, limits)?)
            }
        })
    }

    /// Writes visits, removals and links. Idempotent: after an error the same batch
    /// may be written again, whatever of it was stored.
    pub async fn write(&self, batch: &ProfileBatch) -> Result<(), ProfileError> {
        let writes = writes::Writes::of(batch, self.limits(), now_ms());
        if writes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let (slots, links) = (writes.slots.len(), writes.links.len());
        let written = match self {
            Self::Embedded(store) => store.write(writes).await,
            Self::Cassandra(store) => store.write(writes).await,
        };
        metrics::written(slots, links, began.elapsed(), &written);
        written
    }

    /// What was written before this call is on disk when it returns. Call it before a
    /// checkpoint counts on it.
    pub async fn flush_to_disk(&self) -> Result<(), ProfileError> {
        match self {
            Self::Embedded(store) => store.flush_to_disk().await,
            // A write returns when a quorum has it in its commit log.
            Self::Cassandra(_) => Ok(()),
        }
    }

    /// The last visits of a visitor, newest first; `None` if it has none.
    pub async fn visitor(
        &self,
        site_code: &str,
        visitor_code: &str,
    ) -> Result<Option<Profile>, ProfileError> {
        let began = Instant::now();
        let now_ms = now_ms();
        let read = match self {
            _ if !writes::is_key(&[site_code, visitor_code]) => Ok(Vec::new()),
            Self::Embedded(store) => store.visits(site_code, visitor_code, now_ms).await,
            Self::Cassandra(store) => store.visits(site_code, visitor_code, now_ms).await,
        };
        metrics::read("visitor", began.elapsed(), &read);
        let visits = read?;
        let (site_code, visitor_code) = (site_code.to_owned(), visitor_code.to_owned());
        Ok((!visits.is_empty()).then_some(Profile { site_code, visitor_code, visits }))
    }

    /// The visitor codes that a user id was linked to, last linked first.
    pub async fn linked(&self, site_code: &str, mapping_value: &str) -> Result<Vec<Link>, ProfileError> {
        let began = Instant::now();
        let now_ms = now_ms();
        let read = match self {
            _ if !writes::is_key(&[site_code, mapping_value]) => Ok(Vec::new()),
            Self::Embedded(store) => store.linked(site_code, mapping_value, now_ms).await,
            Self::Cassandra(store) => store.linked(site_code, mapping_value, now_ms).await,
        };
        metrics::read("linked", began.elapsed(), &read);
        read.map(profile::last_linked_first)
    }

    /// The user ids that a visitor code was linked to, last linked first.
    pub async fn links_of(&self, site_code: &str, visitor_code: &str) -> Result<Vec<Link>, ProfileError> {
        let began = Instant::now();
        let now_ms = now_ms();
        let read = match self {
            _ if !writes::is_key(&[site_code, visitor_code]) => Ok(Vec::new()),
            Self::Embedded(store) => store.links_of(site_code, visitor_code, now_ms).await,
            Self::Cassandra(store) => store.links_of(site_code, visitor_code, now_ms).await,
        };
        metrics::read("links_of", began.elapsed(), &read);
        read.map(profile::last_linked_first)
    }

    /// Forgets a visitor: its visits up to `version` (as rows have it: the end of the
    /// visitor's log partition) and its links up to `at_ms`. Older writes that arrive
    /// later stay forgotten.
    pub async fn erase(
        &self,
        site_code: &str,
        visitor_code: &str,
        version: u64,
        at_ms: u64,
    ) -> Result<(), ProfileError> {
        if !writes::is_key(&[site_code, visitor_code]) {
            return Ok(());
        }
        match self {
            Self::Embedded(store) => store.erase(site_code, visitor_code, version, at_ms).await,
            Self::Cassandra(store) => store.erase(site_code, visitor_code, version, at_ms).await,
        }
    }

    /// Forgets all visitors and links of a site. Its writes must have stopped before;
    /// may be repeated after an error. On Cassandra it reads all keys of the keyspace.
    pub async fn remove_site(&self, site_code: &str) -> Result<(), ProfileError> {
        match self {
            Self::Embedded(store) => store.remove_site(site_code).await,
            Self::Cassandra(store) => store.remove_site(site_code).await,
        }
    }

    /// Removes a bounded number of entries that expired before `now_ms`; call it again
    /// soon unless `is_done`. Reads never show expired ones. Cassandra does it itself.
    pub async fn sweep(&self, now_ms: u64) -> Result<Swept, ProfileError> {
        match self {
            Self::Embedded(store) => {
                let swept = store.sweep(now_ms).await?;
                metrics::swept(swept.removed);
                Ok(swept)
            }
            Self::Cassandra(_) => Ok(Swept { removed: 0, is_done: true }),
        }
    }

    /// Whether the store answers now, for readiness. Bounded in time.
    pub async fn ping(&self) -> Result<(), ProfileError> {
        match self {
            Self::Embedded(store) => store.ping().await,
            Self::Cassandra(store) => store.ping().await,
        }
    }

    /// How much is kept, as configured.
    #[must_use]
    pub fn limits(&self) -> Limits {
        match self {
            Self::Embedded(store) => store.limits(),
            Self::Cassandra(store) => store.limits(),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
