//! Brings the tables up to date, in order, each step in one transaction.

use std::path::Path;

use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use super::CatalogueError;

/// The steps; the number of a step is its place, kept in `user_version`. Add at the end only.
const STEPS: &[&str] = &[include_str!("migrations/0001_sites.sql")];

pub(super) async fn migrate(pool: &SqlitePool, path: &Path) -> Result<(), CatalogueError> {
    let failed = |error| CatalogueError::of(path, error);
    for (at, step) in STEPS.iter().enumerate() {
        // The lock is taken before the version is read: two processes may start at once.
        let mut write = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let version = version(&mut write).await.map_err(failed)?;
        let done = usize::try_from(version).unwrap_or(usize::MAX);
        if done > STEPS.len() {
            let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
            return Err(CatalogueError::Newer { path: path.to_owned(), found: version, known });
        }
        if done > at {
            continue;
        }
        sqlx::raw_sql(*step).execute(&mut *write).await.map_err(failed)?;
        let number = at + 1;
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {number}")))
            .execute(&mut *write)
            .await
            .map_err(failed)?;
        write.commit().await.map_err(failed)?;
        tracing::info!(step = number, "catalogue tables brought up to date");
    }
    Ok(())
}

async fn version(write: &mut Transaction<'static, Sqlite>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut **write).await
}
