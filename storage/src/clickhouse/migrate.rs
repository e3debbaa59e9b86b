//! Brings a database's schema to this program's version.
//!
//! Progress is noted after every statement, so that a process that ended goes on
//! where it was; the statement between its end and its note runs again, which
//! `migrations` allows. A schema that is up to date is only read: a pipeline
//! starts also while a server of the cluster is down.

use clickhouse::Row;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::migrations::{MIGRATIONS, base_statements, view_statements};
use super::schema::Layout;
use super::{ClickHouse, ClickHouseError, ClusterConfig};

/// Tables that `base_statements` makes.
const BASE_TABLES: u64 = 2;
const VIEWS: &str = "views";
const READ: &str = "read its schema version";
const CHANGE: &str = "change its schema";
/// Two processes that replace the same view at once disturb each other.
const TRIES_MAX: u32 = 5;
/// UNKNOWN_TABLE, TABLE_ALREADY_EXISTS, UNKNOWN_DATABASE, DATABASE_ALREADY_EXISTS:
/// the other process was between two of its moves.
const DISTURBED: &[u32] = &[57, 60, 81, 82];

#[derive(Row, Deserialize)]
struct Found {
    base_tables: u64,
    /// Engine of `event_rows`; empty when it is missing.
    engine: String,
}

#[derive(Row, Deserialize)]
struct Done {
    step: String,
    number: u32,
    digest: u64,
}

#[derive(Row, Deserialize)]
struct Replica {
    shard_num: u32,
    internal_replication: u8,
}

impl ClickHouse {
    /// Creates the database and brings its schema to this program's version.
    pub async fn migrate(&self) -> Result<(), ClickHouseError> {
        self.migrate_some(usize::MAX).await.map(|_whole| ())
    }

    /// As `migrate`, but ends after so many writes, as a process that is killed
    /// there; true when the schema is up to date. Tests of interruption use it.
    pub async fn migrate_some(&self, writes_max: usize) -> Result<bool, ClickHouseError> {
        self.config().check()?;
        let mut run = Run { clickhouse: self, left: writes_max };
        match run.migrate().await {
            Ok(()) => Ok(true),
            Err(Ended::Early) => Ok(false),
            Err(Ended::Failed(error)) => Err(error),
        }
    }
}

enum Ended {
    Early,
    Failed(ClickHouseError),
}

impl From<ClickHouseError> for Ended {
    fn from(error: ClickHouseError) -> Self {
        Self::Failed(error)
    }
}

struct Run<'c> {
    clickhouse: &'c ClickHouse,
    /// Writes until the early end.
    left: usize,
}

impl Run<'_> {
    async fn migrate(&mut self) -> Result<(), Ended> {
        let config = self.clickhouse.config().clone();
        let layout = Layout { database: &config.database, cluster: config.cluster.as_ref() };
        let found = self.found(&config.database).await?;
        if found.base_tables < BASE_TABLES {
            if let Some(cluster) = &config.cluster {
                self.check_cluster(cluster).await?;
            }
            for statement in base_statements(layout)? {
                self.write(&statement).await?;
            }
        }
        let version: u32 =
            self.clickhouse.fetch_one(READ, "SELECT max(version) FROM schema_migrations").await?;
        let known = MIGRATIONS.last().map_or(0, |last| last.version);
        if version > known {
            let database = config.database.clone();
            return Err(ClickHouseError::NewerSchema { database, found: version, known }.into());
        }
        let done: Vec<Done> =
            self.clickhouse.fetch_all(READ, "SELECT step, number, digest FROM schema_progress FINAL").await?;
        for migration in MIGRATIONS.iter().filter(|migration| migration.version > version) {
            for (number, statement) in (0..).zip(migration.statements(layout)?) {
                if !done.iter().any(|done| done.step == migration.name && done.number == number) {
                    self.apply(migration.name, number, &statement).await?;
                }
            }
            let note = format!(
                "INSERT INTO schema_migrations (version, name) VALUES ({}, '{}')",
                migration.version, migration.name
            );
            self.write(&note).await?;
        }
        for (number, statement) in (0..).zip(view_statements(layout)?) {
            let digest = xxh3_64(statement.as_bytes());
            let is_same = |done: &Done| done.step == VIEWS && done.number == number && done.digest == digest;
            if !done.iter().any(is_same) {
                self.apply(VIEWS, number, &statement).await?;
            }
        }
        Ok(())
    }

    /// What is there, asked from outside of the database, which may be missing.
    async fn found(&self, database: &str) -> Result<Found, ClickHouseError> {
        let sql = format!(
            "SELECT countIf(name IN ('schema_migrations', 'schema_progress')) AS base_tables, \
             anyIf(engine, name = 'event_rows') AS engine FROM system.tables WHERE database = '{database}'"
        );
        let found: Found = self.clickhouse.outside().fetch_one(READ, &sql).await?;
        let is_cluster = self.clickhouse.config().cluster.is_some();
        let (single, cluster) = ("a single node", "a cluster");
        if !found.engine.is_empty() && (found.engine == "Distributed") != is_cluster {
            return Err(ClickHouseError::OtherLayout {
                database: database.to_owned(),
                found: if is_cluster { single } else { cluster },
                configured: if is_cluster { cluster } else { single },
            });
        }
        Ok(found)
    }

    /// What would make a statement fail later, or copy every row to every replica
    /// twice, is said before anything is made.
    async fn check_cluster(&self, cluster: &ClusterConfig) -> Result<(), ClickHouseError> {
        let outside = self.clickhouse.outside();
        let bad = |reason: String| {
            let (cluster, url) = (cluster.name.clone(), self.clickhouse.config().url.clone());
            Err(ClickHouseError::Cluster { cluster, url, reason })
        };
        let sql = format!(
            "SELECT shard_num, internal_replication FROM system.clusters WHERE cluster = '{}'",
            cluster.name
        );
        let replicas: Vec<Replica> = outside.fetch_all("describe its cluster", &sql).await?;
        if replicas.is_empty() {
            let sql = "SELECT DISTINCT cluster FROM system.clusters ORDER BY cluster";
            let known: Vec<String> = outside.fetch_all("list its clusters", sql).await?;
            return bad(format!(
                "the server does not know it, only [{}]; put `cluster.name` or the server's remote_servers right",
                known.join(", ")
            ));
        }
        let wrong = replicas.iter().find(|replica| {
            let is_alone = replicas.iter().filter(|other| other.shard_num == replica.shard_num).count() == 1;
            replica.internal_replication == 0 && !is_alone
        });
        if let Some(wrong) = wrong {
            return bad(format!(
                "shard {} has internal_replication = false; set it to true in remote_servers, since the tables \
                 replicate by themselves",
                wrong.shard_num
            ));
        }
        let macros: Vec<String> =
            outside.fetch_all("list its macros", "SELECT macro FROM system.macros").await?;
        for name in ["shard", "replica"] {
            if !macros.iter().any(|known| known == name) {
                return bad(format!("the server has no macro `{name}`; give every server its own in macros"));
            }
        }
        Ok(())
    }

    async fn apply(&mut self, step: &str, number: u32, statement: &str) -> Result<(), Ended> {
        tracing::info!(step, number, "changing the clickhouse schema");
        self.write(statement).await?;
        let digest = xxh3_64(statement.as_bytes());
        let note = format!(
            "INSERT INTO schema_progress (step, number, digest) VALUES ('{step}', {number}, {digest})"
        );
        self.write(&note).await
    }

    async fn write(&mut self, statement: &str) -> Result<(), Ended> {
        self.left = self.left.checked_sub(1).ok_or(Ended::Early)?;
        // The database may be missing still, and only its creation can be said outside of it.
        let outside;
        let clickhouse = if statement.starts_with("CREATE DATABASE") {
            outside = self.clickhouse.outside();
            &outside
        } else {
            self.clickhouse
        };
        let mut tries = 1;
        loop {
            match clickhouse.execute(CHANGE, statement).await {
                Ok(()) => return Ok(()),
                Err(error) if tries < TRIES_MAX && is_disturbed(&error) => {
                    tracing::info!(%error, "a schema change was disturbed by another process; trying again");
                    tokio::time::sleep(std::time::Duration::from_millis(50) * tries).await;
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_disturbed(error: &ClickHouseError) -> bool {
    matches!(error, ClickHouseError::Passing { .. })
        || error.code().is_some_and(|code| DISTURBED.contains(&code))
}
