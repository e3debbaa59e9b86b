//! Where tests keep their archives, and what they put there.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fanal_hdfs::{HdfsConfig, HdfsStore};
use fanal_model::Beacon;
use fanal_storage::archive::{Archive, ArchiveWriter, FileInfo, Filter, Rotation};
use fanal_storage::log::{Chunk, Family, LogKind, Partition, Topic};
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

/// Midnight of a day that is long over.
pub(crate) const DAY: u64 = 1_700_006_400_000;
pub(crate) const MINUTE: u64 = 60_000;

/// An empty folder of its own; local ones are removed at the end.
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) local: Option<tempfile::TempDir>,
}

impl Place {
    pub(crate) fn local() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(dir.path()).unwrap().with_fsync(true);
        Self { store: Arc::new(store), local: Some(dir) }
    }

    pub(crate) fn hdfs() -> Self {
        Self { store: Arc::new(HdfsStore::new(hdfs_config()).unwrap()), local: None }
    }

    pub(crate) fn archive(&self) -> Archive {
        Archive::on(Arc::clone(&self.store))
    }

    /// Every file there is, with its bytes.
    pub(crate) async fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for object in self.store.list(None).try_collect::<Vec<_>>().await.unwrap() {
            let got = self.store.get_opts(&object.location, Default::default()).await.unwrap();
            found.push((object.location.to_string(), got.bytes().await.unwrap().to_vec()));
        }
        found.sort();
        found
    }
}

/// An address of the stack; without it nothing real is tested.
pub(crate) fn stack(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `make test`, or `scripts/stack.sh start hdfs` and export what `scripts/stack.sh env` prints")
    })
}

/// A folder of its own on the stack's HDFS.
pub(crate) fn hdfs_config() -> HdfsConfig {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let root = format!("/fanal-tests/{now}-{}", rand::random::<u32>());
    HdfsConfig { url: stack("FANAL_STACK_HDFS"), root, block_mib: 1, ..HdfsConfig::default() }
}

pub(crate) fn partition() -> Partition {
    Partition::new(Family::Overflow, 2).unwrap()
}

/// Records of the minutes `from..to` of `DAY`: two beacons each, with a gap between
/// them, and now and then one that is not ours.
pub(crate) fn records(from: u64, to: u64) -> Chunk {
    let mut chunk = Chunk::of(partition(), from * 10);
    for minute in from..to {
        let at = DAY + minute * MINUTE + 7;
        for number in 0..2 {
            let received_at_ms = at + number;
            let (visitor, line) =
                (format!("visitor-{number}"), format!("eventType=activity&nonce={minute:016}"));
            let beacon = Beacon {
                received_at_ms,
                site_code: if number == 0 { "shop" } else { "other" },
                visitor_code: &visitor,
                user_agent: b"agent \xff",
                line: line.as_bytes(),
                ..Beacon::default()
            };
            let mut value = Vec::new();
            beacon.encode(&mut value);
            chunk.push(minute * 10 + number * 3, Topic::Beacons, at, b"shop\0v", &value);
        }
        if minute % 3 == 1 {
            chunk.push(
                minute * 10 + 5,
                Topic::Foreign,
                at,
                b"shop\0v",
                format!("foreign {minute}").as_bytes(),
            );
        }
    }
    chunk.push(to * 10 - 1, Topic::Seal, DAY + (to - 1) * MINUTE + 9, b"", b"");
    chunk
}

pub(crate) async fn resume(archive: &Archive) -> ArchiveWriter {
    ArchiveWriter::resume(archive.clone(), Rotation::default(), LogKind::Kafka, partition(), 0).await.unwrap()
}

/// Archives the minutes of `records`, one file each.
pub(crate) async fn fill(archive: &Archive, from: u64, to: u64) -> Vec<FileInfo> {
    resume(archive).await.write(&records(from, to)).await.unwrap()
}

/// All that can be read: beacons by offset, then dead letters, then sums of the ledger.
pub(crate) async fn rows(archive: &Archive) -> Vec<String> {
    let (mut beacons, mut letters, all) = (Vec::new(), Vec::new(), Filter::default());
    let mut ledger = fanal_storage::archive::Ledger::default();
    for file in archive.list(partition()).await.unwrap() {
        let opened = archive.open(&file).await.unwrap();
        ledger.add(&opened.ledger().unwrap());
        for group in opened.groups(&all) {
            beacons.extend(group.unwrap().beacons(&all).map(|row| format!("{row:?}")));
        }
        if let Some(dead) = archive.open_dead(&file).await.unwrap() {
            dead.for_each(|row| letters.push(format!("{row:?}"))).unwrap();
        }
    }
    beacons.extend(letters);
    beacons.extend(ledger.counts.iter().map(|counts| format!("{counts:?}")));
    beacons
}

/// Declares the test twice: on a local folder and on HDFS.
macro_rules! on_both {
    ($name:ident, $on_hdfs:ident, $body:path) => {
        #[tokio::test]
        async fn $name() {
            $body($crate::fixture::Place::local).await;
        }

        #[tokio::test]
        async fn $on_hdfs() {
            $body($crate::fixture::Place::hdfs).await;
        }
    };
}
pub(crate) use on_both;
