//! A writer that is killed leaves whole files and temporary ones, nothing between.

use std::process::Command;
use std::time::Duration;

use fanal_hdfs::{HdfsConfig, HdfsStore};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::fixture::hdfs_config;

const ROOT: &str = "FANAL_TEST_HDFS_ROOT";
const FILE_BYTES: usize = 3 << 20;
/// A kill can hit the moment between two files.
const KILLS_MAX: u32 = 8;

/// Not a test of its own: the writer that the next one starts and kills.
#[tokio::test]
async fn a_writer_without_end() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let store = HdfsStore::new(HdfsConfig { root, ..hdfs_config() }).unwrap();
    for number in 0_u8..=255 {
        store.put(&Path::from(format!("files/{number}")), vec![number; FILE_BYTES].into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_files_and_temporary_ones_that_go_away() {
    let config = hdfs_config();
    let store = HdfsStore::new(config.clone()).unwrap();
    let mut temporary = 0;
    for _ in 0..KILLS_MAX {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::a_writer_without_end"])
            .env(ROOT, &config.root)
            .spawn()
            .unwrap();
        // In the middle of a file, as a rule.
        while files(&store, "_tmp").await.len() <= temporary && writer.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        for object in files(&store, "files").await {
            let number: u8 = object.location.filename().unwrap().parse().unwrap();
            let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes.len(), FILE_BYTES, "{} is whole", object.location);
            assert!(bytes.iter().all(|byte| *byte == number));
        }
        temporary = files(&store, "_tmp").await.len();
        if temporary >= 2 {
            break;
        }
    }
    assert!(temporary > 0, "no writer was killed in the middle of a file");
    assert_eq!(store.remove_leftovers().await.unwrap(), 0, "young files may be another writer's");
    let config = HdfsConfig { put_timeout_ms: 4000, leftover_after_ms: 8000, ..config };
    tokio::time::sleep(Duration::from_millis(config.leftover_after_ms + 500)).await;
    // The next put removes them by itself.
    HdfsStore::new(config).unwrap().put(&Path::from("files/next"), vec![1].into()).await.unwrap();
    assert_eq!(files(&store, "_tmp").await, []);
}

async fn files(store: &HdfsStore, folder: &str) -> Vec<ObjectMeta> {
    store.list(Some(&Path::from(folder))).try_collect().await.unwrap()
}
