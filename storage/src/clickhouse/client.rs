//! The way to ClickHouse: one HTTP client, bounded in time and tries.

use std::time::Duration;

use clickhouse::{Client, Row, RowOwned, RowRead, RowWrite};
use thiserror::Error;

use super::migrations::MIGRATIONS;
use super::rows::{ArchiveCountRow, EventRow, LinkRow, OutcomeRow, VisitRow};

/// No statement of the pipeline takes longer; one that does hangs.
const STATEMENT_SECONDS_MAX: u64 = 300;

/// Where ClickHouse is and who we are there.
#[derive(Debug, Clone)]
pub struct ClickHouseConfig {
    /// Such as `http://127.0.0.1:8123`.
    pub url: String,
    pub database: String,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Why ClickHouse did not do what was asked.
#[derive(Debug, Error)]
pub enum ClickHouseError {
    #[error("ClickHouse at {url} did not {what}: {source}; the pipeline waits and tries again")]
    Statement { url: String, what: &'static str, source: clickhouse::error::Error },
    #[error(
        "ClickHouse at {url} did not {what} within {STATEMENT_SECONDS_MAX} s; the pipeline waits and tries again"
    )]
    Timeout { url: String, what: &'static str },
    #[error(
        "database `{database}` has schema version {found}, this program knows {known}: \
         start the newer program, or restore the database from before the upgrade"
    )]
    NewerSchema { database: String, found: u32, known: u32 },
}

/// What one flush of the pipeline writes. Written table by table; every row
/// replaces its older self, so that a flush may be repeated in whole.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Flush {
    pub events: Vec<EventRow>,
    pub visits: Vec<VisitRow>,
    pub outcomes: Vec<OutcomeRow>,
    pub links: Vec<LinkRow>,
}

impl Flush {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.visits.is_empty() && self.outcomes.is_empty() && self.links.is_empty()
    }

    /// Rows of all tables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len() + self.visits.len() + self.outcomes.len() + self.links.len()
    }
}

/// A handle on the database; clones share connections.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    config: ClickHouseConfig,
}

impl ClickHouse {
    #[must_use]
    pub fn new(config: ClickHouseConfig) -> Self {
        // Our rows are declared beside the schema and compared with it by a test,
        // so the per-insert schema read of the client is not needed.
        let mut client = Client::default()
            .with_url(&config.url)
            .with_validation(false)
            // An import may hold years of months in one insert.
            .with_setting("max_partitions_per_insert_block", "0");
        if let Some(user) = &config.user {
            client = client.with_user(user);
        }
        if let Some(password) = &config.password {
            client = client.with_password(password);
        }
        Self { client: client.with_database(&config.database), config }
    }

    #[must_use]
    pub fn database(&self) -> &str {
        &self.config.database
    }

    /// Creates the database and brings its schema to this program's version.
    pub async fn migrate(&self) -> Result<(), ClickHouseError> {
        let database = &self.config.database;
        let anywhere = self.client.clone().with_database("default");
        let create = format!("CREATE DATABASE IF NOT EXISTS {database}");
        self.bounded("create the database", anywhere.query(&create).execute()).await?;
        self.execute(
            "create the table of migrations",
            "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, applied_at DateTime DEFAULT now()) \
             ENGINE = ReplacingMergeTree ORDER BY version",
        )
        .await?;
        let found: u32 =
            self.fetch_one("read its schema version", "SELECT max(version) FROM schema_migrations").await?;
        let known = MIGRATIONS.last().map_or(0, |last| last.version);
        if found > known {
            return Err(ClickHouseError::NewerSchema { database: database.clone(), found, known });
        }
        for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
            for statement in migration.statements() {
                self.execute("change its schema", statement).await?;
            }
            let done = format!(
                "INSERT INTO schema_migrations (version, name) VALUES ({}, '{}')",
                migration.version, migration.name
            );
            self.execute("note a schema change", &done).await?;
        }
        Ok(())
    }

    /// Writes one flush. Repeating it after an error is safe.
    pub async fn write(&self, flush: &Flush) -> Result<(), ClickHouseError> {
        // Outcomes last: a record counts as a duplicate only once its first
        // receipt is in.
        self.insert("event_rows", &flush.events).await?;
        self.insert("visit_rows", &flush.visits).await?;
        self.insert("visitor_link_rows", &flush.links).await?;
        self.insert("outcome_rows", &flush.outcomes).await
    }

    /// Writes the counts of an archive file. Repeating it is safe.
    pub async fn write_archive_counts(&self, rows: &[ArchiveCountRow]) -> Result<(), ClickHouseError> {
        self.insert("archive_file_counts", rows).await
    }

    /// Runs a statement that returns nothing.
    pub async fn execute(&self, what: &'static str, sql: &str) -> Result<(), ClickHouseError> {
        // A question mark in our own SQL is text, not a place for a value.
        self.bounded(what, self.client.query(&sql.replace('?', "??")).execute()).await
    }

    /// All rows of a query whose result is known to be small.
    pub async fn fetch_all<T>(&self, what: &'static str, sql: &str) -> Result<Vec<T>, ClickHouseError>
    where
        T: RowOwned + RowRead,
    {
        self.bounded(what, self.client.query(&sql.replace('?', "??")).fetch_all::<T>()).await
    }

    /// The one row of a query.
    pub async fn fetch_one<T>(&self, what: &'static str, sql: &str) -> Result<T, ClickHouseError>
    where
        T: RowOwned + RowRead,
    {
        self.bounded(what, self.client.query(&sql.replace('?', "??")).fetch_one::<T>()).await
    }

    async fn insert<T>(&self, table: &'static str, rows: &[T]) -> Result<(), ClickHouseError>
    where
        T: RowWrite + Row + for<'a> Row<Value<'a> = T>,
    {
        if rows.is_empty() {
            return Ok(());
        }
        self.bounded("take rows", async {
            let mut insert = self.client.insert::<T>(table).await?;
            for row in rows {
                insert.write(row).await?;
            }
            insert.end().await
        })
        .await
    }

    async fn bounded<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, ClickHouseError> {
        let url = || self.config.url.clone();
        match tokio::time::timeout(Duration::from_secs(STATEMENT_SECONDS_MAX), work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) => Err(ClickHouseError::Statement { url: url(), what, source }),
            Err(_) => Err(ClickHouseError::Timeout { url: url(), what }),
        }
    }
}
