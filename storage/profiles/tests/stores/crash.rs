//! The embedded file after its writer was killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{limits, now_ms, visit};
use fanal_profiles::{EmbeddedConfig, EmbeddedProfiles, ProfileBatch, ProfileError, Profiles};
use tempfile::TempDir;

const PATH: &str = "FANAL_TEST_PROFILES_PATH";
const FIRST: &str = "FANAL_TEST_PROFILES_FIRST";
/// Batches between two that reach the disk.
const FLUSH_EVERY: u64 = 7;

fn open(path: &std::path::Path) -> Result<Profiles, ProfileError> {
    EmbeddedProfiles::open(path, &EmbeddedConfig::default(), limits()).map(Profiles::Embedded)
}

/// The writer: a process of its own, since it does not survive.
async fn write_until_killed(path: String) {
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let profiles = open(path.as_ref()).unwrap();
    for i in first.. {
        let visits = (0..20).map(|j| visit("site", &format!("v{i}-{j}"), i, now_ms(), 1)).collect();
        profiles.write(&ProfileBatch { visits, ..ProfileBatch::default() }).await.unwrap();
        if i % FLUSH_EVERY == 0 {
            profiles.flush_to_disk().await.unwrap();
            println!("flushed {i}");
        }
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_a_consistent_file_with_all_that_was_flushed() {
    // This very test is the program that it kills.
    if let Ok(path) = std::env::var(PATH) {
        return write_until_killed(path).await;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("profiles.redb");
    let mut first = 1;
    for kill_after in [1, 5, 12] {
        let flushed = write_and_kill(&path, first, kill_after);
        let profiles = open(&path).unwrap();
        let mut batch = 1;
        while has(&profiles, batch, 0).await {
            for j in 0..20 {
                assert!(has(&profiles, batch, j).await, "batch {batch} is there in part: {j} is missing");
            }
            batch += 1;
        }
        assert!(batch > flushed, "batch {batch} is missing, {flushed} was flushed");
        // What came before a lasting batch is there, so nothing follows the first gap.
        for later in batch..batch + 50 {
            assert!(!has(&profiles, later, 19).await, "batch {later} is there, {batch} is not");
        }
        first = batch;
    }
}

async fn has(profiles: &Profiles, batch: u64, j: u64) -> bool {
    profiles.visitor("site", &format!("v{batch}-{j}")).await.unwrap().is_some()
}

/// Gives the last batch that was surely on disk.
fn write_and_kill(path: &std::path::Path, first: u64, kill_after: usize) -> u64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args([
            "crash::a_killed_writer_leaves_a_consistent_file_with_all_that_was_flushed",
            "--exact",
            "--nocapture",
        ])
        .env(PATH, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let flushed = lines
        .map_while(Result::ok)
        .filter_map(|line| line.rsplit_once("flushed ").and_then(|(_, batch)| batch.parse().ok()))
        .nth(kill_after)
        .expect("the writer ended by itself");
    writer.kill().unwrap();
    writer.wait().unwrap();
    flushed
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("profiles.redb");
    let _first = open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, ProfileError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("profiles.redb");
    std::fs::write(&path, b"these are notes of somebody".repeat(100)).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, ProfileError::Open { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"these are notes of somebody".repeat(100));
}
