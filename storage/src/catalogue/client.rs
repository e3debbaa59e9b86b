//! Clients that may ask for SDK tokens. Only a hash of each secret is kept.

use std::sync::OnceLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use fanal_model::SiteCode;

use super::database::on;
use super::{Catalogue, CatalogueError, site};

/// Memory of one hash in KiB. Generated secrets have 256 random bits, so that a
/// modest cost protects those that operators choose without making tokens slow.
const HASH_MEMORY_KIB: u32 = 8 * 1024;
const HASH_PASSES: u32 = 2;
/// Clients of one site.
const CLIENTS_MAX: i64 = 1000;
/// A client id without a site is looked for on so many sites.
const SITES_TRIED_MAX: i64 = 4;

impl Catalogue {
    /// Adds a client to a site.
    pub async fn create_client(
        &self,
        site_code: &SiteCode,
        client_id: &str,
        secret: &str,
        now_ms: u64,
    ) -> Result<(), CatalogueError> {
        let hash = blocking(secret.to_owned(), |secret| hash(&secret)).await??;
        let creating = self.create_in_database(site_code, client_id, &hash, now_ms);
        self.0.database.bounded(creating).await
    }

    async fn create_in_database(
        &self,
        site_code: &SiteCode,
        client_id: &str,
        hash: &str,
        now_ms: u64,
    ) -> Result<(), CatalogueError> {
        let mut write = self.write().await?;
        let failed = |error| self.failed(error);
        if !site::exists(&mut write, site_code.as_str()).await.map_err(failed)? {
            self.0.database.end(write).await;
            return Err(CatalogueError::UnknownSite(site_code.to_string()));
        }
        let clients: Vec<String> = on!(&mut write, c => {
            let clients = sqlx::query_scalar("SELECT client_id FROM clients WHERE site_code = ?");
            clients.bind(site_code.as_str()).fetch_all(c).await
        })
        .map_err(failed)?;
        let refused = if clients.iter().any(|known| known == client_id) {
            let (site_code, client_id) = (site_code.to_string(), client_id.to_owned());
            Some(CatalogueError::ClientExists { site_code, client_id })
        } else if i64::try_from(clients.len()).unwrap_or(i64::MAX) >= CLIENTS_MAX {
            Some(CatalogueError::TooManyClients { site_code: site_code.to_string(), max: CLIENTS_MAX })
        } else {
            None
        };
        if let Some(refused) = refused {
            self.0.database.end(write).await;
            return Err(refused);
        }
        on!(&mut write, c => {
            sqlx::query(
                "INSERT INTO clients (site_code, client_id, secret_hash, created_at_ms) VALUES (?, ?, ?, ?)",
            )
            .bind(site_code.as_str())
            .bind(client_id)
            .bind(hash)
            .bind(i64::try_from(now_ms).unwrap_or(i64::MAX))
            .execute(c)
            .await
            .map(drop)
        })
        .map_err(failed)?;
        self.commit(write).await
    }

    /// The site whose client this is, if the secret is right. Takes as long for
    /// a client that does not exist. Without `site_code` the client is looked
    /// for on all sites.
    pub async fn verify_client(
        &self,
        site_code: Option<&str>,
        client_id: &str,
        secret: &str,
    ) -> Result<Option<SiteCode>, CatalogueError> {
        let known = self.0.database.bounded(self.hashes(site_code, client_id)).await?;
        let found = blocking(secret.to_owned(), move |secret| find(known, &secret)).await??;
        Ok(found.and_then(|site| SiteCode::parse(&site).ok()))
    }

    /// Sites that have this client, each with the hash of its secret.
    async fn hashes(
        &self,
        site_code: Option<&str>,
        client_id: &str,
    ) -> Result<Vec<(String, String)>, CatalogueError> {
        let mut read = self.0.database.read().await?;
        let rows: Vec<(String, String, String)> = on!(&mut read, c => {
            sqlx::query_as(
                "SELECT site_code, client_id, secret_hash FROM clients \
                 WHERE client_id = ? AND (? IS NULL OR site_code = ?) ORDER BY site_code LIMIT ?",
            )
            .bind(client_id)
            .bind(site_code)
            .bind(site_code)
            .bind(SITES_TRIED_MAX)
            .fetch_all(c)
            .await
        })
        .map_err(|error| self.failed(error))?;
        self.0.database.end(read).await;
        // A server overlooks a space at the end of what it compares.
        let same = rows.into_iter().filter(|(site, client, _)| {
            client == client_id && site_code.is_none_or(|site_code| site == site_code)
        });
        Ok(same.map(|(site, _, hash)| (site, hash)).collect())
    }
}

fn find(known: Vec<(String, String)>, secret: &str) -> Result<Option<String>, CatalogueError> {
    if known.is_empty() {
        // The same work for a client that does not exist.
        static NOBODY: OnceLock<Result<String, String>> = OnceLock::new();
        let nobody = NOBODY.get_or_init(|| hash("").map_err(|error| error.to_string()));
        let nobody = nobody.as_ref().map_err(|error| CatalogueError::Hash(error.clone()))?;
        let _ = verify(nobody, secret)?;
        return Ok(None);
    }
    for (site, hash) in known {
        if verify(&hash, secret)? {
            return Ok(Some(site));
        }
    }
    Ok(None)
}

/// Hashing must not hold up the tasks beside it.
async fn blocking<T: Send + 'static>(
    secret: String,
    work: impl FnOnce(String) -> T + Send + 'static,
) -> Result<T, CatalogueError> {
    tokio::task::spawn_blocking(move || work(secret))
        .await
        .map_err(|error| CatalogueError::Hash(error.to_string()))
}

fn hash(secret: &str) -> Result<String, CatalogueError> {
    let failed = |error: &dyn std::fmt::Display| CatalogueError::Hash(error.to_string());
    let params = Params::new(HASH_MEMORY_KIB, HASH_PASSES, 1, None).map_err(|error| failed(&error))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(secret.as_bytes()).map_err(|error| failed(&error))?;
    Ok(hash.to_string())
}

fn verify(hash: &str, secret: &str) -> Result<bool, CatalogueError> {
    let hash = PasswordHash::new(hash).map_err(|error| CatalogueError::Hash(error.to_string()))?;
    Ok(Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_checked_in_well_under_50_ms() {
        let hash = hash("client-secret").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8192,t=2,p=1$"), "{hash}");
        let started = std::time::Instant::now();
        assert!(verify(&hash, "client-secret").unwrap());
        assert!(!verify(&hash, "client-secre").unwrap());
        // Two checks; generous, because machines that run tests are busy.
        assert!(started.elapsed().as_millis() < 200, "{:?}", started.elapsed());
    }
}
