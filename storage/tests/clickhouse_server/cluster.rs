//! What can be shown of a cluster without one: the replicated tables are created
//! with the engine's stand-in for Keeper; the `Distributed` tables and the views
//! work on a cluster of one shard, over plain local tables; and the sharding keys
//! keep all versions of a row together. Not shown: replication, `ON CLUSTER`.

use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig, ClickHouseError, ClusterConfig, Layout};

use crate::rows::{archive_counts, flush, numbers, shown, stored};
use crate::schema::statements;
use crate::served::{database, unique, with_cluster};

fn handle(name: &str, cluster: &str) -> ClickHouse {
    ClickHouse::new(ClickHouseConfig {
        url: with_cluster(),
        database: unique(name),
        cluster: Some(ClusterConfig::named(cluster)),
        ..ClickHouseConfig::default()
    })
}

/// The statements of the cluster, as one server would run each of them.
fn on_one_server(clickhouse: &ClickHouse) -> Vec<String> {
    let config = clickhouse.config();
    let layout = Layout { database: &config.database, cluster: config.cluster.as_ref() };
    let one = |(_, sql): (String, String)| {
        assert!(sql.contains(" ON CLUSTER 'main'"), "{sql}");
        sql.replace(" ON CLUSTER 'main'", "")
    };
    statements(layout).into_iter().map(one).collect()
}

/// The same engine without replication.
fn unreplicated(sql: &str) -> String {
    let Some((before, rest)) = sql.split_once("ENGINE = Replicated") else { return sql.to_owned() };
    let (engine, after) = rest.split_once('\n').unwrap();
    let (family, arguments) = engine.split_once('(').unwrap();
    let own: Vec<&str> = arguments.trim_end_matches(')').split(", ").skip(2).collect();
    let own = if own.is_empty() { String::new() } else { format!("({})", own.join(", ")) };
    let window = if after.contains("SETTINGS ") { ", non_replicated_deduplication_window = 100" } else { "" };
    format!("{before}ENGINE = {family}{own}\n{after}{window}")
}

fn outside(clickhouse: &ClickHouse) -> ClickHouse {
    let config = clickhouse.config().clone();
    ClickHouse::new(ClickHouseConfig { database: "default".to_owned(), ..config })
}

#[tokio::test]
async fn the_engine_creates_every_replicated_table() {
    let clickhouse = handle("replicated", "main");
    let mut made = 0;
    for sql in on_one_server(&clickhouse) {
        if sql.starts_with("CREATE DATABASE") {
            outside(&clickhouse).execute("create", &sql).await.unwrap();
        } else if sql.starts_with("CREATE TABLE") {
            clickhouse.execute("create", &sql).await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
            made += u32::from(sql.contains("ENGINE = Replicated"));
        }
    }
    assert_eq!(made, 7);
    let sql = "SELECT arrayStringConcat(arraySort(groupArray(concat(zookeeper_path, ' ', replica_name))), '\\n') \
               FROM system.replicas WHERE database = currentDatabase()";
    let paths: String = clickhouse.fetch_one("list replicas", sql).await.unwrap();
    let name = clickhouse.database();
    assert!(paths.contains(&format!("/clickhouse/tables/01/{name}/event_rows r1")), "{paths}");
    assert!(
        paths.contains(&format!("/clickhouse/tables/everywhere/{name}/schema_progress 01-r1")),
        "{paths}"
    );
}

async fn over_distributed_tables(name: &str) -> ClickHouse {
    let clickhouse = handle(name, "main");
    for sql in on_one_server(&clickhouse) {
        let at = if sql.starts_with("CREATE DATABASE") { outside(&clickhouse) } else { clickhouse.clone() };
        let sql = unreplicated(&sql);
        at.execute("create", &sql).await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
    }
    clickhouse
}

#[tokio::test]
async fn distributed_tables_take_rows_and_the_views_show_them_once() {
    let clickhouse = over_distributed_tables("distributed").await;
    for version in [2, 4] {
        clickhouse.write(&flush(0..400, version)).await.unwrap();
        clickhouse.write(&flush(0..400, version)).await.unwrap();
        clickhouse.write_archive_counts(&archive_counts(0..100)).await.unwrap();
    }
    // The token goes with the rows to the shard.
    assert!(stored(&clickhouse, "event_rows_local").await <= 800);
    assert_eq!(shown(&clickhouse, "event_rows").await, 400);
    for (count, sql) in [
        (400, "SELECT count() FROM events"),
        (400, "SELECT countIf(event_count = 4) FROM visits"),
        (400, "SELECT sum(count) FROM ledger WHERE outcome = 'loaded'"),
        (400, "SELECT sum(count) FROM ledger WHERE outcome = 'duplicate'"),
        (1000, "SELECT sum(count) FROM ledger WHERE stage = 'archive'"),
        (50, "SELECT uniqExact(visitor_hash) FROM events"),
        (8, "SELECT count() FROM events WHERE visitor_code = 'visitor 7'"),
    ] {
        assert_eq!(numbers(&clickhouse, sql).await, count, "{sql}");
    }
    // As a rebuild removes rows.
    let remove = "INSERT INTO event_rows SELECT * REPLACE (toUInt64(5) AS version, toUInt8(1) AS is_deleted) \
                  FROM event_rows FINAL WHERE event_id IN (1, 2, 3)";
    clickhouse.execute("remove", remove).await.unwrap();
    assert_eq!(numbers(&clickhouse, "SELECT count() FROM events").await, 397);
    assert_eq!(clickhouse.parts_pressure().await.unwrap().table, "event_rows_local");
}

#[tokio::test]
async fn a_sharding_key_keeps_all_versions_of_a_row_together() {
    let clickhouse = database("sharding");
    clickhouse.migrate().await.unwrap();
    for version in [2, 4, 5] {
        clickhouse.write(&flush(0..400, version)).await.unwrap();
        clickhouse.for_run(version).write_archive_counts(&archive_counts(0..100)).await.unwrap();
    }
    let cluster = ClusterConfig::named("main");
    let layout = Layout { database: "fanal", cluster: Some(&cluster) };
    let mut seen = 0;
    let mut sorting_key = String::new();
    for (place, sql) in statements(layout) {
        if let Some((_, rest)) = sql.split_once("\nORDER BY (") {
            sorting_key = rest.split_once(')').unwrap().0.to_owned();
        }
        let Some((_, rest)) = sql.split_once("ENGINE = Distributed('main', 'fanal', '") else { continue };
        let (table, key) = rest.trim_end_matches(')').split_once("_local', ").unwrap();
        let key = format!("{key})");
        let apart = format!(
            "SELECT max(shards) FROM (SELECT uniqExact({key} % 3) AS shards FROM {table} GROUP BY {sorting_key})"
        );
        assert_eq!(numbers(&clickhouse, &apart).await, 1, "{place}: {key}");
        let used = format!("SELECT uniqExact({key} % 3) FROM {table}");
        assert_eq!(numbers(&clickhouse, &used).await, 3, "{place}: {key}");
        // Cutting by shard before or after FINAL is the same.
        let whole = format!("SELECT count() FROM {table} FINAL");
        let cut: Vec<String> = (0..3)
            .map(|shard| {
                format!("ifNull((SELECT count() FROM {table} FINAL PREWHERE {key} % 3 = {shard}), 0)")
            })
            .collect();
        assert_eq!(
            numbers(&clickhouse, &whole).await,
            numbers(&clickhouse, &format!("SELECT {}", cut.join(" + "))).await,
            "{table}"
        );
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[tokio::test]
async fn a_cluster_that_cannot_hold_the_tables_is_refused_before_anything_is_made() {
    for (name, words) in [("nowhere", "only [doubling, main]"), ("doubling", "internal_replication")] {
        let clickhouse = handle("refused", name);
        let error = clickhouse.migrate().await.unwrap_err();
        assert!(matches!(error, ClickHouseError::Cluster { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        let sql = format!("SELECT count() FROM system.databases WHERE name = '{}'", clickhouse.database());
        assert_eq!(numbers(&outside(&clickhouse), &sql).await, 0);
    }
}
