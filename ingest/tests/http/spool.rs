//! The collector with its spool, as senders and operators see it.

use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanal_ingest::spool::{SpoolConfig, SpoolSettings, Spooled};
use fanal_ingest::{AddressKey, Ingest, Settings};
use fanal_service::health::Health;
use fanal_service::http::{HttpLimits, Listener, ServeError, bind};
use fanal_service::metrics::Metrics;
use fanal_service::operations::Operations;
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::log::{AppendError, Appended, Batch, Clock, EventLog, MemoryLog};
use tokio::task::JoinHandle;

use crate::collector::{Answer, LINE, NOW_MS, ask, code, logged, post, sites};

/// A log that accepts batches and never answers, while it `hangs`.
#[derive(Clone)]
struct Hanging {
    log: MemoryLog,
    hangs: Arc<AtomicBool>,
}

impl EventLog for Hanging {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        match self.hangs.load(Ordering::SeqCst) {
            true => pending().await,
            false => self.log.append_now(&batch),
        }
    }
}

fn settings(dir: &Path) -> SpoolSettings {
    SpoolSettings {
        bytes_max: 128 << 10,
        segment_bytes: 16 << 10,
        free_bytes_min: 0,
        confirm_timeout: Duration::from_millis(100),
        drain_timeout: Duration::from_millis(200),
        pause_max: Duration::from_millis(50),
        ..SpoolConfig::default().resolve(dir).unwrap()
    }
}

/// A collector before a log that hangs, with health and metrics on its own port.
struct Node {
    at: SocketAddr,
    log: Hanging,
    stop: Stop,
    draining: JoinHandle<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

fn start(dir: &Path) -> Node {
    let log = Hanging { log: MemoryLog::new(Arc::new(|| NOW_MS)), hangs: Arc::new(AtomicBool::new(true)) };
    let (health, stop) = (Health::new(), Stop::new());
    let metrics = Metrics::install().unwrap();
    fanal_ingest::describe();
    let clock: Clock = Arc::new(|| NOW_MS);
    let (spooled, drain) =
        Spooled::open(log.clone(), settings(dir), Arc::clone(&clock), health.clone()).unwrap();
    let draining = tokio::spawn(drain.run(stop.clone()));
    let key = AddressKey::of(&Secret::new("test"));
    let ingest = Ingest::new(spooled, sites(), Settings::default(), key, clock, health.clone());
    let listener = Listener::clear(bind("127.0.0.1:0".parse().unwrap(), "test").unwrap());
    let at = listener.local_addr().unwrap();
    let operations = Operations { health, metrics };
    let serving =
        fanal_ingest::run(Arc::new(ingest), operations, vec![listener], HttpLimits::default(), stop.clone());
    Node { at, log, stop, draining, serving: tokio::spawn(serving) }
}

impl Node {
    async fn send(&self) -> Answer {
        post(self.at, "siteCode=shop", &[], format!("{LINE}&name={}", "x".repeat(2000))).await
    }

    /// Asks until the answer is as wished, for five seconds; returns the last one.
    async fn ask_until(&self, path: &str, wish: impl Fn(&str) -> bool) -> String {
        let mut answer = ask(self.at, path).await;
        for _ in 0..100 {
            if wish(&answer) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = ask(self.at, path).await;
        }
        answer
    }
}

#[tokio::test]
async fn beacons_are_answered_204_until_the_spool_is_full_and_then_503_with_retry_after() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (mut acknowledged, started) = (0, Instant::now());
    let refused = loop {
        let answer = node.send().await;
        if answer.0 != 204 {
            break answer;
        }
        acknowledged += 1;
        if acknowledged == 10 {
            let ready = ask(node.at, "/health/ready").await;
            assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
            assert!(ready.contains("\"spool\":\"degraded\"") && ready.contains("no confirmation"), "{ready}");
        }
        assert!(acknowledged < 200, "128 KiB cannot hold that much");
    };
    assert!(acknowledged > 30 && started.elapsed() < Duration::from_secs(5), "{acknowledged}");
    assert_eq!((refused.0.as_u16(), &refused.1["retry-after"]), (503, &"30".parse().unwrap()));
    assert_eq!(code(&refused), "event_log_full");
    let ready = ask(node.at, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("bytes_max"), "{ready}");
    let text = ask(node.at, "/metrics").await;
    for line in [
        "# HELP ingest_spool_state ",
        "ingest_spool_state 2\n",
        "ingest_spool_refused_batches_total{reason=\"bytes_max\"} ",
        "ingest_spool_records_waiting ",
        "ingest_spool_oldest_seconds ",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }

    node.log.hangs.store(false, Ordering::SeqCst);
    let ready = node.ask_until("/health/ready", |ready| ready.contains("\"spool\":\"ok\"")).await;
    assert!(ready.contains("\"spool\":\"ok\""), "{ready}");
    assert_eq!(node.send().await.0, 204, "takes again when the log is back");
    let ready = node.ask_until("/health/ready", |ready| ready.starts_with("HTTP/1.1 200")).await;
    assert!(ready.starts_with("HTTP/1.1 200") && !ready.contains("reasons"), "{ready}");
    node.stop.stop();
    node.draining.await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), node.serving).await.unwrap().unwrap().unwrap();
    let found = logged(&mut node.log.log.reader(0).unwrap());
    assert!(found.beacons.len() > acknowledged, "{} of {acknowledged}", found.beacons.len());
    let received: u64 = found.receipts.iter().map(|receipt| receipt.1).sum();
    assert_eq!(received, found.beacons.len() as u64);
}
