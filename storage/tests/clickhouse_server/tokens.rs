//! Inserts that are repeated.

use std::time::Duration;

use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig};

use crate::rows::{archive_counts, flush, numbers, shown, stored};
use crate::served::{Server, database, folder, unique};

const TABLES: [&str; 5] =
    ["event_rows", "visit_rows", "outcome_rows", "visitor_link_rows", "archive_file_counts"];

async fn parts(clickhouse: &ClickHouse, table: &str) -> u64 {
    let sql = format!(
        "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = '{table}' AND active"
    );
    numbers(clickhouse, &sql).await
}

async fn without_merges(clickhouse: &ClickHouse) {
    clickhouse.migrate().await.unwrap();
    for table in TABLES {
        clickhouse.execute("stop merges", &format!("SYSTEM STOP MERGES {table}")).await.unwrap();
    }
}

#[tokio::test]
async fn an_insert_that_is_repeated_adds_neither_rows_nor_parts() {
    let clickhouse = database("repeated");
    without_merges(&clickhouse).await;
    let (rows, counts) = (flush(0..400, 2), archive_counts(0..100));
    let mut first = Vec::new();
    for _time in 0..3 {
        clickhouse.write(&rows).await.unwrap();
        clickhouse.write_archive_counts(&counts).await.unwrap();
        let mut now = Vec::new();
        for table in TABLES {
            now.push((table, stored(&clickhouse, table).await, parts(&clickhouse, table).await));
        }
        if first.is_empty() {
            assert_eq!(now[0], ("event_rows", 400, 4), "one part a month");
            first = now;
        } else {
            assert_eq!(now, first);
        }
    }
    // Another process that replays the same has the same tokens.
    ClickHouse::new(clickhouse.config().clone()).write(&rows).await.unwrap();
    assert!(stored(&clickhouse, "event_rows").await <= 800);
    assert_eq!(shown(&clickhouse, "event_rows").await, 400);
}

#[tokio::test]
async fn a_change_and_its_undoing_are_not_taken_for_repetitions() {
    let clickhouse = database("undone");
    without_merges(&clickhouse).await;
    let there = flush(0..1, 2);
    let mut gone = there.clone();
    gone.outcomes[0].is_deleted = 1;
    for run in [1, 2, 3] {
        let rows = if run == 2 { &gone } else { &there };
        clickhouse.for_run(run).write(rows).await.unwrap();
    }
    assert_eq!(shown(&clickhouse, "outcome_rows").await, 1);
    // Within a run a repetition is dropped.
    let before = stored(&clickhouse, "outcome_rows").await;
    clickhouse.for_run(3).write(&there).await.unwrap();
    assert_eq!(stored(&clickhouse, "outcome_rows").await, before);
}

#[tokio::test]
async fn a_statement_without_a_token_is_no_repetition() {
    let clickhouse = database("statement");
    without_merges(&clickhouse).await;
    for _time in 0..2 {
        let sql = "INSERT INTO outcome_rows (site_code, minute, version) SELECT 's', toDateTime(0), 1";
        clickhouse.execute("insert", sql).await.unwrap();
    }
    assert_eq!(stored(&clickhouse, "outcome_rows").await, 2);
}

fn on(server: &Server, database: &str) -> ClickHouse {
    ClickHouse::new(ClickHouseConfig {
        url: server.url(),
        database: database.to_owned(),
        ..ClickHouseConfig::default()
    })
}

#[tokio::test]
async fn a_token_holds_for_one_start_of_the_server_alone() {
    let (folder, name) = (folder(), unique("restarted"));
    let mut server = Server::start("single", &folder, "127.0.0.1:0");
    let clickhouse = on(&server, &name);
    without_merges(&clickhouse).await;
    let rows = flush(0..4, 2);
    clickhouse.write(&rows).await.unwrap();
    clickhouse.write(&rows).await.unwrap();
    assert_eq!(stored(&clickhouse, "event_rows").await, 4);
    server.kill();
    assert!(clickhouse.write(&rows).await.unwrap_err().is_retryable());
    let address = server.address.clone();
    let _server = Server::start("single", &folder, &address);
    // The rows were there; a server that was killed may as well have lost them.
    clickhouse.write(&rows).await.unwrap();
    assert_eq!(stored(&clickhouse, "event_rows").await, 8);
    assert_eq!(shown(&clickhouse, "event_rows").await, 4);
    drop(_server);
    let _gone = std::fs::remove_dir_all(&folder);
}

#[tokio::test]
async fn nothing_acknowledged_is_missing_when_the_server_is_killed_again_and_again() {
    const KILLS: u32 = 6;
    let (folder, name) = (folder(), unique("killed"));
    let mut server = Server::start("single", &folder, "127.0.0.1:0");
    let clickhouse = on(&server, &name);
    clickhouse.migrate().await.unwrap();
    let mut written = 0;
    for kill in 0..KILLS {
        let mut rows = flush(written * 40..(written + 1) * 40, 2);
        let until = tokio::time::Instant::now() + Duration::from_millis(150 + u64::from(kill) * 37);
        // The kill comes while an insert is under way.
        let killed = async {
            tokio::time::sleep_until(until).await;
            server.kill();
        };
        let written_until_killed = async {
            while clickhouse.write(&rows).await.is_ok() {
                written += 1;
                rows = flush(written * 40..(written + 1) * 40, 2);
            }
        };
        tokio::join!(killed, written_until_killed);
        let address = server.address.clone();
        server = Server::start("single", &folder, &address);
        clickhouse.write(&rows).await.unwrap();
        written += 1;
        for table in &TABLES[..3] {
            assert_eq!(shown(&clickhouse, table).await, u64::from(written) * 40, "{table} after kill {kill}");
        }
    }
    assert!(written > KILLS, "no insert was done between the kills");
    drop(server);
    let _gone = std::fs::remove_dir_all(&folder);
}
