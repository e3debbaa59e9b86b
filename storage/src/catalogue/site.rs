//! Sites and how each of them wants its data treated.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fanal_model::{AddressPolicy, SiteCode};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::{Catalogue, CatalogueError, Change};

/// The columns that [`read_row`] reads.
macro_rules! select {
    () => {
        "SELECT site_code, name, address_policy, session_timeout_ms, visitor_cookie, cookie_domain, \
         heartbeat_extends, time_zone FROM sites"
    };
}

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

type Sites = HashMap<SiteCode, Arc<Site>>;

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
        let mut write = self.write().await?;
        let known = exists(&mut write, site.code.as_str()).await.map_err(|error| self.failed(error))?;
        self.store(write, site).await?;
        Ok(if known { Change::Changed } else { Change::Created })
    }

    /// Changes the site as it stands now, or a new one with the defaults. When
    /// `change` refuses, nothing happens; nobody else writes meanwhile.
    pub async fn change_site<E>(
        &self,
        code: &SiteCode,
        change: impl FnOnce(&mut Site) -> Result<(), E>,
    ) -> Result<Result<(Change, Site), E>, CatalogueError> {
        let mut write = self.write().await?;
        let failed = |error| self.failed(error);
        let row = sqlx::query(concat!(select!(), " WHERE site_code = ?"))
            .bind(code.as_str())
            .fetch_optional(&mut *write)
            .await
            .map_err(failed)?;
        let kind = if row.is_some() { Change::Changed } else { Change::Created };
        let mut site = match row {
            Some(row) => read_row(&row).map_err(failed)?,
            None => Site::new(code.clone()),
        };
        if let Err(refused) = change(&mut site) {
            return Ok(Err(refused));
        }
        self.store(write, &site).await?;
        Ok(Ok((kind, site)))
    }

    async fn store(
        &self,
        mut write: Transaction<'static, Sqlite>,
        site: &Site,
    ) -> Result<(), CatalogueError> {
        let cookie_domain = site.visitor_cookie.as_ref().and_then(|cookie| cookie.domain.as_deref());
        sqlx::query(
            "INSERT INTO sites (site_code, name, address_policy, session_timeout_ms, visitor_cookie, \
             cookie_domain, heartbeat_extends, time_zone) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (site_code) DO UPDATE SET name = excluded.name, \
             address_policy = excluded.address_policy, session_timeout_ms = excluded.session_timeout_ms, \
             visitor_cookie = excluded.visitor_cookie, cookie_domain = excluded.cookie_domain, \
             heartbeat_extends = excluded.heartbeat_extends, time_zone = excluded.time_zone",
        )
        .bind(site.code.as_str())
        .bind(&site.name)
        .bind(site.address_policy.name())
        .bind(i64::try_from(site.session_timeout_ms).unwrap_or(i64::MAX))
        .bind(site.visitor_cookie.is_some())
        .bind(cookie_domain.unwrap_or(""))
        .bind(site.heartbeat_extends)
        .bind(&site.time_zone)
        .execute(&mut *write)
        .await
        .map_err(|error| self.failed(error))?;
        write.commit().await.map_err(|error| self.failed(error))?;
        self.refresh().await
    }
}

pub(super) async fn exists(
    transaction: &mut Transaction<'static, Sqlite>,
    site_code: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sites WHERE site_code = ?)")
        .bind(site_code)
        .fetch_one(&mut **transaction)
        .await
}

pub(super) async fn load(read: &mut Transaction<'static, Sqlite>) -> Result<Vec<Site>, sqlx::Error> {
    let rows = sqlx::query(select!()).fetch_all(&mut **read).await?;
    rows.iter().map(read_row).collect()
}

fn read_row(row: &SqliteRow) -> Result<Site, sqlx::Error> {
    let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let domain: String = row.try_get("cookie_domain")?;
    let cookie: bool = row.try_get("visitor_cookie")?;
    Ok(Site {
        code: SiteCode::parse(row.try_get("site_code")?).map_err(|error| decode(error.into()))?,
        name: row.try_get("name")?,
        address_policy: AddressPolicy::parse(row.try_get("address_policy")?)
            .map_err(|error| decode(error.into()))?,
        session_timeout_ms: u64::try_from(row.try_get::<i64, _>("session_timeout_ms")?)
            .map_err(|error| decode(error.into()))?,
        visitor_cookie: cookie
            .then(|| VisitorCookie { domain: Some(domain).filter(|domain| !domain.is_empty()) }),
        heartbeat_extends: row.try_get("heartbeat_extends")?,
        time_zone: row.try_get("time_zone")?,
    })
}
