//! The tables: made once, by one of the processes that start together.
//!
//! What must stay true: a keyspace that has the tables sees no statement that changes
//! a schema; tables of a newer program are left alone.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::response::query_result::QueryResult;
use scylla::statement::Statement;
use scylla::value::{CqlValue, Row};

use super::Inner;
use super::request::answered;
use crate::config::Replication;
use crate::error::ProfileError;

const SCHEMA_VERSION: i64 = 1;
/// Time for one statement that changes the schema.
const CHANGE_TIME: Duration = Duration::from_secs(30);
/// A process that died while it made the tables holds the others up this long.
const LOCK_S: u32 = 30;
/// How often the others look whether the tables are there; three times `LOCK_S` in all.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOKS_MAX: u32 = 180;
/// While another process creates a table, a node lists it before it knows it: refusals
/// count from this look on.
const SETTLING_LOOKS_MAX: u32 = 20;
const CHANGE: &str = "a change of the schema";

const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS $KS.visits (
        site_code text, visitor_code text, started_at timestamp, visit_id bigint, data blob,
        PRIMARY KEY ((site_code, visitor_code), started_at, visit_id)
    ) WITH CLUSTERING ORDER BY (started_at DESC, visit_id DESC)
      AND compaction = {'class': 'LeveledCompactionStrategy'}",
    "CREATE TABLE IF NOT EXISTS $KS.links_by_value (
        site_code text, mapping_value text, visitor_code text, linked_at timestamp,
        PRIMARY KEY ((site_code, mapping_value), visitor_code)
    ) WITH compaction = {'class': 'LeveledCompactionStrategy'}",
    "CREATE TABLE IF NOT EXISTS $KS.links_by_visitor (
        site_code text, visitor_code text, mapping_value text, linked_at timestamp,
        PRIMARY KEY ((site_code, visitor_code), mapping_value)
    ) WITH compaction = {'class': 'LeveledCompactionStrategy'}",
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS $KS.schema_version \
     (name text PRIMARY KEY, version bigint, owner uuid)";

/// Returns when all tables are there and all nodes agree on them.
pub(super) async fn ensure(inner: &Inner, session: &Session) -> Result<(), ProfileError> {
    let schema = Schema { inner, session };
    for look in 0..LOOKS_MAX {
        match schema.step().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(ProfileError::Refused { operation: CHANGE, problem, .. }) if look < SETTLING_LOOKS_MAX => {
                tracing::debug!(problem, "the schema is not settled yet");
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Err(inner.unreachable("another process has not made the tables".to_owned()))
}

struct Schema<'s> {
    inner: &'s Inner,
    session: &'s Session,
}

impl Schema<'_> {
    /// Does what this process can do; gives whether the tables are there.
    async fn step(&self) -> Result<bool, ProfileError> {
        if self.is_made().await? {
            return Ok(true);
        }
        self.make_keyspace().await?;
        if !self.has_versions().await? {
            self.send(VERSIONS).await?;
        }
        // Another process may have made them all since this one has looked.
        if self.is_made().await? {
            return Ok(true);
        }
        let is_mine = self.lock().await?;
        if is_mine {
            self.make_tables().await?;
        }
        Ok(is_mine)
    }

    async fn has_versions(&self) -> Result<bool, ProfileError> {
        let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '$KS' \
                    AND table_name = 'schema_version'";
        let rows = answered("a read", self.send(text).await?.into_rows_result())?;
        Ok(rows.rows_num() > 0)
    }

    async fn is_made(&self) -> Result<bool, ProfileError> {
        if !self.has_versions().await? {
            return Ok(false);
        }
        let text = "SELECT version FROM $KS.schema_version WHERE name = 'profiles'";
        let rows = answered("a read", self.send(text).await?.into_rows_result())?;
        match answered("a read", rows.maybe_first_row::<(Option<i64>,)>())? {
            None | Some((None,)) => Ok(false),
            Some((Some(SCHEMA_VERSION),)) => Ok(true),
            Some((Some(found),)) => Err(ProfileError::NewerSchema {
                found: found.cast_unsigned(),
                known: SCHEMA_VERSION.cast_unsigned(),
            }),
        }
    }

    async fn make_keyspace(&self) -> Result<(), ProfileError> {
        let text = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '$KS'";
        let rows = answered("a read", self.send(text).await?.into_rows_result())?;
        if rows.rows_num() > 0 {
            return Ok(());
        }
        let config = &self.inner.config;
        if !config.create_keyspace {
            return Err(ProfileError::Refused {
                operation: "the first start",
                problem: format!("there is no keyspace {:?}", config.keyspace),
                remedy: "create it, or set [profiles.cassandra] create_keyspace = true",
            });
        }
        let copies = config.replication_factor;
        let replication = match config.replication {
            Replication::Network => {
                format!("'class': 'NetworkTopologyStrategy', '{}': {copies}", config.local_datacenter)
            }
            Replication::Simple => format!("'class': 'SimpleStrategy', 'replication_factor': {copies}"),
        };
        self.send(&format!(
            "CREATE KEYSPACE IF NOT EXISTS $KS WITH replication = {{{replication}}} AND durable_writes = true"
        ))
        .await
        .map(|_| ())
    }

    /// Whether this process is the one that makes the tables.
    async fn lock(&self) -> Result<bool, ProfileError> {
        let text = format!(
            "INSERT INTO $KS.schema_version (name, owner) VALUES ('lock', uuid()) IF NOT EXISTS USING TTL {LOCK_S}"
        );
        let rows = answered("the lock", self.send(&text).await?.into_rows_result())?;
        let row = answered("the lock", rows.first_row::<Row>())?;
        Ok(matches!(row.columns.first(), Some(Some(CqlValue::Boolean(true)))))
    }

    async fn make_tables(&self) -> Result<(), ProfileError> {
        for text in TABLES {
            self.send(text).await?;
        }
        let version =
            format!("INSERT INTO $KS.schema_version (name, version) VALUES ('profiles', {SCHEMA_VERSION})");
        self.send(&version).await?;
        tracing::info!(keyspace = self.inner.config.keyspace, "made the profile tables");
        Ok(())
    }

    /// The driver waits until all nodes agree on a change.
    async fn send(&self, text: &str) -> Result<QueryResult, ProfileError> {
        let mut statement = Statement::new(text.replace("$KS", &self.inner.config.keyspace));
        statement.set_request_timeout(Some(CHANGE_TIME));
        // `IF NOT EXISTS` and fixed values: once more changes nothing.
        statement.set_is_idempotent(true);
        let sent = self.session.query_unpaged(statement, ()).await;
        sent.map_err(|error| self.inner.failed(CHANGE, &error))
    }
}
