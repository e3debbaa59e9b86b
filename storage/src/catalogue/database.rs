//! The open database, and transactions that read alike in SQLite and on a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Sqlite;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::CatalogueError;
use super::dialect::Dialect;
use super::lease::{Lease, Leases};
use super::place::Place;

/// How long a write waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one piece of work may take on a server, waits included.
const WORK_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections to the file; reads come from memory, so that few are enough.
const CONNECTIONS_MAX: u32 = 4;

/// An open database.
#[derive(Debug)]
pub(super) enum Database {
    File { path: PathBuf, pool: SqlitePool },
    Server(Arc<Leases>),
}

/// A transaction. Dropped without a commit, it changed nothing.
pub(super) enum Transaction {
    File(sqlx::Transaction<'static, Sqlite>),
    Server(Box<Lease>),
}

/// Runs `$work` on the transaction's connection: the same statement for both.
macro_rules! on {
    ($transaction:expr, $connection:ident => $work:expr) => {
        match $transaction {
            $crate::catalogue::database::Transaction::File(file) => {
                let $connection = &mut **file;
                $work
            }
            $crate::catalogue::database::Transaction::Server(lease) => {
                let $connection = &mut lease.connection;
                $work
            }
        }
    };
}
pub(super) use on;

impl Database {
    pub(super) async fn open(place: Place) -> Result<Self, CatalogueError> {
        match place {
            Place::File(path) => {
                let pool = open_file(&path).await?;
                Ok(Self::File { path, pool })
            }
            Place::Server(server) => Ok(Self::Server(Leases::new(server))),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::File { .. } => Dialect::File,
            Self::Server(_) => Dialect::Server,
        }
    }

    /// A transaction that sees one moment of all tables.
    pub(super) async fn read(&self) -> Result<Transaction, CatalogueError> {
        match self {
            Self::File { pool, .. } => Ok(Transaction::File(pool.begin().await.map_err(|e| self.failed(e))?)),
            Self::Server(leases) => {
                let mut lease = leases.lease().await?;
                let begun = sqlx::raw_sql("START TRANSACTION READ ONLY").execute(&mut lease.connection).await;
                begun.map_err(|e| self.failed(e))?;
                Ok(Transaction::Server(Box::new(lease)))
            }
        }
    }

    /// A transaction that holds the write lock from the start, so that what it reads stays true.
    pub(super) async fn write(&self) -> Result<Transaction, CatalogueError> {
        let begin = self.dialect().begin_write();
        match self {
            Self::File { pool, .. } => {
                Ok(Transaction::File(pool.begin_with(begin[0]).await.map_err(|e| self.failed(e))?))
            }
            Self::Server(leases) => {
                let mut lease = leases.lease().await?;
                for statement in begin {
                    let begun = sqlx::raw_sql(*statement).execute(&mut lease.connection).await;
                    begun.map_err(|e| self.failed(e))?;
                }
                Ok(Transaction::Server(Box::new(lease)))
            }
        }
    }

    /// Makes what a transaction of [`Self::write`] did durable and seen.
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<(), CatalogueError> {
        match transaction {
            Transaction::File(file) => file.commit().await.map_err(|e| self.failed(e)),
            Transaction::Server(mut lease) => {
                for statement in self.dialect().before_commit().into_iter().chain(["COMMIT"]) {
                    let done = sqlx::raw_sql(statement).execute(&mut lease.connection).await;
                    done.map_err(|e| self.failed(e))?;
                }
                lease.give_back();
                Ok(())
            }
        }
    }

    /// Ends a transaction that changed nothing.
    pub(super) async fn end(&self, transaction: Transaction) {
        match transaction {
            Transaction::File(file) => drop(file),
            Transaction::Server(mut lease) => {
                if sqlx::raw_sql("ROLLBACK").execute(&mut lease.connection).await.is_ok() {
                    lease.give_back();
                }
            }
        }
    }

    /// Gives up work that a server keeps waiting; the connection goes with it.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, CatalogueError>>,
    ) -> Result<T, CatalogueError> {
        match self {
            Self::File { .. } => work.await,
            Self::Server(leases) => tokio::time::timeout(WORK_TIMEOUT, work).await.unwrap_or_else(|_| {
                let detail = format!("no answer within {} s", WORK_TIMEOUT.as_secs());
                Err(CatalogueError::Unreachable { server: leases.server.to_string(), detail })
            }),
        }
    }

    /// Sorts an error into what an operator can do about it.
    pub(super) fn failed(&self, error: sqlx::Error) -> CatalogueError {
        match self {
            Self::File { path, .. } => CatalogueError::of(path, error),
            Self::Server(leases) => CatalogueError::of_server(&leases.server, error),
        }
    }

    /// Closes the database; open transactions end first.
    pub(super) async fn close(&self) {
        match self {
            Self::File { pool, .. } => pool.close().await,
            Self::Server(leases) => leases.close().await,
        }
    }
}

async fn open_file(path: &Path) -> Result<SqlitePool, CatalogueError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A published configuration must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(BUSY_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(|error| CatalogueError::of(path, error))
}
