//! HDFS that does not answer, answers late, or has moved.

use std::time::{Duration, Instant};

use fanal_hdfs::{HdfsConfig, HdfsStore};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::hdfs_config;

/// Enough for a real answer on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(4);

fn config(url: String) -> HdfsConfig {
    HdfsConfig { url, operation_timeout_ms: 4000, ..hdfs_config() }
}

#[tokio::test]
async fn a_name_node_that_is_not_there_is_an_error_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let store = HdfsStore::new(HdfsConfig { url: format!("hdfs://{free}"), ..hdfs_config() }).unwrap();
    let begun = Instant::now();
    let error = store.put(&Path::from("a"), vec![1].into()).await.unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(error.contains("check the NameNode"), "{error}");
}

#[tokio::test]
async fn a_name_node_that_never_answers_is_given_up_and_asked_anew() {
    let real = hdfs_config().url.trim_start_matches("hdfs://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("hdfs://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (_kept, _) = listener.accept().await.unwrap();
        while let Ok((mut client, _)) = listener.accept().await {
            let real = real.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(&real).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let store = HdfsStore::new(config(url)).unwrap();
    let begun = Instant::now();
    let error = store.probe().await.unwrap_err().to_string();
    assert!(error.contains("did not answer within 4000 ms"), "{error}");
    assert!(begun.elapsed() < 3 * TIMEOUT, "{:?}", begun.elapsed());
    // The dead connection is not asked again.
    store.probe().await.unwrap();
    store.put(&Path::from("a"), vec![1].into()).await.unwrap();
}

#[tokio::test]
async fn a_name_service_is_served_by_whichever_name_node_answers() {
    let real = hdfs_config().url.trim_start_matches("hdfs://").to_owned();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let name_services = [("fanal-test".to_owned(), vec![free, real])].into();
    let config = HdfsConfig { url: "hdfs://fanal-test".to_owned(), name_services, ..hdfs_config() };
    let store = HdfsStore::new(config).unwrap();
    store.put(&Path::from("a/b"), vec![1, 2].into()).await.unwrap();
    assert_eq!(store.get(&Path::from("a/b")).await.unwrap().bytes().await.unwrap(), vec![1, 2]);
}
