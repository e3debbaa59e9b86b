//! What errors of a real server become.

use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig, ClickHouseError};

use crate::rows::flush;
use crate::served::{Server, database, folder};

/// The numbers and names that `error.rs` lists.
fn listed() -> Vec<(u32, String)> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clickhouse/error.rs");
    let text = std::fs::read_to_string(source).unwrap();
    text.lines()
        .filter_map(|line| {
            let (number, name) = line.trim().split_once(',')?;
            Some((number.parse().ok()?, name.trim().strip_prefix("// ")?.to_owned()))
        })
        .collect()
}

#[tokio::test]
async fn the_codes_have_the_names_that_the_engine_gives_them() {
    let listed = listed();
    assert!(listed.len() > 30, "the list was not found");
    let clickhouse = database("codes");
    clickhouse.migrate().await.unwrap();
    for (code, name) in listed {
        let sql = format!("SELECT toString(errorCodeToName({code}))");
        let known: String = clickhouse.fetch_one("name a code", &sql).await.unwrap();
        assert_eq!(known, name, "{code}");
    }
}

#[tokio::test]
async fn a_missing_table_or_column_is_not_worth_a_retry() {
    let clickhouse = database("refused");
    clickhouse.migrate().await.unwrap();
    let error = clickhouse.execute("read", "SELECT * FROM missing").await.unwrap_err();
    assert!(matches!(error, ClickHouseError::Refused { code: Some(60), .. }), "{error}");
    clickhouse.execute("drop", "ALTER TABLE event_rows DROP COLUMN nonce").await.unwrap();
    let error = clickhouse.write(&flush(0..1, 2)).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_a_right_one_taken() {
    let folder = folder();
    let server = Server::start("guarded", &folder, "127.0.0.1:0");
    let with = |password: &str| {
        ClickHouse::new(ClickHouseConfig {
            url: server.url(),
            database: "guarded".to_owned(),
            user: Some("default".to_owned()),
            password: Some(password.to_owned()),
            ..ClickHouseConfig::default()
        })
    };
    let error = with("wr0ng-secret").migrate().await.unwrap_err();
    assert!(matches!(error, ClickHouseError::Access { .. }), "{error}");
    assert!(!error.is_retryable() && !error.to_string().contains("wr0ng-secret"), "{error}");
    with("correct").migrate().await.unwrap();
    drop(server);
    let _gone = std::fs::remove_dir_all(folder);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_a_retry() {
    let clickhouse = ClickHouse::new(ClickHouseConfig {
        url: "http://127.0.0.1:1".to_owned(),
        database: "fanal".to_owned(),
        ..ClickHouseConfig::default()
    });
    let error = clickhouse.migrate().await.unwrap_err();
    assert!(matches!(error, ClickHouseError::Unreachable { .. }) && error.is_retryable(), "{error}");
}
