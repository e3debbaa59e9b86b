//! The schema as ordered migrations. Each may be run again: an interrupted one
//! is resumed by running it from its start.

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
];

impl Migration {
    /// The statements in their order: a statement ends with `;` at the end of a line.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_a_gap_and_can_be_run_again() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, version);
            for statement in migration.statements() {
                let code = statement.lines().find(|line| !line.starts_with("--")).unwrap();
                let again = ["CREATE TABLE IF NOT EXISTS ", "CREATE OR REPLACE VIEW ", "ALTER TABLE "];
                assert!(again.iter().any(|start| code.starts_with(start)), "{code}");
            }
        }
    }
}
