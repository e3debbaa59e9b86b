//! Migrations: interrupted anywhere, beside each other, and of older databases.

use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig, ClickHouseError, ClusterConfig, MIGRATIONS};

use crate::rows::{archive_counts, flush, numbers, shown};
use crate::served::{config, database};

/// Everything that the database is made of, without its name.
async fn description(clickhouse: &ClickHouse) -> Vec<String> {
    let name = clickhouse.database();
    let sql = format!(
        "SELECT concat(name, ': ', replaceAll(create_table_query, '{name}', 'DB')) FROM system.tables \
         WHERE database = '{name}' ORDER BY name"
    );
    // Asked from outside: a cut may have come before the database was made.
    let config = ClickHouseConfig { database: "default".to_owned(), ..clickhouse.config().clone() };
    ClickHouse::new(config).fetch_all("describe the database", &sql).await.unwrap()
}

async fn migrated(name: &str) -> ClickHouse {
    let clickhouse = database(name);
    clickhouse.migrate().await.unwrap();
    clickhouse
}

#[tokio::test]
async fn a_process_that_is_killed_after_any_statement_goes_on_there() {
    let expected = description(&migrated("whole").await).await;
    assert!(expected.len() >= 11, "{expected:?}");
    let mut cuts = 0;
    loop {
        let clickhouse = database("cut");
        let is_whole = clickhouse.migrate_some(cuts).await.unwrap();
        // Rows that came between must stay.
        let has_events = description(&clickhouse).await;
        let has_events = has_events.iter().any(|table| table.starts_with("event_rows:"));
        if has_events {
            let sql = "INSERT INTO event_rows (site_code, event_id, version) VALUES ('s', 1, 2)";
            clickhouse.execute("insert", sql).await.unwrap();
        }
        clickhouse.migrate().await.unwrap();
        assert_eq!(description(&clickhouse).await, expected, "cut after {cuts} writes");
        assert_eq!(numbers(&clickhouse, "SELECT count() FROM events").await, u64::from(has_events));
        let sql = format!("DROP DATABASE {}", clickhouse.database());
        clickhouse.execute("drop it", &sql).await.unwrap();
        if is_whole {
            break;
        }
        cuts += 1;
    }
    // Two writes a statement, one a step: fewer means that the cuts were not where they should be.
    assert!(cuts > 2 * 12 + MIGRATIONS.len(), "{cuts}");
}

#[tokio::test]
async fn a_schema_that_is_up_to_date_is_only_read() {
    let clickhouse = migrated("settled").await;
    assert!(clickhouse.migrate_some(0).await.unwrap());
}

#[tokio::test]
async fn a_view_that_another_release_made_is_replaced() {
    let clickhouse = migrated("view").await;
    let expected = description(&clickhouse).await;
    clickhouse.execute("replace", "CREATE OR REPLACE VIEW events AS SELECT 1 AS one").await.unwrap();
    let note = "INSERT INTO schema_progress (step, number, digest) VALUES ('views', 0, 1)";
    clickhouse.execute("note", note).await.unwrap();
    clickhouse.migrate().await.unwrap();
    assert_eq!(description(&clickhouse).await, expected);
}

#[tokio::test]
async fn processes_that_migrate_at_once_all_end_well() {
    let expected = description(&migrated("alone").await).await;
    for _round in 0..3 {
        let config = config("together");
        let mut tasks = tokio::task::JoinSet::new();
        for _process in 0..6 {
            let config = config.clone();
            tasks.spawn(async move { ClickHouse::new(config).migrate().await });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
        assert_eq!(description(&ClickHouse::new(config)).await, expected);
    }
}

/// A database as the release before `log_partition` made it.
async fn previous(config: &ClickHouseConfig) -> ClickHouse {
    let database = &config.database;
    let clickhouse = ClickHouse::new(config.clone());
    let outside = ClickHouse::new(ClickHouseConfig { database: "default".to_owned(), ..config.clone() });
    outside.execute("create", &format!("CREATE DATABASE {database}")).await.unwrap();
    let notes = "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, applied_at DateTime DEFAULT now()) \
                 ENGINE = ReplacingMergeTree ORDER BY version";
    clickhouse.execute("create", notes).await.unwrap();
    let sources = [
        include_str!("previous/0001_events.sql"),
        include_str!("previous/0002_visits.sql"),
        include_str!("previous/0003_ledger.sql"),
    ];
    for (version, source) in (1..).zip(sources) {
        for statement in source.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
            clickhouse.execute("create", statement).await.unwrap();
        }
        let note = format!("INSERT INTO schema_migrations (version, name) VALUES ({version}, 'n{version}')");
        clickhouse.execute("note", &note).await.unwrap();
    }
    for insert in [
        "INSERT INTO event_rows (site_code, event_at, event_id, visitor_code, version) VALUES ('s', '2026-10-01 10:00:00', 7, 'v', 2)",
        "INSERT INTO visit_rows (site_code, started_at, visit_id, visitor_code, version) VALUES ('s', '2026-10-01 10:00:00', 9, 'v', 2)",
        "INSERT INTO outcome_rows (site_code, minute, outcome, count, version) VALUES ('s', '2026-10-01 10:00:00', 'duplicate', 3, 2)",
        "INSERT INTO archive_file_counts (site_code, minute, stage, outcome, count) VALUES ('s', '2026-10-01 10:00:00', 'archive', 'archived', 4)",
        "INSERT INTO visitor_link_rows (site_code, mapping_value, visitor_code) VALUES ('s', 'm', 'v')",
    ] {
        clickhouse.execute("insert", insert).await.unwrap();
    }
    clickhouse
}

#[tokio::test]
async fn a_database_of_the_previous_release_keeps_its_rows() {
    let clickhouse = previous(&config("previous")).await;
    clickhouse.migrate().await.unwrap();
    for (count, sql) in [
        (7, "SELECT event_id FROM events"),
        (9, "SELECT visit_id FROM visits"),
        (3, "SELECT count FROM ledger WHERE outcome = 'duplicate'"),
        (4, "SELECT count FROM ledger WHERE stage = 'archive'"),
        (1, "SELECT count FROM ledger WHERE outcome = 'loaded'"),
        (1, "SELECT count() FROM visitor_links"),
        (0, "SELECT toUInt64(log_partition) FROM event_rows FINAL"),
        (0, "SELECT toUInt64(log_partition) FROM visit_rows FINAL"),
        (
            0,
            "SELECT count() FROM system.columns WHERE database = currentDatabase() AND table IN ('events', 'visits') AND name = 'log_partition'",
        ),
        (5, "SELECT toUInt64(max(version)) FROM schema_migrations"),
    ] {
        assert_eq!(numbers(&clickhouse, sql).await, count, "{sql}");
    }
    // It is as a new one, except for the tables that the old release made itself.
    let of_new = description(&migrated("new").await).await;
    let own = |table: &&String| !table.starts_with("schema_");
    let of_old = description(&clickhouse).await;
    assert_eq!(of_old.iter().filter(own).collect::<Vec<_>>(), of_new.iter().filter(own).collect::<Vec<_>>());
    clickhouse.write(&flush(0..10, 4)).await.unwrap();
    clickhouse.write_archive_counts(&archive_counts(0..10)).await.unwrap();
    assert_eq!(shown(&clickhouse, "event_rows").await, 11);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let clickhouse = migrated("newer").await;
    let note = "INSERT INTO schema_migrations (version, name) VALUES (1000, 'later')";
    clickhouse.execute("note", note).await.unwrap();
    let error = clickhouse.migrate().await.unwrap_err();
    assert!(matches!(error, ClickHouseError::NewerSchema { found: 1000, .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_single_nodes_database_is_not_taken_for_a_clusters() {
    let clickhouse = migrated("layout").await;
    let cluster = Some(ClusterConfig::named("main"));
    let other = ClickHouse::new(ClickHouseConfig { cluster, ..clickhouse.config().clone() });
    let error = other.migrate().await.unwrap_err();
    assert!(matches!(error, ClickHouseError::OtherLayout { .. }), "{error}");
    assert!(error.to_string().contains("was made for a single node"), "{error}");
}
