use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use fanal_model::Receipt;

#[tokio::test]
async fn what_was_appended_is_read_in_order_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 200, ..LogConfig::default() };
    let log = Log::open(dir.path(), config.clone()).unwrap();
    for n in 0..20_u64 {
        let at = log.appender().append(batch(&[&format!("{n}a"), &format!("{n}b")])).await.unwrap();
        assert_eq!(at.base_offset, n * 2);
    }
    drop(log);
    let log = Log::open(dir.path(), config).unwrap();
    assert_eq!(log.end_offset(), 40);
    for from in 0..40 {
        let name = |o: u64| format!("{}{}", o / 2, if o.is_multiple_of(2) { "a" } else { "b" });
        let wanted: Vec<_> = (from..40).map(|o| (o, Topic::Beacons, name(o))).collect();
        assert_eq!(read_from(&log, from).unwrap(), wanted);
    }
}

#[tokio::test]
async fn append_times_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let ticks = Arc::new(AtomicU64::new(1000));
    let source = Arc::clone(&ticks);
    let clock: Clock = Arc::new(move || source.fetch_sub(10, Ordering::SeqCst));
    let log = Log::open(dir.path(), LogConfig { clock, ..LogConfig::default() }).unwrap();
    for _ in 0..5 {
        log.appender().append(batch(&["x"])).await.unwrap();
    }
    let chunk = log.reader(0).unwrap().try_next(1 << 20).unwrap().unwrap();
    assert!(chunk.records().all(|r| r.append_time_ms == 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_batches_are_whole_and_their_receipts_add_up() {
    const TASKS: u64 = 16;
    const ROUNDS: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig { segment_bytes: 4096, ..LogConfig::default() }).unwrap();
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let appender = log.appender();
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let name = format!("{task}-{round}");
                let mut batch = batch(&[&name, &name, &name]);
                batch.receipt(60_000, "site", 3, 3, 0);
                appender.append(batch).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (mut names, mut received, mut commits) = (Vec::new(), 0, 0);
    let mut reader = log.reader(0).unwrap();
    while let Some(chunk) = reader.try_next(1).unwrap() {
        commits += 1;
        for record in chunk.records() {
            match record.topic {
                Topic::Receipts => received += Receipt::decode(record.value).unwrap().received,
                _ => names.push(String::from_utf8(record.value.to_vec()).unwrap()),
            }
        }
    }
    assert_eq!(received, TASKS * ROUNDS * 3);
    assert_eq!(names.len() as u64, TASKS * ROUNDS * 3);
    assert!(names.chunks(3).all(|three| three[0] == three[1] && three[1] == three[2]));
    assert!(commits < TASKS * ROUNDS, "no commit ever held two batches");
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_an_append_and_by_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    let mut reader = log.reader(0).unwrap();
    let waiting = tokio::spawn(async move {
        let first = reader.next(1000).await.unwrap();
        (first.first_offset(), first.next_offset(), reader.next(1000).await)
    });
    tokio::task::yield_now().await;
    log.appender().append(batch(&["a", "b"])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    log.close();
    let (first, next, end) = waiting.await.unwrap();
    assert_eq!((first, next), (0, 2));
    assert!(matches!(end, Err(ReadError::Closed)));
    assert_eq!(log.appender().append(batch(&["c"])).await, Err(AppendError::Closed));
}

#[tokio::test]
async fn a_batch_larger_than_a_commit_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig { commit_bytes_max: 100, ..LogConfig::default() }).unwrap();
    let refused = log.appender().append(batch(&[&"x".repeat(200)])).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { max: 100, .. })));
    assert_eq!(log.end_offset(), 0);
}

#[tokio::test]
async fn retention_waits_for_age_and_for_every_consumer() {
    let dir = tempfile::tempdir().unwrap();
    let ticks = Arc::new(AtomicU64::new(0));
    let source = Arc::clone(&ticks);
    let clock: Clock = Arc::new(move || source.fetch_add(1000, Ordering::SeqCst));
    let config = LogConfig { clock, segment_bytes: 1, retention: Duration::from_secs(10), ..small() };
    let log = Log::open(dir.path(), config.clone()).unwrap();
    for _ in 0..20 {
        log.appender().append(batch(&["x"])).await.unwrap();
    }
    log.positions().commit("fast", 20).unwrap();
    log.positions().commit("slow", 5).unwrap();
    assert_eq!(log.lag("slow"), 15);
    assert_eq!(log.retain(9_000).unwrap().start_offset, 0, "nothing is old enough");
    let retained = log.retain(13_500).unwrap();
    assert_eq!((retained.start_offset, retained.deleted_segments), (3, 3), "older than 3500 ms only");
    assert_eq!(log.retain(1_000_000).unwrap().start_offset, 5, "the slow consumer still needs the rest");
    let mut reader = log.reader(5).unwrap();
    assert!(matches!(log.reader(4), Err(ReadError::Deleted { wanted: 4, start: 5 })));
    log.positions().remove("slow").unwrap();
    assert_eq!(log.retain(1_000_000).unwrap().start_offset, 19, "the segment being written stays");
    let gone = loop {
        match reader.try_next(1) {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(gone.is_err() || reader.position() == 20, "a gap is an error, never a skip: {gone:?}");
    drop((reader, log));
    let log = Log::open(dir.path(), config).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (19, 20));
    assert_eq!(log.positions().get("fast"), Some(20));
}

#[tokio::test]
async fn a_position_lies_within_the_log_and_under_a_plain_name() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    assert!(matches!(log.positions().commit("a", 1), Err(PositionError::BeyondEnd { wanted: 1, end: 0 })));
    for name in ["", "../x", "A", "a.tmp", &"x".repeat(65)] {
        assert!(matches!(log.positions().commit(name, 0), Err(PositionError::Name(_))), "{name}");
    }
    assert_eq!(log.positions().register("etl", 0).unwrap(), 0);
}
