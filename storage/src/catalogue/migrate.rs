//! Brings the tables up to date, in order, however many processes start at once and
//! wherever one of them is killed.
//!
//! SQLite takes each step whole or not at all. A server makes each statement that
//! changes tables durable at once, so there each statement is noted before it begins
//! and when it is done: one that was begun and not done may have been done after all,
//! and only there "it exists already" is a good answer.

use std::path::Path;
use std::sync::Arc;

use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Sqlite};

use super::CatalogueError;
use super::database::Database;
use super::dialect::Dialect;
use super::lease::Leases;

/// The steps; the number of a step is its place. Add at the end only, and no statement
/// that would do harm when it is run twice.
const STEPS: &[&str] = &[include_str!("migrations/0001_sites.sql")];

/// How long another process's migration is waited for.
const LOCK_WAIT_S: u32 = 30;
/// The oldest servers whose changes of tables are atomic and whose checks are checked.
const MARIADB_MIN: (u32, u32, u32) = (10, 6, 0);
const MYSQL_MIN: (u32, u32, u32) = (8, 0, 16);
/// A published configuration of 8 MiB with its statement.
const PACKET_BYTES_MIN: u64 = 9 << 20;
/// What a server says to a statement that was done before: table, column, key name or
/// row exists; column or key to drop does not.
const DONE_BEFORE: [u16; 5] = [1050, 1060, 1061, 1062, 1091];

pub(super) async fn migrate(database: &Database) -> Result<(), CatalogueError> {
    match database {
        Database::File { path, pool } => migrate_file(pool, path).await,
        Database::Server(leases) => migrate_server(leases).await,
    }
}

async fn migrate_file(pool: &SqlitePool, path: &Path) -> Result<(), CatalogueError> {
    let failed = |error| CatalogueError::of(path, error);
    for (at, step) in STEPS.iter().enumerate() {
        // The lock is taken before the version is read: two processes may start at once.
        let mut write = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let version = version(&mut write).await.map_err(failed)?;
        if is_done(version, at, &path.display())? {
            continue;
        }
        for statement in Dialect::File.statements(step) {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *write).await.map_err(failed)?;
        }
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

async fn version(write: &mut sqlx::Transaction<'static, Sqlite>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut **write).await
}

/// Whether the step at this place is behind `version`.
fn is_done(version: i64, at: usize, place: &dyn std::fmt::Display) -> Result<bool, CatalogueError> {
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > STEPS.len() {
        let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        return Err(CatalogueError::Newer { place: place.to_string(), found: version, known });
    }
    Ok(done > at)
}

async fn migrate_server(leases: &Arc<Leases>) -> Result<(), CatalogueError> {
    let server = &leases.server;
    let failed = |error| CatalogueError::of_server(server, error);
    let mut lease = leases.lease().await?;
    let connection = &mut lease.connection;
    check_server(leases, connection).await?;
    // Held by the connection: it ends with it, however that ends.
    let name = "CONCAT('fanal.', SHA1(DATABASE()))";
    let locked: Option<i64> =
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT GET_LOCK({name}, {LOCK_WAIT_S})")))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
    if locked != Some(1) {
        let detail = format!("another process has been changing its tables for {LOCK_WAIT_S} s");
        return Err(CatalogueError::Busy { server: server.to_string(), detail });
    }
    let result = steps(leases, connection).await;
    if result.is_ok() {
        let free = format!("SELECT RELEASE_LOCK({name})");
        sqlx::raw_sql(AssertSqlSafe(free)).execute(&mut *connection).await.map_err(failed)?;
        lease.give_back();
    }
    result
}

async fn steps(leases: &Leases, connection: &mut MySqlConnection) -> Result<(), CatalogueError> {
    let failed = |error| CatalogueError::of_server(&leases.server, error);
    let tables = "CREATE TABLE IF NOT EXISTS migration (id TINYINT NOT NULL PRIMARY KEY CHECK (id = 1), \
                  steps BIGINT NOT NULL, begun BIGINT NOT NULL, done BIGINT NOT NULL) ENGINE = InnoDB";
    let row = "INSERT IGNORE INTO migration (id, steps, begun, done) VALUES (1, 0, 0, 0)";
    for statement in [tables, row] {
        sqlx::raw_sql(statement).execute(&mut *connection).await.map_err(failed)?;
    }
    for (at, step) in STEPS.iter().enumerate() {
        // Steps that are whole; statements of the next one that were begun and done.
        let (version, begun, done): (i64, i64, i64) =
            sqlx::query_as("SELECT steps, begun, done FROM migration WHERE id = 1")
                .fetch_one(&mut *connection)
                .await
                .map_err(failed)?;
        if is_done(version, at, &leases.server)? {
            continue;
        }
        for (number, statement) in (1_i64..).zip(Dialect::Server.statements(step)) {
            if number <= done {
                continue;
            }
            note(connection, "begun", number).await.map_err(failed)?;
            match sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await {
                Ok(_) => {}
                Err(error) if number == begun && is_done_before(&error) => {}
                Err(error) => return Err(failed(error)),
            }
            note(connection, "done", number).await.map_err(failed)?;
        }
        sqlx::raw_sql("UPDATE migration SET steps = steps + 1, begun = 0, done = 0 WHERE id = 1")
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        tracing::info!(step = at + 1, "catalogue tables brought up to date");
    }
    Ok(())
}

async fn note(connection: &mut MySqlConnection, column: &str, number: i64) -> Result<(), sqlx::Error> {
    let statement = format!("UPDATE migration SET {column} = {number} WHERE id = 1");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

fn is_done_before(error: &sqlx::Error) -> bool {
    let number = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    number.is_some_and(|error| DONE_BEFORE.contains(&error.number()))
}

/// Refuses a server that could not keep what it is given.
async fn check_server(leases: &Leases, connection: &mut MySqlConnection) -> Result<(), CatalogueError> {
    let (version, packet_bytes): (String, u64) =
        sqlx::query_as("SELECT VERSION(), CAST(@@max_allowed_packet AS UNSIGNED)")
            .fetch_one(connection)
            .await
            .map_err(|error| CatalogueError::of_server(&leases.server, error))?;
    let unsuitable =
        |detail: String| Err(CatalogueError::Unsuitable { server: leases.server.to_string(), detail });
    let (name, least) = match version.contains("MariaDB") {
        true => ("MariaDB", MARIADB_MIN),
        false => ("MySQL", MYSQL_MIN),
    };
    if numbers(&version) < least {
        let (major, minor, patch) = least;
        return unsuitable(format!("it is {version}; upgrade it to {name} {major}.{minor}.{patch} or newer"));
    }
    if packet_bytes < PACKET_BYTES_MIN {
        return unsuitable(format!(
            "its max_allowed_packet is {packet_bytes}; set it to 16M or more, SDK configurations need it"
        ));
    }
    Ok(())
}

/// The three numbers that a version begins with.
fn numbers(version: &str) -> (u32, u32, u32) {
    // MariaDB 10 hides behind an older number from some clients.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        assert_eq!(numbers("10.11.19-MariaDB-0+deb12u1"), (10, 11, 19));
        assert_eq!(numbers("5.5.5-10.6.0-MariaDB"), (10, 6, 0));
        assert_eq!(numbers("8.4.3"), (8, 4, 3));
        assert!(numbers("8.0.15") < MYSQL_MIN && numbers("10.5.27-MariaDB") < MARIADB_MIN);
    }

    #[test]
    fn no_statement_is_for_one_dialect_by_mistake() {
        for step in STEPS {
            let (file, server) = (Dialect::File.statements(step), Dialect::Server.statements(step));
            let triggers = file.iter().filter(|statement| statement.contains("CREATE TRIGGER")).count();
            assert_eq!(file.len() - triggers, server.len());
            assert!(file.iter().chain(&server).all(|statement| !statement.contains('$')));
        }
    }
}
