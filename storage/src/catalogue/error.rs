//! Why the catalogue cannot do what it is asked.

use std::path::{Path, PathBuf};

use sqlx::mysql::MySqlDatabaseError;
use thiserror::Error;

use super::place::Server;

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
        "{place} was written by a newer Fanal (tables {found}, this program knows {known}): upgrade this program"
    )]
    Newer { place: String, found: i64, known: i64 },
    #[error(
        "the catalogue's url cannot be used: {0}; write `mysql://USER@HOST:PORT/DATABASE`, as docs/catalogue.md shows"
    )]
    Url(String),
    #[error(
        "{server} cannot be reached ({detail}): check that the server runs and that its address is right"
    )]
    Unreachable { server: String, detail: String },
    #[error(
        "{server} does not let this program in ({detail}): check user and password, and give the user all rights on \
         the database"
    )]
    Denied { server: String, detail: String },
    #[error(
        "{server} does not prove who it is ({detail}): name the CA that signed its certificate with `ssl-ca=FILE`, \
         and the host as it stands in the certificate"
    )]
    Untrusted { server: String, detail: String },
    #[error(
        "{server} does not have this database: create it with CREATE DATABASE and give the user all rights on it"
    )]
    NoDatabase { server: String },
    #[error("{server} cannot hold a catalogue: {detail}")]
    Unsuitable { server: String, detail: String },
    #[error("{server} is busy ({detail}): nothing was changed, try again")]
    Busy { server: String, detail: String },
    #[error("{server} takes no changes ({detail}): free its disk, or name the server that may be written to")]
    ReadOnlyServer { server: String, detail: String },
    #[error("{server}: {source}; the server's log has more")]
    OtherServer { server: String, source: sqlx::Error },
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

impl CatalogueError {
    /// Whether the same may work in a while without anybody doing something here.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Locked(_) | Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// Sorts a server's error numbers into what an operator can do about them.
    pub(super) fn of_server(server: &Server, error: sqlx::Error) -> Self {
        let (server, detail) = (server.to_string(), error.to_string());
        let number = match &error {
            sqlx::Error::Database(error) => {
                error.try_downcast_ref::<MySqlDatabaseError>().map(|e| e.number())
            }
            sqlx::Error::Tls(_) => return Self::Untrusted { server, detail },
            // What a certificate that is not accepted looks like from below.
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Self::Untrusted { server, detail };
            }
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => return Self::Unreachable { server, detail },
            _ => None,
        };
        match number {
            // Too many connections; shutting down; a lock that somebody else keeps.
            Some(1040 | 1053 | 1203 | 1205 | 1213) => Self::Busy { server, detail },
            Some(1044 | 1045 | 1142 | 1143 | 1227 | 1251 | 1698) => Self::Denied { server, detail },
            Some(1049) => Self::NoDatabase { server },
            // Full, read-only.
            Some(1021 | 1114 | 1290 | 1792 | 1836) => Self::ReadOnlyServer { server, detail },
            _ => Self::OtherServer { server, source: error },
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
