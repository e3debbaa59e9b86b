use super::super::*;
use std::sync::atomic::{AtomicU64, Ordering};

fn batch(values: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for value in values {
        batch.push(Topic::Beacons, b"site\0v", |v| v.extend_from_slice(value.as_bytes())).unwrap();
    }
    batch
}

fn values(chunk: &Chunk) -> Vec<(u64, String)> {
    chunk.records().map(|r| (r.offset, String::from_utf8_lossy(r.value).into_owned())).collect()
}

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
        let mut reader = log.reader(from).unwrap();
        let mut seen = Vec::new();
        while let Some(chunk) = reader.try_next(100).unwrap() {
            seen.extend(values(&chunk));
        }
        let wanted: Vec<_> =
            (from..40).map(|o| (o, format!("{}{}", o / 2, if o % 2 == 0 { "a" } else { "b" }))).collect();
        assert_eq!(seen, wanted);
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
