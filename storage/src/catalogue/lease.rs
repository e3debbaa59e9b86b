//! Connections to a server, each lent to one piece of work at a time.
//!
//! Never waits without a bound, never hands out a connection that was left in the
//! middle of something: work that fails, is given up or ends early takes its
//! connection with it, and the server undoes what it had begun. So a server that
//! hangs, dies or comes back needs nobody's help here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use sqlx::mysql::MySqlConnection;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::CatalogueError;
use super::place::Server;

/// Connections of one process; reads come from memory, so that few are enough.
const CONNECTIONS_MAX: usize = 4;
/// How long a connection may take from nothing to ready.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server that refuses connections is tried again, as while it starts.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// How long an idle connection may take to show that it lives.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// What each session relies on. A session that stands still this long is ended by the
/// server, so that a machine that lost its power holds no lock for hours.
const SESSION: [&str; 3] = [
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    "SET SESSION innodb_lock_wait_timeout = 5, wait_timeout = 60, autocommit = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];

/// The connections of one process.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) server: Server,
    idle: Mutex<Vec<MySqlConnection>>,
    permits: Arc<Semaphore>,
}

/// A connection that is in use. Dropping it closes it; what was not committed is undone.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    pub(super) connection: MySqlConnection,
    _permit: OwnedSemaphorePermit,
}

impl Leases {
    pub(super) fn new(server: Server) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Arc::new(Self { server, idle: Mutex::default(), permits })
    }

    /// A connection that answered a moment ago.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, CatalogueError> {
        let permit = timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned()).await;
        let busy = || CatalogueError::Busy {
            server: self.server.to_string(),
            detail: "all connections are in use".to_owned(),
        };
        let permit = permit.map_err(|_| busy())?.map_err(|_| self.unreachable("the catalogue is closed"))?;
        while let Some(mut connection) = self.pop() {
            if let Ok(Ok(())) = timeout(PING_TIMEOUT, connection.ping()).await {
                return Ok(Lease { leases: Arc::clone(self), connection, _permit: permit });
            }
            // The others come from the same time.
            self.forget_idle();
        }
        let connection = self.connect().await?;
        Ok(Lease { leases: Arc::clone(self), connection, _permit: permit })
    }

    /// Refuses work from now on. What is under way ends first, within its own bounds.
    pub(super) async fn close(&self) {
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let ended = timeout(PATIENCE, self.permits.acquire_many(all)).await;
        drop(ended);
        self.permits.close();
        while let Some(connection) = self.pop() {
            timeout(PING_TIMEOUT, connection.close()).await.ok();
        }
    }

    async fn connect(&self) -> Result<MySqlConnection, CatalogueError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let error = match timeout(CONNECT_TIMEOUT, self.open()).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.unreachable("it accepts a connection and says nothing")),
            };
            let is_refused = matches!(&error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused);
            let paused = timeout_at(until, tokio::time::sleep(PAUSE)).await;
            if !is_refused || paused.is_err() {
                return Err(CatalogueError::of_server(&self.server, error));
            }
        }
    }

    async fn open(&self) -> Result<MySqlConnection, sqlx::Error> {
        // sqlx asks the process which cryptography it has, and panics where there are two; what
        // the process has chosen itself stays.
        if CryptoProvider::get_default().is_none() {
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let mut connection = self.server.options.connect().await?;
        for statement in SESSION {
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
        Ok(connection)
    }

    fn pop(&self) -> Option<MySqlConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn unreachable(&self, detail: &str) -> CatalogueError {
        CatalogueError::Unreachable { server: self.server.to_string(), detail: detail.to_owned() }
    }
}

impl Lease {
    /// Gives the connection back. Only for one that stands between transactions.
    pub(super) fn give_back(self) {
        self.leases.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}
