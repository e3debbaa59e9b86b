//! The schema as ordered steps, and the views over what they leave.
//!
//! Must stay true: a statement of a step leaves the same schema however often it
//! runs and whichever later statements ran before it. So a process may end
//! between any two, and two processes may run them beside each other; no lock is
//! needed. The test below holds the statements to the forms of which this is so.

use super::ClickHouseError;
use super::schema::{Layout, UnknownForm};

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub version: u32,
    pub name: &'static str,
    sql: &'static str,
}

/// All steps, oldest first. A released step never changes; a new one is added.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "events", sql: include_str!("../../sql/0001_events.sql") },
    Migration { version: 2, name: "visits", sql: include_str!("../../sql/0002_visits.sql") },
    Migration { version: 3, name: "ledger", sql: include_str!("../../sql/0003_ledger.sql") },
    Migration { version: 4, name: "log_partition", sql: include_str!("../../sql/0004_log_partition.sql") },
    Migration { version: 5, name: "insert_tokens", sql: include_str!("../../sql/0005_insert_tokens.sql") },
];

/// Tables that say what was done; they are there before the first step.
const BASE: &str = include_str!("../../sql/base.sql");
const VIEWS: &str = include_str!("../../sql/views.sql");

impl Migration {
    /// The statements in their order.
    pub fn statements(&self, layout: Layout<'_>) -> Result<Vec<String>, ClickHouseError> {
        rendered(layout, self.sql)
    }
}

/// The database and the tables that say what was done to it.
pub fn base_statements(layout: Layout<'_>) -> Result<Vec<String>, ClickHouseError> {
    let mut statements = vec![layout.create_database()];
    statements.extend(rendered(layout, BASE)?);
    Ok(statements)
}

/// The views, whatever the version.
pub fn view_statements(layout: Layout<'_>) -> Result<Vec<String>, ClickHouseError> {
    rendered(layout, VIEWS)
}

fn rendered(layout: Layout<'_>, source: &str) -> Result<Vec<String>, ClickHouseError> {
    layout.render(source).map_err(|UnknownForm(statement)| ClickHouseError::Unrenderable { statement })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clickhouse::ClusterConfig;

    const SINGLE: Layout<'static> = Layout { database: "fanal", cluster: None };

    #[test]
    fn migrations_are_numbered_without_a_gap() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, version);
        }
    }

    #[test]
    fn statements_of_a_step_may_run_again_and_in_any_order() {
        // What a statement changes, and the one that may: a second change of the
        // same thing would undo the first when it runs before it.
        let mut changed: BTreeMap<String, String> = BTreeMap::new();
        for migration in MIGRATIONS {
            for statement in migration.statements(SINGLE).unwrap() {
                let what = if let Some(rest) = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
                    rest.lines().next().unwrap().to_owned()
                } else {
                    let rest = statement.strip_prefix("ALTER TABLE ").expect("a known form");
                    let (table, change) = rest.split_once("\n    ").unwrap();
                    let (kind, change) = ["ADD COLUMN IF NOT EXISTS ", "MODIFY SETTING "]
                        .iter()
                        .find_map(|kind| Some((kind, change.strip_prefix(kind)?)))
                        .expect("a change that may run again");
                    format!("{table} {kind}{}", change.split(' ').next().unwrap())
                };
                let before = changed.insert(what.clone(), migration.name.to_owned());
                assert_eq!(before, None, "{what} is changed twice");
            }
        }
    }

    #[test]
    fn a_cluster_shards_by_columns_of_the_sorting_key() {
        let cluster = ClusterConfig::named("main");
        let layout = Layout { database: "fanal", cluster: Some(&cluster) };
        let mut sorting_key = String::new();
        let mut seen = 0;
        for statement in MIGRATIONS.iter().flat_map(|migration| migration.statements(layout).unwrap()) {
            if let Some((_, rest)) = statement.split_once("\nORDER BY (") {
                sorting_key = rest.split(')').next().unwrap().to_owned();
            }
            let Some((_, rest)) = statement.split_once("_local', cityHash64(") else { continue };
            let columns: Vec<&str> = rest.split(')').next().unwrap().split(", ").collect();
            for column in columns {
                // The table keeps the hash of the visitor code, not the code, in its key.
                let column = if column == "visitor_code" && sorting_key.contains("visitor_hash") {
                    "visitor_hash"
                } else {
                    column
                };
                assert!(sorting_key.split(", ").any(|known| known == column), "{statement}\n{sorting_key}");
            }
            seen += 1;
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn a_statement_of_no_known_form_is_refused_on_a_cluster() {
        let cluster = ClusterConfig::named("main");
        let layout = Layout { database: "fanal", cluster: Some(&cluster) };
        for source in [
            "DROP TABLE event_rows",
            "ALTER TABLE event_rows\n    DROP COLUMN nonce",
            "CREATE TABLE IF NOT EXISTS t\n(\n    a Int8\n)\nENGINE = MergeTree\nORDER BY a",
            "-- shard by a: it is all there is\nCREATE TABLE IF NOT EXISTS t\n(\n    a Int8\n)\nENGINE = Log",
        ] {
            assert!(rendered(layout, source).is_err(), "{source}");
        }
    }
}
