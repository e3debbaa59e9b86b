//! The Rust `clickhouse` crate, unmodified, with and without its compression.

use clickhouse::{Client, Compression, Row};
use serde::{Deserialize, Serialize};

use crate::served::{Folder, Server};

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
struct Entry {
    id: u64,
    name: String,
    tags: Vec<String>,
    maybe: Option<u32>,
    pairs: Vec<(u32, i64)>,
}

fn entry(id: u64) -> Entry {
    Entry {
        id,
        name: format!("name {id}"),
        tags: vec!["a".to_owned(), id.to_string()],
        maybe: id.is_multiple_of(2).then_some(7),
        pairs: vec![(1, -1)],
    }
}

async fn use_client(client: Client) {
    client
        .query(
            "CREATE TABLE t (id UInt64, name String, tags Array(LowCardinality(String)), maybe Nullable(UInt32), \
             pairs Array(Tuple(UInt32, Int64))) ENGINE = ReplacingMergeTree ORDER BY id",
        )
        .execute()
        .await
        .unwrap();
    let mut insert = client.insert::<Entry>("t").await.unwrap();
    for id in 0..200_000 {
        insert.write(&entry(id)).await.unwrap();
    }
    insert.end().await.unwrap();
    let mut inserter = client.inserter::<Entry>("t").with_max_rows(1000);
    for id in 0..2_500 {
        inserter.write(&entry(id)).await.unwrap();
        inserter.commit().await.unwrap();
    }
    inserter.end().await.unwrap();
    let counts = client.query("SELECT count() FROM t FINAL").fetch_one::<u64>().await.unwrap();
    assert_eq!(counts, 200_000);
    assert_eq!(client.query("SELECT count() FROM t").fetch_one::<u64>().await.unwrap(), 202_500);

    let mut rows = client.query("SELECT ?fields FROM t FINAL ORDER BY id").fetch::<Entry>().unwrap();
    let mut expected = 0;
    while let Some(row) = rows.next().await.unwrap() {
        assert_eq!(row, entry(expected));
        expected += 1;
    }
    assert_eq!(expected, 200_000);

    let bound = client.query("SELECT ?fields FROM t FINAL WHERE name = ? AND id IN ?");
    let bound = bound.bind("name 5").bind([5_u64, 6]).fetch_all::<Entry>().await.unwrap();
    assert_eq!(bound, [entry(5)]);
    let named = client.query("SELECT {x:String}, {n:UInt32}").param("x", "it's \\ 1").param("n", 5_u32);
    assert_eq!(named.fetch_one::<(String, u32)>().await.unwrap(), ("it's \\ 1".to_owned(), 5));
    let set =
        client.query("SELECT toUInt64(getSetting('max_block_size'))").with_setting("max_block_size", "777");
    assert_eq!(set.fetch_one::<u64>().await.unwrap(), 777);
}

async fn see_errors(client: Client) {
    let missing = client.query("SELECT * FROM nothing").fetch_all::<u64>().await.unwrap_err().to_string();
    assert!(missing.contains("Code: 60") && missing.contains("UNKNOWN_TABLE"), "{missing}");
    let syntax = client.query("SELECT 1 +").execute().await.unwrap_err().to_string();
    assert!(syntax.contains("Code: 62"), "{syntax}");
    // An error after rows were sent must reach the reader as an error.
    let mut rows = client
        .query(
            "SELECT number + throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000",
        )
        .fetch::<u64>()
        .unwrap();
    let mut read = 0;
    let error = loop {
        match rows.next().await {
            Ok(Some(_)) => read += 1,
            Ok(None) => panic!("the answer looks whole after {read} rows"),
            Err(error) => break error,
        }
    };
    // The block with the bad row is the first one that may be missing.
    assert!(read <= 900_000, "{read} rows before {error}");
}

fn run(compression: Compression) {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let client =
        Client::default().with_url(server.url("")).with_compression(compression).with_database("default");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        use_client(client.clone()).await;
        see_errors(client).await;
    });
}

#[test]
fn rust_client_works_without_compression() {
    run(Compression::None);
}

#[test]
fn rust_client_works_with_lz4() {
    run(Compression::Lz4);
}
