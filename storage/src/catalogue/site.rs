//! Sites and how each of them wants its data treated.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fanal_model::{AddressPolicy, SiteCode};

use super::database::{Transaction, on};
use super::{Catalogue, CatalogueError, Change};

/// The columns of a [`Row`].
macro_rules! select {
    () => {
        "SELECT site_code, name, address_policy, session_timeout_ms, visitor_cookie, cookie_domain, \
         heartbeat_extends, time_zone FROM sites"
    };
}

type Row = (String, String, String, i64, bool, String, bool, String);

/// One site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub code: SiteCode,
    pub name: String,
    /// What is kept of a client's address.
    pub address_policy: AddressPolicy,
    /// A pause of this length ends a visit.
    pub session_timeout_ms: u64,
    /// Whether the collector sets the visitor code as a first-party cookie.
    pub visitor_cookie: Option<VisitorCookie>,
    /// Whether heartbeats extend a visit past the timeout.
    pub heartbeat_extends: bool,
    /// IANA name; days of reports are days there.
    pub time_zone: String,
}

/// The cookie `kameleoonVisitorCode` as the collector sets it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VisitorCookie {
    /// The cookie's `Domain`; none means the host that set it alone.
    pub domain: Option<String>,
}

impl Site {
    /// 30 minutes without activity end a visit, as in the SDKs.
    pub const SESSION_TIMEOUT_MS: u64 = 30 * 60 * 1000;

    /// A site with the defaults.
    #[must_use]
    pub fn new(code: SiteCode) -> Self {
        Self {
            name: code.to_string(),
            code,
            address_policy: AddressPolicy::default(),
            session_timeout_ms: Self::SESSION_TIMEOUT_MS,
            visitor_cookie: None,
            heartbeat_extends: false,
            time_zone: "UTC".to_owned(),
        }
    }
}

/// Looked up for each request; only operators put something in, so the hash may be a quick one.
type Sites = HashMap<SiteCode, Arc<Site>, foldhash::fast::RandomState>;

/// The sites in memory. Clones share it; a lookup takes no lock.
#[derive(Debug, Clone, Default)]
pub struct SiteDirectory(Arc<ArcSwap<Sites>>);

impl SiteDirectory {
    /// A directory of these sites alone, without a catalogue behind it.
    #[must_use]
    pub fn of(sites: impl IntoIterator<Item = Site>) -> Self {
        let directory = Self::default();
        directory.replace(sites.into_iter().collect());
        directory
    }

    #[must_use]
    pub fn get(&self, site_code: &str) -> Option<Arc<Site>> {
        self.0.load().get(site_code).cloned()
    }

    #[must_use]
    pub fn contains(&self, site_code: &str) -> bool {
        self.0.load().contains_key(site_code)
    }

    /// All sites, by code.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Site>> {
        let mut sites: Vec<_> = self.0.load().values().cloned().collect();
        sites.sort_by(|a, b| a.code.cmp(&b.code));
        sites
    }

    pub(super) fn replace(&self, sites: Vec<Site>) {
        let sites: Sites = sites.into_iter().map(|site| (site.code.clone(), Arc::new(site))).collect();
        self.0.store(Arc::new(sites));
    }
}

impl Catalogue {
    /// Creates the site or changes it to exactly this.
    pub async fn put_site(&self, site: &Site) -> Result<Change, CatalogueError> {
        let put = self.change_site(&site.code, |found| {
            found.clone_from(site);
            Ok::<_, std::convert::Infallible>(())
        });
        match put.await? {
            Ok((change, _)) => Ok(change),
            Err(never) => match never {},
        }
    }

    /// Changes the site as it stands now, or a new one with the defaults. When
    /// `change` refuses, nothing happens; nobody else writes meanwhile.
    pub async fn change_site<E>(
        &self,
        code: &SiteCode,
        change: impl FnOnce(&mut Site) -> Result<(), E>,
    ) -> Result<Result<(Change, Site), E>, CatalogueError> {
        let changed = self.0.database.bounded(self.change_in_database(code, change)).await?;
        if changed.is_ok() {
            self.refresh().await?;
        }
        Ok(changed)
    }

    async fn change_in_database<E>(
        &self,
        code: &SiteCode,
        change: impl FnOnce(&mut Site) -> Result<(), E>,
    ) -> Result<Result<(Change, Site), E>, CatalogueError> {
        let mut write = self.write().await?;
        let failed = |error| self.failed(error);
        let row: Option<Row> = on!(&mut write, c => {
            let found = sqlx::query_as(concat!(select!(), " WHERE site_code = ?")).bind(code.as_str());
            found.fetch_optional(c).await
        })
        .map_err(failed)?;
        let kind = if row.is_some() { Change::Changed } else { Change::Created };
        let mut site = match row {
            Some(row) => read_row(row).map_err(failed)?,
            None => Site::new(code.clone()),
        };
        if let Err(refused) = change(&mut site) {
            self.0.database.end(write).await;
            return Ok(Err(refused));
        }
        store(&mut write, &site, kind).await.map_err(failed)?;
        self.commit(write).await?;
        Ok(Ok((kind, site)))
    }
}

async fn store(write: &mut Transaction, site: &Site, kind: Change) -> Result<(), sqlx::Error> {
    let statement = match kind {
        Change::Created => {
            "INSERT INTO sites (name, address_policy, session_timeout_ms, visitor_cookie, cookie_domain, \
             heartbeat_extends, time_zone, site_code) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        }
        Change::Changed => {
            "UPDATE sites SET name = ?, address_policy = ?, session_timeout_ms = ?, visitor_cookie = ?, \
             cookie_domain = ?, heartbeat_extends = ?, time_zone = ? WHERE site_code = ?"
        }
    };
    let cookie_domain = site.visitor_cookie.as_ref().and_then(|cookie| cookie.domain.as_deref());
    on!(write, c => {
        sqlx::query(statement)
            .bind(&site.name)
            .bind(site.address_policy.name())
            .bind(i64::try_from(site.session_timeout_ms).unwrap_or(i64::MAX))
            .bind(site.visitor_cookie.is_some())
            .bind(cookie_domain.unwrap_or(""))
            .bind(site.heartbeat_extends)
            .bind(&site.time_zone)
            .bind(site.code.as_str())
            .execute(c)
            .await
            .map(drop)
    })
}

pub(super) async fn exists(transaction: &mut Transaction, site_code: &str) -> Result<bool, sqlx::Error> {
    let found: Option<String> = on!(transaction, c => {
        let found = sqlx::query_scalar("SELECT site_code FROM sites WHERE site_code = ?").bind(site_code);
        found.fetch_optional(c).await
    })?;
    Ok(found.is_some_and(|found| found == site_code))
}

pub(super) async fn load(read: &mut Transaction) -> Result<Vec<Site>, sqlx::Error> {
    let rows: Vec<Row> = on!(read, c => sqlx::query_as(select!()).fetch_all(c).await)?;
    rows.into_iter().map(read_row).collect()
}

fn read_row(row: Row) -> Result<Site, sqlx::Error> {
    let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let (code, name, policy, session_timeout_ms, cookie, domain, heartbeat_extends, time_zone) = row;
    Ok(Site {
        code: SiteCode::parse(&code).map_err(|error| decode(error.into()))?,
        name,
        address_policy: AddressPolicy::parse(&policy).map_err(|error| decode(error.into()))?,
        session_timeout_ms: u64::try_from(session_timeout_ms).map_err(|error| decode(error.into()))?,
        visitor_cookie: cookie
            .then(|| VisitorCookie { domain: Some(domain).filter(|domain| !domain.is_empty()) }),
        heartbeat_extends,
        time_zone,
    })
}
