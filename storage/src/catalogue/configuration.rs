//! Published SDK configurations.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use fanal_model::SiteCode;

use super::database::{Transaction, on};
use super::{Catalogue, CatalogueError, site};

/// Publications of one (site, environment) that are kept, the served one included.
const VERSIONS_KEPT: i64 = 100;

/// The configuration that is served to a site's SDKs.
#[derive(Debug)]
pub struct Configuration {
    /// Grows with each publication of the installation.
    pub id: i64,
    pub site: SiteCode,
    /// `None`: for every environment that has none of its own.
    pub environment: Option<String>,
    /// As it was given, byte for byte.
    pub document: Bytes,
    /// Seconds since 1970; strictly increasing within the site.
    pub last_modified_s: u64,
    pub published_at_ms: u64,
    compressed: OnceLock<Bytes>,
}

impl Configuration {
    /// The compressed document; `compress` runs once per publication.
    pub fn compressed(&self, compress: impl FnOnce(&[u8]) -> Bytes) -> Bytes {
        self.compressed.get_or_init(|| compress(&self.document)).clone()
    }
}

/// A publication that is being served now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub site: SiteCode,
    pub environment: Option<String>,
    pub published_at_ms: u64,
}

/// What a publication was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    pub id: i64,
    pub last_modified_s: u64,
}

type BySite = HashMap<SiteCode, HashMap<String, Arc<Configuration>>>;

/// The served configurations in memory. Clones share it; a lookup takes no lock.
#[derive(Debug, Clone, Default)]
pub struct ConfigurationDirectory(Arc<ArcSwap<BySite>>);

impl ConfigurationDirectory {
    /// What is served for the environment: its own configuration, else the site's default.
    #[must_use]
    pub fn get(&self, site_code: &str, environment: Option<&str>) -> Option<Arc<Configuration>> {
        let all = self.0.load();
        let of_site = all.get(site_code)?;
        environment.and_then(|name| of_site.get(name)).or_else(|| of_site.get("")).cloned()
    }

    /// Takes over what was loaded; says what is new.
    pub(super) fn apply(&self, loaded: BySite) -> Vec<Publication> {
        let before = self.0.load_full();
        let mut new: Vec<&Arc<Configuration>> = loaded
            .iter()
            .flat_map(|(site, by_environment)| by_environment.iter().map(move |entry| (site, entry)))
            .filter(|(site, (environment, configuration))| {
                let old = before.get(site.as_str()).and_then(|of_site| of_site.get(environment.as_str()));
                old.is_none_or(|old| old.id != configuration.id)
            })
            .map(|(_, (_, configuration))| configuration)
            .collect();
        new.sort_by_key(|configuration| configuration.id);
        let publications = new
            .into_iter()
            .map(|configuration| Publication {
                site: configuration.site.clone(),
                environment: configuration.environment.clone(),
                published_at_ms: configuration.published_at_ms,
            })
            .collect();
        self.0.store(Arc::new(loaded));
        publications
    }
}

impl Catalogue {
    /// Publishes a document that was validated before. When this returns it is
    /// on disk and served.
    pub async fn publish(
        &self,
        site_code: &SiteCode,
        environment: Option<&str>,
        document: &[u8],
        author: &str,
        now_ms: u64,
    ) -> Result<Published, CatalogueError> {
        let publishing = self.publish_in_database(site_code, environment, document, author, now_ms);
        let published = self.0.database.bounded(publishing).await?;
        self.refresh().await?;
        Ok(published)
    }

    async fn publish_in_database(
        &self,
        site_code: &SiteCode,
        environment: Option<&str>,
        document: &[u8],
        author: &str,
        now_ms: u64,
    ) -> Result<Published, CatalogueError> {
        let mut write = self.write().await?;
        let failed = |error| self.failed(error);
        if !site::exists(&mut write, site_code.as_str()).await.map_err(failed)? {
            self.0.database.end(write).await;
            return Err(CatalogueError::UnknownSite(site_code.to_string()));
        }
        let environment = environment.unwrap_or("");
        let last: Option<i64> = on!(&mut write, c => {
            let last = "SELECT max(last_modified_s) FROM sdk_configurations WHERE site_code = ?";
            sqlx::query_scalar(last).bind(site_code.as_str()).fetch_one(c).await
        })
        .map_err(failed)?;
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        // HTTP dates have whole seconds. SDKs compare the text and may have got
        // the default document before, so that the whole site shares one clock.
        let last_modified_s = last.map_or(now_ms / 1000, |last| (now_ms / 1000).max(last + 1));
        on!(&mut write, c => {
            sqlx::query(
                "INSERT INTO sdk_configurations (site_code, environment, document, last_modified_s, author, \
                 published_at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(site_code.as_str())
            .bind(environment)
            .bind(document)
            .bind(last_modified_s)
            .bind(author)
            .bind(now_ms)
            .execute(c)
            .await
            .map(drop)
        })
        .map_err(failed)?;
        // The numbers only grow, and nobody else writes now.
        let id: i64 = on!(&mut write, c => {
            sqlx::query_scalar("SELECT max(id) FROM sdk_configurations").fetch_one(c).await
        })
        .map_err(failed)?;
        forget_old(&mut write, site_code.as_str(), environment).await.map_err(failed)?;
        self.commit(write).await?;
        Ok(Published { id, last_modified_s: u64::try_from(last_modified_s).unwrap_or(0) })
    }
}

async fn forget_old(write: &mut Transaction, site_code: &str, environment: &str) -> Result<(), sqlx::Error> {
    let oldest_kept: Option<i64> = on!(&mut *write, c => {
        sqlx::query_scalar(
            "SELECT id FROM sdk_configurations WHERE site_code = ? AND environment = ? \
             ORDER BY id DESC LIMIT 1 OFFSET ?",
        )
        .bind(site_code)
        .bind(environment)
        .bind(VERSIONS_KEPT - 1)
        .fetch_optional(c)
        .await
    })?;
    let Some(oldest_kept) = oldest_kept else { return Ok(()) };
    on!(write, c => {
        sqlx::query("DELETE FROM sdk_configurations WHERE site_code = ? AND environment = ? AND id < ?")
            .bind(site_code)
            .bind(environment)
            .bind(oldest_kept)
            .execute(c)
            .await
            .map(drop)
    })
}

/// Every served configuration; documents already in memory are not read again.
pub(super) async fn load(
    read: &mut Transaction,
    known: &ConfigurationDirectory,
) -> Result<BySite, sqlx::Error> {
    // A server keeps environments as bytes, so that a space at the end counts.
    let heads: Vec<(String, Vec<u8>, i64)> = on!(&mut *read, c => {
        sqlx::query_as(
            "SELECT site_code, environment, max(id) FROM sdk_configurations GROUP BY site_code, environment",
        )
        .fetch_all(c)
        .await
    })?;
    let before = known.0.load_full();
    let mut all = BySite::new();
    for (site_code, environment, id) in heads {
        let environment =
            String::from_utf8(environment).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let old = before.get(site_code.as_str()).and_then(|of_site| of_site.get(&environment));
        let configuration = match old {
            Some(old) if old.id == id => Arc::clone(old),
            _ => Arc::new(one(read, id, &site_code, &environment).await?),
        };
        all.entry(configuration.site.clone()).or_default().insert(environment, configuration);
    }
    Ok(all)
}

async fn one(
    read: &mut Transaction,
    id: i64,
    site_code: &str,
    environment: &str,
) -> Result<Configuration, sqlx::Error> {
    let (document, last_modified_s, published_at_ms): (Vec<u8>, i64, i64) = on!(read, c => {
        sqlx::query_as(
            "SELECT document, last_modified_s, published_at_ms FROM sdk_configurations WHERE id = ?",
        )
        .bind(id)
        .fetch_one(c)
        .await
    })?;
    Ok(Configuration {
        id,
        site: SiteCode::parse(site_code).map_err(|error| sqlx::Error::Decode(error.into()))?,
        environment: Some(environment.to_owned()).filter(|name| !name.is_empty()),
        document: document.into(),
        last_modified_s: u64::try_from(last_modified_s).unwrap_or(0),
        published_at_ms: u64::try_from(published_at_ms).unwrap_or(0),
        compressed: OnceLock::new(),
    })
}
