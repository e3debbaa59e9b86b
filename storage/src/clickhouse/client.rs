//! The way to ClickHouse: one HTTP client, bounded in time.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::error::Error as SourceError;
use clickhouse::{Client, Row, RowOwned, RowRead, RowWrite};

use super::boot::BootId;
use super::flush::{Flush, token};
use super::parts::SeenParts;
use super::rows::ArchiveCountRow;
use super::{ClickHouseConfig, ClickHouseError, tls};

/// No statement of the pipeline takes longer; one that does hangs.
pub const STATEMENT_SECONDS_MAX: u64 = 300;

/// A handle on the database; clones share connections.
#[derive(Clone)]
pub struct ClickHouse {
    shared: Arc<Shared>,
    /// Set while statements must not name our database.
    is_outside: bool,
    /// Keeps the insert tokens of a run apart from those of others.
    run: u64,
}

struct Shared {
    /// Why there is no client is said by every call.
    client: Result<Client, String>,
    config: ClickHouseConfig,
    boot: BootId,
    seen_parts: SeenParts,
}

impl ClickHouse {
    /// Does not ask the server anything.
    #[must_use]
    pub fn new(config: ClickHouseConfig) -> Self {
        let client = tls::client(&config.url, config.tls_ca_file.as_deref());
        let client = client.map(|client| with_settings(client, &config));
        let (boot, seen_parts) = (BootId::default(), SeenParts::default());
        Self { shared: Arc::new(Shared { client, config, boot, seen_parts }), is_outside: false, run: 0 }
    }

    #[must_use]
    pub fn database(&self) -> &str {
        &self.shared.config.database
    }

    #[must_use]
    pub fn config(&self) -> &ClickHouseConfig {
        &self.shared.config
    }

    pub(super) fn seen_parts(&self) -> &SeenParts {
        &self.shared.seen_parts
    }

    /// A handle whose inserts are told from equal ones of other runs. A run that
    /// writes again what was written before and changed since, as a rebuild does,
    /// needs one, or the server takes its rows for a repetition. Within the run an
    /// insert that is repeated is still dropped.
    #[must_use]
    pub fn for_run(&self, run: u64) -> Self {
        Self { run, ..self.clone() }
    }

    /// The same server, without our database, which may be missing.
    pub(super) fn outside(&self) -> Self {
        Self { is_outside: true, ..self.clone() }
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

    /// Runs a statement that returns nothing. It has no token: what it inserts is
    /// never taken for a repetition.
    pub async fn execute(&self, what: &'static str, sql: &str) -> Result<(), ClickHouseError> {
        // A question mark in our own SQL is text, not a place for a value.
        let query = self.client()?.query(&sql.replace('?', "??")).with_setting("insert_deduplicate", "0");
        self.bounded(what, query.execute()).await
    }

    /// All rows of a query whose result is known to be small.
    pub async fn fetch_all<T>(&self, what: &'static str, sql: &str) -> Result<Vec<T>, ClickHouseError>
    where
        T: RowOwned + RowRead,
    {
        self.bounded(what, self.client()?.query(&sql.replace('?', "??")).fetch_all::<T>()).await
    }

    /// The one row of a query.
    pub async fn fetch_one<T>(&self, what: &'static str, sql: &str) -> Result<T, ClickHouseError>
    where
        T: RowOwned + RowRead,
    {
        self.bounded(what, self.client()?.query(&sql.replace('?', "??")).fetch_one::<T>()).await
    }

    async fn insert<T>(&self, table: &'static str, rows: &[T]) -> Result<(), ClickHouseError>
    where
        T: RowWrite + Row + for<'a> Row<Value<'a> = T> + std::hash::Hash,
    {
        if rows.is_empty() {
            return Ok(());
        }
        let boot = self.shared.boot.get(self).await?;
        let token = token(table, &(boot, self.run), rows);
        let client = self.client()?;
        let inserted = self
            .bounded("take rows", async {
                let mut insert = client.insert::<T>(table).await?;
                insert = insert
                    .with_setting("insert_deduplication_token", token)
                    // Also where nobody waits for it any more: later it may add nothing.
                    .with_setting("max_execution_time", STATEMENT_SECONDS_MAX.to_string());
                for row in rows {
                    insert.write(row).await?;
                }
                insert.end().await
            })
            .await;
        if inserted.is_err() {
            self.shared.boot.doubt();
        }
        inserted
    }

    fn client(&self) -> Result<Client, ClickHouseError> {
        match &self.shared.client {
            Ok(client) if self.is_outside => Ok(client.clone().with_database("default")),
            Ok(client) => Ok(client.clone()),
            Err(reason) => Err(ClickHouseError::Tls { reason: reason.clone() }),
        }
    }

    async fn bounded<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, ClickHouseError> {
        let url = &self.shared.config.url;
        match tokio::time::timeout(Duration::from_secs(STATEMENT_SECONDS_MAX), work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) => Err(ClickHouseError::of(url, what, &source)),
            Err(_) => Err(ClickHouseError::Timeout { url: url.clone(), what }),
        }
    }
}

fn with_settings(client: Client, config: &ClickHouseConfig) -> Client {
    // Our rows are declared beside the schema and compared with it by a test,
    // so the per-insert schema read of the client is not needed.
    let mut client = client
        .with_validation(false)
        .with_database(&config.database)
        // An import may hold years of months in one insert.
        .with_setting("max_partitions_per_insert_block", "0");
    if let Some(user) = &config.user {
        client = client.with_user(user);
    }
    if let Some(password) = &config.password {
        client = client.with_password(password);
    }
    let Some(cluster) = &config.cluster else { return client };
    client = client
        // Acknowledged means: on the disk of the shard, not in a queue on the way to it.
        .with_setting("insert_distributed_sync", "1")
        // What was written is read from the same replica, as long as it lives: that of the
        // server that is asked, and the first one of the other shards.
        .with_setting("load_balancing", "in_order")
        // A statement that copies rows within a table goes the same way.
        .with_setting("parallel_distributed_insert_select", "0");
    if cluster.insert_quorum > 1 {
        client = client.with_setting("insert_quorum", cluster.insert_quorum.to_string());
    }
    client
}
