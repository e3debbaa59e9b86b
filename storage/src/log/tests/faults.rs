use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::log::file::{Opener, SegmentFile, real_opener};

/// A file whose calls fail when they are told to.
struct Faulty {
    inner: Box<dyn SegmentFile>,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// Bytes that still fit; `u64::MAX` for no bound.
    space: AtomicU64,
    sync_fails: AtomicBool,
    cut_fails: AtomicBool,
}

impl SegmentFile for Faulty {
    fn write_all_at(&mut self, bytes: &[u8], position: u64) -> io::Result<()> {
        let space = usize::try_from(self.faults.space.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
        if bytes.len() > space {
            self.inner.write_all_at(&bytes[..space], position)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write_all_at(bytes, position)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        if self.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the device is gone"));
        }
        self.inner.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if self.faults.cut_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the device is gone"));
        }
        self.inner.set_len(len)
    }
}

fn faulty() -> (Opener, Arc<Faults>) {
    let faults = Arc::new(Faults { space: AtomicU64::new(u64::MAX), ..Faults::default() });
    let (shared, real) = (Arc::clone(&faults), real_opener());
    let opener: Opener =
        Arc::new(move |path| Ok(Box::new(Faulty { inner: real(path)?, faults: Arc::clone(&shared) })));
    (opener, faults)
}

#[tokio::test]
async fn a_partial_write_is_taken_back_and_later_appends_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (opener, faults) = faulty();
    let log = open::open(dir.path(), LogConfig::default(), opener).unwrap();
    log.appender().append(batch(&["kept"])).await.unwrap();
    for space in 0..60 {
        faults.space.store(space, Ordering::SeqCst);
        assert_eq!(log.appender().append(batch(&["refused"])).await, Err(AppendError::Full));
        assert_eq!(log.health(), LogHealth::Full);
    }
    faults.space.store(u64::MAX, Ordering::SeqCst);
    log.appender().append(batch(&["later"])).await.unwrap();
    assert_eq!(log.health(), LogHealth::Ready);
    let wanted = [(0, Topic::Beacons, "kept".to_owned()), (1, Topic::Beacons, "later".to_owned())];
    assert_eq!(read_from(&log, 0).unwrap(), wanted);
    drop(log);
    assert_eq!(read_from(&Log::open(dir.path(), LogConfig::default()).unwrap(), 0).unwrap(), wanted);
}

#[tokio::test]
async fn after_a_failed_sync_or_cut_nothing_is_acknowledged_until_a_restart() {
    for cut in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (opener, faults) = faulty();
        let log = open::open(dir.path(), LogConfig::default(), opener).unwrap();
        log.appender().append(batch(&["kept"])).await.unwrap();
        faults.sync_fails.store(!cut, Ordering::SeqCst);
        faults.cut_fails.store(cut, Ordering::SeqCst);
        faults.space.store(if cut { 10 } else { u64::MAX }, Ordering::SeqCst);
        assert_eq!(log.appender().append(batch(&["unknown"])).await, Err(AppendError::Poisoned));
        faults.sync_fails.store(false, Ordering::SeqCst);
        faults.cut_fails.store(false, Ordering::SeqCst);
        faults.space.store(u64::MAX, Ordering::SeqCst);
        assert_eq!(log.appender().append(batch(&["later"])).await, Err(AppendError::Poisoned));
        assert_eq!(log.health(), LogHealth::Poisoned);
        assert_eq!(log.end_offset(), 1, "readers see only what was confirmed");
        drop(log);
        let log = Log::open(dir.path(), LogConfig::default()).unwrap();
        assert_eq!(log.health(), LogHealth::Ready);
        assert_eq!(read_from(&log, 0).unwrap()[0].2, "kept");
    }
}

/// A file system of its own, of one mebibyte; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0.path()).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals_when_space_returns() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not run: mounting a small file system needs root");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 512 << 10]).unwrap();
    let dir = disk.0.path().join("log");
    let log = Log::open(&dir, LogConfig { segment_bytes: 64 << 10, ..LogConfig::default() }).unwrap();
    let value = "x".repeat(10_000);
    let mut acknowledged = 0;
    let refused = loop {
        match log.appender().append(batch(&[&value])).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 200, "one mebibyte cannot hold this");
    };
    assert_eq!(refused, AppendError::Full);
    assert_eq!(log.end_offset(), acknowledged);
    std::fs::remove_file(&ballast).unwrap();
    log.appender().append(batch(&["after"])).await.unwrap();
    drop(log);
    let log = Log::open(&dir, LogConfig::default()).unwrap();
    let all = read_from(&log, 0).unwrap();
    assert_eq!(all.len() as u64, acknowledged + 1);
    assert!(all.iter().rev().skip(1).all(|r| r.2 == value));
    drop(log);
}

#[tokio::test]
async fn a_slow_disk_refuses_what_its_queue_cannot_hold() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig { queue_bytes_max: 300, ..LogConfig::default() }).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let appender = log.appender();
        waiting.push(tokio::spawn(async move { appender.append(batch(&[&"x".repeat(100)])).await }));
    }
    let (mut accepted, mut overloaded) = (0, 0);
    for task in waiting {
        match task.await.unwrap() {
            Ok(_) => accepted += 1,
            Err(AppendError::Overloaded) => overloaded += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(overloaded > 0 && accepted > 0, "{accepted} {overloaded}");
    assert_eq!(log.end_offset(), accepted);
}

/// Set in a child process that this test starts: the directory to open.
const CHILD_DIR: &str = "FANAL_TEST_LOCKED_DIR";

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_directory() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let error = Log::open(Path::new(&dir), LogConfig::default()).err().unwrap();
        println!("child says: {error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "log::tests::faults::a_second_process_is_told_who_holds_the_directory",
        ])
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = format!("in use by process {}", std::process::id());
    assert!(text.contains("child says") && text.contains(&wanted), "{text}");
    drop(log);
    Log::open(dir.path(), LogConfig::default()).unwrap();
}

/// Set in a child process that appends until it is killed: its directory.
const WRITER_DIR: &str = "FANAL_TEST_WRITER_DIR";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_acknowledged_is_there_whole_and_once() {
    use std::io::{BufRead, BufReader, Write};
    if let Ok(dir) = std::env::var(WRITER_DIR) {
        return append_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = std::collections::BTreeSet::new();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "log::tests::faults::what_a_killed_process_acknowledged_is_there_whole_and_once",
            ])
            .env(WRITER_DIR, dir.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acks = lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("ack ").map(str::to_owned));
        acknowledged.extend(acks.by_ref().take(200 + 77 * round));
        child.kill().unwrap();
        // What was on its way when it died was acknowledged as well.
        acknowledged.extend(acks);
        child.wait().unwrap();
        let log = Log::open(dir.path(), LogConfig::default()).unwrap();
        let found = read_from(&log, 0).unwrap();
        let names: std::collections::BTreeSet<_> = found.iter().map(|r| r.2.clone()).collect();
        assert!(acknowledged.is_subset(&names), "round {round} lost acknowledged records");
        assert_eq!(found.len(), 2 * names.len(), "each batch is there with both records, once");
        assert!(found.chunks(2).all(|pair| pair[0].2 == pair[1].2));
    }
    assert!(acknowledged.len() > 1000);
    std::io::stdout().flush().unwrap();
}

async fn append_until_killed(dir: &Path) {
    let log = Log::open(dir, LogConfig { segment_bytes: 20_000, ..LogConfig::default() }).unwrap();
    let mut tasks = Vec::new();
    for task in 0..8 {
        let appender = log.appender();
        tasks.push(tokio::spawn(async move {
            for n in 0.. {
                let name = format!("{}-{task}-{n}", std::process::id());
                appender.append(batch(&[&name, &name])).await.unwrap();
                println!("ack {name}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
