//! The spool on a real disk before a log that is away in every way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

mod crash;
mod inner;
mod schedule;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanal_ingest::spool::{SpoolSettings, Spooled};
use fanal_service::health::{Health, State};
use fanal_service::stop::Stop;
use fanal_storage::log::{AppendError, Batch, EventLog, MemoryLog, Topic};
use tokio::task::JoinHandle;

use inner::{Flaky, Mode, batch, clock, lines, memory, one, place_behind, settings, soon};

/// A spool that drains.
struct Running {
    log: Spooled<Flaky<MemoryLog>>,
    health: Health,
    stop: Stop,
    draining: JoinHandle<()>,
}

impl Running {
    fn start(inner: &Flaky<MemoryLog>, settings: SpoolSettings) -> Self {
        let (health, stop) = (Health::new(), Stop::new());
        let (log, drain) = Spooled::open(inner.clone(), settings, clock(), health.clone()).unwrap();
        let draining = tokio::spawn(drain.run(stop.clone()));
        Self { log, health, stop, draining }
    }

    async fn append(&self, name: impl ToString) {
        self.log.append(one(name)).await.unwrap();
    }

    async fn drained(&self) {
        soon("the spool is drained", || self.log.waiting() == 0 && !self.log.is_spooling()).await;
    }

    fn state(&self) -> State {
        self.health.states()["spool"].clone()
    }

    async fn stop(self) {
        self.stop.stop();
        self.draining.await.unwrap();
    }
}

fn spool_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("segments")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn away() -> AppendError {
    AppendError::Unavailable("no broker answers".to_owned())
}

#[tokio::test]
async fn each_thread_appends_through_a_handle_of_its_own() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let spool = Running::start(&inner, settings(dir.path()));
    for (number, handle) in [spool.log.local(), spool.log.local()].iter().enumerate() {
        handle.append(one(number)).await.unwrap();
        handle.clone().append(one(number + 10)).await.unwrap();
    }
    assert_eq!(inner.handles_used(), [1, 2].into());
    spool.stop().await;
}

#[tokio::test]
async fn what_is_not_confirmed_is_acknowledged_and_arrives_in_order_when_the_log_is_back() {
    for mode in [Mode::Refuses(away()), Mode::Refuses(AppendError::Closed), Mode::Hangs] {
        let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
        let spool = Running::start(&inner, settings(dir.path()));
        assert_eq!(spool.log.append(one("direct")).await.unwrap().partition, place_behind());
        assert_eq!(spool.state(), State::Ok);
        inner.set(mode.clone());
        for n in 0..50 {
            let names: Vec<_> = (0..=n % 3).map(|m| format!("{n:02}-{m}")).collect();
            spool.log.append(batch(&names)).await.unwrap();
        }
        assert!(matches!(spool.state(), State::Degraded(_)), "{:?}", spool.state());
        assert!(spool.log.is_spooling() && spool.log.waiting() > 0);
        inner.set(Mode::Takes);
        spool.drained().await;
        assert_eq!(spool.state(), State::Ok);
        assert_eq!(spool.log.append(one("x")).await.unwrap().partition, place_behind());
        let (mut found, received) = lines(inner.log.reader(0).unwrap());
        assert_eq!(received, found.len() as u64, "{mode:?}: receipts count what came with them");
        assert_eq!((found.remove(0), found.pop()), ("direct".to_owned(), Some("x".to_owned())));
        assert_eq!(found.len(), 99, "{mode:?}: each once, since nothing was in doubt");
        assert!(found.is_sorted(), "{mode:?}: {found:?}");
        assert!(spool_bytes(dir.path()) <= 16 << 10, "drained files are deleted");
        spool.stop().await;
    }
}

#[tokio::test]
async fn what_timed_out_but_was_stored_comes_twice_and_is_not_lost() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let spool = Running::start(&inner, settings(dir.path()));
    inner.set(Mode::TakesSilently);
    spool.append("doubt").await;
    inner.set(Mode::Takes);
    spool.drained().await;
    let (found, _) = lines(inner.log.reader(0).unwrap());
    assert!(found.len() >= 2 && found.iter().all(|line| line == "doubt"), "{found:?}");
    spool.stop().await;
}

#[tokio::test]
async fn while_the_log_hangs_one_batch_asks_it_and_nobody_waits_for_it() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let mut slow = settings(dir.path());
    slow.confirm_timeout = Duration::from_millis(300);
    slow.drain_timeout = Duration::from_millis(300);
    let spool = Running::start(&inner, slow);
    inner.set(Mode::Hangs);
    spool.append("first").await;
    inner.most_at_once();
    let calls = inner.calls();
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let started = Instant::now();
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                let log = spool.log.clone();
                tokio::spawn(async move { log.append(one(format!("{round}-{n}"))).await.map(|_| ()) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < Duration::from_millis(250), "{slowest:?}: the spool alone was waited for");
    assert!(inner.most_at_once() <= 1, "the drain asks, one batch at a time");
    assert!(inner.calls() - calls <= 20, "{} calls for 200 requests", inner.calls() - calls);
    inner.set(Mode::Takes);
    spool.drained().await;
    assert_eq!(lines(inner.log.reader(0).unwrap()).0.len(), 201);
    spool.stop().await;
}

#[tokio::test]
async fn a_batch_that_no_log_takes_is_answered_and_not_spooled() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let mut narrow = settings(dir.path());
    narrow.record_bytes_max = Some(100);
    let spool = Running::start(&inner, narrow);
    inner.set(Mode::TakesUpTo(200));
    let large = || one("x".repeat(300));
    assert!(matches!(spool.log.append(large()).await, Err(AppendError::TooLarge { max: 200, .. })));
    assert!(!spool.log.is_spooling());
    inner.set(Mode::Refuses(away()));
    spool.append("small").await;
    assert!(matches!(spool.log.append(large()).await, Err(AppendError::TooLarge { max: 100, .. })));
    assert_eq!(spool.log.waiting(), 2, "a line and its receipt");
    spool.stop().await;
}

#[tokio::test]
async fn what_is_too_large_for_the_log_as_one_batch_is_drained_in_parts() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let spool = Running::start(&inner, settings(dir.path()));
    inner.set(Mode::Refuses(away()));
    let names: Vec<_> = (0..300).map(|n| format!("{n:03}")).collect();
    spool.log.append(batch(&names)).await.unwrap();
    inner.set(Mode::TakesUpTo(300));
    spool.drained().await;
    let (found, received) = lines(inner.log.reader(0).unwrap());
    assert_eq!((found, received), (names, 300));
    spool.stop().await;
}

#[tokio::test]
async fn a_record_that_the_log_never_takes_stops_the_drain_and_says_so() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let spool = Running::start(&inner, settings(dir.path()));
    inner.set(Mode::Refuses(away()));
    spool.append("x".repeat(500)).await;
    inner.set(Mode::TakesUpTo(300));
    soon("the drain is stuck", || {
        matches!(spool.state(), State::Degraded(reason) if reason.contains("does not drain") && reason.contains("300"))
    })
    .await;
    soon("new requests go to the log itself", || !spool.log.is_spooling()).await;
    spool.append("y").await;
    assert_eq!(lines(inner.log.reader(0).unwrap()).0, ["y"]);
    inner.set(Mode::Takes);
    spool.drained().await;
    soon("the state is good again", || spool.state() == State::Ok).await;
    spool.stop().await;
}

#[tokio::test]
async fn a_log_that_fails_is_tried_with_little_and_fed_more_as_it_confirms() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let mut large = settings(dir.path());
    large.drain_batch_bytes = 512 << 10;
    large.segment_bytes = 4 << 20;
    let spool = Running::start(&inner, large);
    inner.set(Mode::Refuses(away()));
    for n in 0..20 {
        let names: Vec<_> = (0..50).map(|m| format!("{n:02}-{m:02}{}", "x".repeat(1000))).collect();
        spool.log.append(batch(&names)).await.unwrap();
    }
    let calls = inner.calls();
    soon("the drain tried again", || inner.calls() > calls + 1).await;
    inner.largest();
    soon("the drain tried twice more", || inner.calls() > calls + 3).await;
    let tried = inner.largest();
    assert!((1..=66 << 10).contains(&tried), "{tried}");
    inner.set(Mode::Takes);
    spool.drained().await;
    let fed = inner.largest();
    assert!((200 << 10..=514 << 10).contains(&fed), "{fed}");
    let (found, received) = lines(inner.log.reader(0).unwrap());
    assert!(found.is_sorted());
    assert_eq!((found.len(), received), (1000, 1000));
    spool.stop().await;
}

#[tokio::test]
async fn an_import_waits_for_the_log_itself() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let spool = Running::start(&inner, settings(dir.path()));
    inner.set(Mode::Refuses(away()));
    spool.append("line").await;
    let mut import = one("imported");
    import.push(Topic::Positions, b"file", |_| {}).unwrap();
    assert_eq!(spool.log.append(import.clone()).await, Err(away()));
    assert_eq!(spool.log.waiting(), 2);
    inner.set(Mode::Takes);
    assert_eq!(spool.log.append(import).await.unwrap().partition, place_behind());
    spool.stop().await;
}

#[tokio::test]
async fn a_full_spool_refuses_and_takes_again_when_it_drains() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let mut small = settings(dir.path());
    small.bytes_max = 64 << 10;
    let spool = Running::start(&inner, small.clone());
    inner.set(Mode::Refuses(away()));
    let mut acknowledged = Vec::new();
    let refused = loop {
        let name = format!("{:04}{}", acknowledged.len(), "x".repeat(1000));
        match spool.log.append(one(&name)).await {
            Ok(_) => acknowledged.push(name),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::Full);
    assert!(acknowledged.len() > 40, "{}", acknowledged.len());
    assert!(spool_bytes(dir.path()) <= small.bytes_max);
    assert!(matches!(spool.state(), State::NotReady(reason) if reason.contains("bytes_max")));
    spool.stop().await;
    // Full or not, it opens again and keeps all.
    let spool = Running::start(&inner, small);
    assert!(spool.log.is_spooling());
    assert_eq!(spool.log.append(one("y".repeat(20_000))).await, Err(AppendError::Full));
    inner.set(Mode::Takes);
    spool.drained().await;
    assert_eq!(lines(inner.log.reader(0).unwrap()).0, acknowledged);
    inner.set(Mode::Refuses(away()));
    spool.append("again").await;
    spool.stop().await;
}

#[tokio::test]
async fn without_room_the_spool_asks_the_log_itself_whether_it_is_back() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let mut floor = settings(dir.path());
    floor.free_bytes_min = u64::MAX / 2;
    let spool = Running::start(&inner, floor);
    spool.append("direct").await;
    assert!(matches!(spool.state(), State::Degraded(reason) if reason.contains("free_bytes_min")));
    inner.set(Mode::Refuses(away()));
    assert_eq!(spool.log.append(one("lost")).await, Err(AppendError::Full));
    assert!(matches!(spool.state(), State::NotReady(reason) if reason.contains("free_bytes_min")));
    inner.most_at_once();
    for _ in 0..100 {
        assert_eq!(spool.log.append(one("lost")).await, Err(AppendError::Full));
    }
    assert!(inner.most_at_once() <= 1);
    // A batch that may have arrived is not called unstored.
    inner.set(Mode::Takes);
    spool.drained().await;
    inner.set(Mode::TakesSilently);
    assert!(matches!(spool.log.append(one("doubt")).await, Err(AppendError::InDoubt(_))));
    spool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steady_traffic_does_not_keep_the_spool_in_use() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let mut patient = settings(dir.path());
    patient.confirm_timeout = Duration::from_secs(2);
    patient.drain_timeout = Duration::from_secs(2);
    patient.drain_batch_bytes = 1 << 20;
    let spool = Running::start(&inner, patient);
    let (ended, mut tasks) = (Arc::new(AtomicBool::new(false)), Vec::new());
    inner.set(Mode::Refuses(away()));
    for task in 0..32 {
        let (log, ended) = (spool.log.clone(), Arc::clone(&ended));
        tasks.push(tokio::spawn(async move {
            let mut n = 0;
            while !ended.load(Ordering::Relaxed) {
                log.append(one(format!("{task}-{n}"))).await.unwrap();
                n += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            n
        }));
    }
    soon("much waits", || spool.log.waiting() > 2000).await;
    // While a batch is on its way, the next lines always come.
    inner.set(Mode::TakesAfter(Duration::from_millis(20)));
    soon("requests go to the log again", || !spool.log.is_spooling()).await;
    ended.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for task in tasks {
        sent += task.await.unwrap();
    }
    spool.drained().await;
    let (mut found, received) = lines(inner.log.reader(0).unwrap());
    assert_eq!(received, found.len() as u64);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), sent);
    spool.stop().await;
}

#[tokio::test]
async fn a_stop_drains_what_it_can_and_the_next_start_the_rest() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let spool = Running::start(&inner, settings(dir.path()));
    inner.set(Mode::Refuses(away()));
    for n in 0..20 {
        spool.append(format!("{n:02}")).await;
    }
    let started = Instant::now();
    spool.stop().await;
    assert!(started.elapsed() < Duration::from_millis(400), "a log that refuses is not waited for");
    let spool = Running::start(&inner, settings(dir.path()));
    assert!(spool.log.is_spooling() && spool.log.waiting() > 0);
    assert!(matches!(spool.state(), State::Degraded(_)));
    inner.set(Mode::Hangs);
    spool.append("20").await;
    let started = Instant::now();
    spool.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2), "nor is one that hangs, for long");
    inner.set(Mode::Takes);
    let spool = Running::start(&inner, settings(dir.path()));
    let log = spool.log.clone();
    spool.stop().await;
    assert_eq!(log.waiting(), 0, "the stop waited for the drain");
    let (found, _) = lines(inner.log.reader(0).unwrap());
    assert_eq!(found, (0..=20).map(|n| format!("{n:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_probe_is_answered_by_whoever_takes_lines_now() {
    let (dir, inner) = (tempfile::tempdir().unwrap(), memory());
    let spool = Running::start(&inner, settings(dir.path()));
    let probe = || {
        let mut probe = Batch::new();
        probe.push(Topic::Positions, b"", |_| {}).unwrap();
        probe
    };
    assert_eq!(spool.log.append(probe()).await.unwrap().partition, place_behind());
    inner.set(Mode::Refuses(away()));
    assert_ne!(spool.log.append(probe()).await.unwrap().partition, place_behind());
    inner.set(Mode::Takes);
    spool.drained().await;
    assert_eq!(lines(inner.log.reader(0).unwrap()), (vec![], 0));
    spool.stop().await;
}
