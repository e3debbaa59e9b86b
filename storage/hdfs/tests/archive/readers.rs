//! Readers that are not ours: DuckDB, PyArrow, Spark, ClickHouse.

use std::path::{Path as LocalPath, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fanal_hdfs::{HdfsConfig, HdfsStore};
use fanal_storage::archive::{Archive, Compaction};

use crate::fixture::{DAY, MINUTE, Place, fill, hdfs_config, partition, stack};

/// What every reader must find: rows, first offset, last event, lines, sites, dead
/// letters and their reason.
const FOUND: &str = "18 0 LAST 9 other,shop 3 unknown_version";

fn found() -> String {
    FOUND.replace("LAST", &(DAY + 8 * MINUTE + 8).to_string())
}

fn python(arguments: &[&str]) -> String {
    let tests = LocalPath::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("FANAL_READERS_PYTHON")
        .map_or_else(|| tests.join("../../.cache/readers/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} is missing: run `scripts/install.sh readers` or `make test`",
        python.display()
    );
    let output = Command::new(&python)
        .arg(tests.join("tests/archive/readers.py"))
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test]
async fn duckdb_and_pyarrow_read_a_local_archive_before_and_after_compaction() {
    let place = Place::local();
    let archive = place.archive();
    let folder = place.local.as_ref().unwrap().path().to_str().unwrap();
    fill(&archive, 0, 9).await;
    // The last number: rows by the counts in the footers.
    assert_eq!(python(&["duckdb", folder]), found() + " 18");
    compact(&archive).await;
    assert_eq!(python(&["duckdb", folder]), found() + " 18");
}

#[tokio::test]
async fn duckdb_and_spark_read_an_archive_on_hdfs() {
    let config = hdfs_config();
    let archive = Archive::on(Arc::new(HdfsStore::new(config.clone()).unwrap()));
    fill(&archive, 0, 5).await;
    compact(&archive).await;
    fill(&archive, 5, 9).await;
    let HdfsConfig { url, root, .. } = config;
    assert_eq!(python(&["pyspark", &format!("{url}{root}")]), found());
    let copy = tempfile::tempdir().unwrap();
    let folder = copy.path().to_str().unwrap();
    python(&["fetch", &stack("FANAL_STACK_HDFS_HTTP"), &root, folder]);
    assert_eq!(python(&["duckdb", folder]), found() + " 18");
}

async fn compact(archive: &Archive) {
    let policy = Compaction { files_min: 2, ..Compaction::default() };
    let compacted = archive.compact(partition(), &policy, DAY + 48 * 60 * MINUTE, u64::MAX, || true).await;
    assert_eq!(compacted.unwrap().merged.len(), 1);
}
