//! A writer that is killed leaves whole files and temporary ones, nothing between.

use std::process::Command;
use std::time::Duration;

use fanal_hdfs::{HdfsConfig, HdfsStore};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::fixture::hdfs_config;

const ROOT: &str = "FANAL_TEST_HDFS_ROOT";
const FILE_BYTES: usize = 3 << 20;

fn config(root: String) -> HdfsConfig {
    HdfsConfig { root, put_timeout_ms: 1000, leftover_after_ms: 2000, ..hdfs_config() }
}

/// Not a test of its own: the writer that the next one starts and kills.
#[tokio::test]
async fn a_writer_without_end() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let config = HdfsConfig { put_timeout_ms: 60_000, leftover_after_ms: 120_000, ..config(root) };
    let store = HdfsStore::new(config).unwrap();
    for number in 0_u8..=255 {
        store.put(&Path::from(format!("files/{number}")), vec![number; FILE_BYTES].into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_files_and_temporary_ones_that_go_away() {
    let config = config(hdfs_config().root);
    let store = HdfsStore::new(config.clone()).unwrap();
    let files = Path::from("files");
    let mut left_behind = 0;
    for kill in 0..4_u64 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::a_writer_without_end"])
            .env(ROOT, &config.root)
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(400 + 37 * kill)).await;
        writer.kill().unwrap();
        writer.wait().unwrap();
        let found: Vec<_> = store.list(Some(&files)).try_collect().await.unwrap();
        for object in &found {
            assert_eq!(object.size, FILE_BYTES as u64, "{} is whole", object.location);
            let number: u8 = object.location.filename().unwrap().parse().unwrap();
            let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            assert!(bytes.iter().all(|byte| *byte == number));
        }
        let temporary = store.list(Some(&Path::from("_tmp"))).try_collect::<Vec<_>>().await.unwrap();
        left_behind += temporary.len();
    }
    assert!(left_behind > 0, "no writer was killed in the middle of a file");
    assert_eq!(store.remove_leftovers().await.unwrap_or(0), 0, "young files may be another writer's");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    // The next put removes them by itself.
    let next = HdfsStore::new(config).unwrap();
    next.put(&Path::from("files/next"), vec![1].into()).await.unwrap();
    assert!(store.list(Some(&Path::from("_tmp"))).try_collect::<Vec<_>>().await.unwrap().is_empty());
}
