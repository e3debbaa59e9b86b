//! Why the catalogue cannot do what it is asked.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the catalogue cannot do what it is asked.
#[derive(Debug, Error)]
pub enum CatalogueError {
    #[error("the disk of {0} is full: free some space; nothing was changed")]
    DiskFull(PathBuf),
    #[error("another process keeps {0} locked: find it with `fuser {0}`; nothing was changed, try again")]
    Locked(PathBuf),
    #[error("{0} is damaged: stop Fanal, restore it from a backup or run `sqlite3 {0} .recover`")]
    Damaged(PathBuf),
    #[error("{0} is not a catalogue: give the path of Fanal's own file or of one that does not exist yet")]
    NotOurs(PathBuf),
    #[error("{0} may not be written by this user: check the owner of the file and its folder")]
    ReadOnly(PathBuf),
    #[error("{0} cannot be opened: check that its folder exists and belongs to this user")]
    CannotOpen(PathBuf),
    #[error(
        "{path} was written by a newer Fanal (tables {found}, this program knows {known}): upgrade this program"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("site `{0}` is not in the catalogue: create it with PUT /api/v1/sites/{0}")]
    UnknownSite(String),
    #[error("client `{client_id}` exists on site `{site_code}` already: choose another client_id")]
    ClientExists { site_code: String, client_id: String },
    #[error("site `{site_code}` has {max} clients, which is the most: use an existing one")]
    TooManyClients { site_code: String, max: i64 },
    #[error("a secret cannot be hashed: {0}; this is a bug")]
    Hash(String),
    #[error("{path}: {source}; the server's log has more")]
    Other { path: PathBuf, source: sqlx::Error },
}

impl CatalogueError {
    /// Sorts SQLite's result codes into what an operator can do about them.
    pub(super) fn of(path: &Path, error: sqlx::Error) -> Self {
        let path = path.to_owned();
        let code = match &error {
            sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<u32>().ok()),
            // All connections are busy for longer than a write may take.
            sqlx::Error::PoolTimedOut => return Self::Locked(path),
            _ => None,
        };
        // The low byte is the primary result code.
        match code.map(|code| code & 0xff) {
            Some(5 | 6) => Self::Locked(path),
            Some(3 | 8) => Self::ReadOnly(path),
            Some(11) => Self::Damaged(path),
            Some(13) => Self::DiskFull(path),
            Some(14) => Self::CannotOpen(path),
            Some(26) => Self::NotOurs(path),
            _ => Self::Other { path, source: error },
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Connection};

    use super::*;

    /// What SQLite itself says when a page more does not fit.
    #[tokio::test]
    async fn a_full_disk_and_a_read_only_file_are_told_apart() {
        let mut file = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        let grow =
            "PRAGMA max_page_count = 4; CREATE TABLE t (b BLOB); INSERT INTO t VALUES (zeroblob(100000));";
        let full = sqlx::raw_sql(grow).execute(&mut file).await.unwrap_err();
        let full = CatalogueError::of(Path::new("catalogue.sqlite"), full);
        assert!(matches!(full, CatalogueError::DiskFull(_)), "{full}");
        assert!(full.to_string().contains("free some space"));
        sqlx::raw_sql("PRAGMA query_only = 1").execute(&mut file).await.unwrap();
        let refused = sqlx::raw_sql("CREATE TABLE u (b BLOB)").execute(&mut file).await.unwrap_err();
        let refused = CatalogueError::of(Path::new("catalogue.sqlite"), refused);
        assert!(matches!(refused, CatalogueError::ReadOnly(_)), "{refused}");
        file.close().await.unwrap();
    }
}
