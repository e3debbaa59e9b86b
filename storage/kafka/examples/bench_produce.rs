//! What a record costs on its way to Kafka: CPU time of this process (user and system,
//! all threads) per record, with records of 600 bytes and batches one after the other.
//!
//! `bench_produce HOST:PORT COMPRESSION RECORDS_PER_BATCH SECONDS [LINGER_MS]` makes topics
//! of its own and leaves them. COMPRESSION is `lz4`, `zstd` or `none`.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for people at a terminal")]

use std::time::{Duration, Instant};

use fanal_kafka::{Kafka, KafkaConfig};
use fanal_model::HumanDuration;
use fanal_storage::log::{Batch, EventLog, Topic};

const VALUE_BYTES: usize = 570;
const VISITORS: u64 = 50_000;
/// Batches made beforehand and sent again and again, so that making them is not measured.
const BATCHES: usize = 64;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&std::env::args().skip(1).collect::<Vec<_>>()));
}

async fn run(arguments: &[String]) {
    let [broker, compression, records, seconds, rest @ ..] = arguments else {
        println!("usage: bench_produce HOST:PORT COMPRESSION RECORDS_PER_BATCH SECONDS [LINGER_MS]");
        return;
    };
    let records: usize = records.parse().expect("records of a batch");
    let seconds: f64 = seconds.parse().expect("seconds");
    let linger: u64 = rest.first().map_or(0, |ms| ms.parse().expect("milliseconds"));
    let config = KafkaConfig {
        brokers: vec![broker.clone()],
        topic_prefix: format!("bench-{}", std::process::id()),
        compression: serde_json::from_value(compression.as_str().into()).expect("lz4, zstd or none"),
        partitions: 12,
        replication: 1,
        min_insync_replicas: 1,
        linger: HumanDuration(Duration::from_millis(linger)),
        confirm_timeout: HumanDuration(Duration::from_secs(30)),
        ..KafkaConfig::default()
    };
    let kafka = Kafka::connect(config).await.expect("Kafka is ready");
    let log = kafka.log().local();
    let batches: Vec<Batch> = (0..BATCHES).map(|n| batch(n, records)).collect();
    for batch in batches.iter().take(8) {
        log.append(batch.clone()).await.expect("confirmed");
    }
    let (cpu, started, mut sent, mut slowest) = (cpu_seconds(), Instant::now(), 0_usize, Duration::ZERO);
    let until = Duration::from_secs_f64(seconds);
    for batch in batches.iter().cycle() {
        let at = Instant::now();
        log.append(batch.clone()).await.expect("confirmed");
        slowest = slowest.max(at.elapsed());
        sent += records;
        if started.elapsed() >= until {
            break;
        }
    }
    let (cpu, wall) = (cpu_seconds() - cpu, started.elapsed().as_secs_f64());
    println!(
        "{compression} batch={records} linger={linger}ms: {:.3} CPU us/record, {:.0} records/s, {:.2} ms/batch, slowest {:.1} ms",
        cpu * 1e6 / sent as f64,
        sent as f64 / wall,
        wall * 1e3 * records as f64 / sent as f64,
        slowest.as_secs_f64() * 1e3,
    );
}

/// Records as a collector has them: a query string of a few words and many numbers.
fn batch(number: usize, records: usize) -> Batch {
    let mut batch = Batch::new();
    let mut state = number as u64 * 7_919 + 1;
    for _ in 0..records {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("site000001\0visitor{:013}", state % VISITORS);
        let write = |out: &mut Vec<u8>| {
            let from = out.len();
            let mut word = state;
            while out.len() < from + VALUE_BYTES {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let text =
                    format!("&eventType=page&nonce={word:016X}&href=https%3A%2F%2Fwww.example.com%2Fp");
                out.extend_from_slice(text.as_bytes());
            }
            out.truncate(from + VALUE_BYTES);
        };
        batch.push(Topic::Beacons, key.as_bytes(), write).expect("a record fits");
    }
    batch
}

/// User and system time of this process, from the kernel's account in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields = stat.rsplit_once(')').expect("a name in brackets").1;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|f| f.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}
