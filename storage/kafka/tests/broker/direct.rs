//! The producer under bad conditions: brokers that die, are silent or send nonsense, appends
//! that are given up half way, several handles at once.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use fanal_kafka::{Compression, Kafka, KafkaConfig, KafkaLog};
use fanal_model::{ByteSize, HumanDuration};
use fanal_storage::log::{AppendError, Batch, EventLog, Family, Topic};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::own_broker::{OwnBroker, free_port};
use crate::proxy::cutting_proxy;
use crate::support::{beacons, clean, client, config, connect, keys, partition, read_all};

fn numbered(from: u32, count: u32) -> Batch {
    let mut batch = Batch::new();
    for n in from..from + count {
        let key = format!("site\0{n}");
        batch.push(Topic::Beacons, key.as_bytes(), |out| out.extend_from_slice(b"value")).unwrap();
    }
    batch
}

/// The keys are there once each; others may be there.
async fn assert_once(kafka: &Kafka, confirmed: impl Iterator<Item = u32>) {
    let keys = keys(kafka, Family::Beacons).await;
    for n in confirmed {
        let key = format!("site\0{n}");
        assert_eq!(keys.get(key.as_bytes()), Some(&1), "key {n}");
    }
}

#[tokio::test]
async fn every_compression_and_shape_is_read_back_by_librdkafka() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut wanted = config("shapes");
        wanted.compression = compression;
        let kafka = connect(wanted).await;
        let mut expected = HashMap::new();
        let mut batch = Batch::new();
        for n in 0..300_u32 {
            let key = format!("site\0{}", "k".repeat(n as usize % 50) + &n.to_string());
            let mut state = n;
            let value: Vec<u8> = (0..n * 7 % 4000)
                .map(|at| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Half of the values are noise that nothing compresses.
                    if n % 2 == 0 { (state >> 24) as u8 } else { (at % 7) as u8 }
                })
                .collect();
            batch.push(Topic::Beacons, key.as_bytes(), |out| out.extend_from_slice(&value)).unwrap();
            expected.insert(key.into_bytes(), value);
        }
        // Longer than one block of the frame.
        batch.push(Topic::Beacons, b"site\0long", |out| out.resize(out.len() + 500_000, b'x')).unwrap();
        expected.insert(b"site\0long".to_vec(), vec![b'x'; 500_000]);
        kafka.log().append(batch).await.unwrap();
        for partition in kafka.partitions_of(&[Family::Beacons]) {
            for (_, _, key, value) in read_all(&kafka, partition).await {
                assert_eq!(expected.remove(&key), Some(value), "{compression:?}");
            }
        }
        assert!(expected.is_empty(), "{compression:?}: {} records are missing", expected.len());
        clean(&kafka).await;
    }
}

#[tokio::test]
async fn more_than_a_record_batch_holds_goes_in_order_in_several() {
    let mut small = config("split");
    small.partitions = 1;
    small.record_bytes_max = ByteSize(16 << 10);
    let kafka = connect(small).await;
    // The topic takes 80 KiB at once; this is 3 MB for one partition.
    let value = "x".repeat(10_000);
    let names: Vec<String> = (0..300).map(|n| format!("site\0{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for round in 0..2 {
        let appended = kafka.log().append(beacons(&names, &value)).await.unwrap();
        assert_eq!(appended.base_offset, round * 300);
    }
    let read = read_all(&kafka, partition(Family::Beacons, 0)).await;
    let read: Vec<_> = read.iter().map(|(_, _, key, _)| std::str::from_utf8(key).unwrap()).collect();
    assert_eq!(read, [names.clone(), names].concat());
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_local_handles_append_at_once_and_share_nothing_that_matters() {
    let kafka = connect(config("local")).await;
    let tasks: Vec<_> = (0..2)
        .map(|task| {
            let log = kafka.log().local();
            tokio::spawn(async move {
                for n in 0..100 {
                    log.append(numbered(task * 100_000 + n * 20, 20)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let keys = keys(&kafka, Family::Beacons).await;
    assert_eq!(keys.len(), 4000);
    assert!(keys.values().all(|count| *count == 1));
    clean(&kafka).await;
}

/// What `future` brings if it is there after so many polls; then it is dropped.
async fn within<T>(mut polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if polls > 0
            && let Poll::Ready(done) = future.as_mut().poll(cx)
        {
            return Poll::Ready(Some(done));
        }
        polls = polls.saturating_sub(1);
        if polls == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn appends_that_are_given_up_half_way_harm_no_later_one() {
    let kafka = connect(config("dropped")).await;
    let log = kafka.log();
    let (mut confirmed, mut given_up) = (Vec::new(), 0);
    for round in 0..200_u32 {
        let batch = numbered(round * 50, 50);
        // From at once to more than an append with a new id takes.
        match within(round % 25, log.append(batch)).await {
            Some(appended) => {
                appended.unwrap();
                confirmed.push(round);
            }
            None => given_up += 1,
        }
        if round % 3 == 0 {
            log.append(numbered(1_000_000 + round * 50, 50)).await.unwrap();
            confirmed.push(20_000 + round);
        }
        assert_eq!(log.queued(), (0, 0), "nothing is kept of what was given up");
    }
    assert!(given_up > 20 && given_up < 180, "{given_up} were given up");
    assert_once(&kafka, confirmed.iter().flat_map(|round| round * 50..round * 50 + 50)).await;
    clean(&kafka).await;
}

/// Appends batches of ten until `stop`; returns the numbers of those that were confirmed.
async fn stream(log: KafkaLog, first: u32, stop: Arc<AtomicBool>) -> (Vec<u32>, usize) {
    let (mut confirmed, mut failed, mut at) = (Vec::new(), 0, first);
    while !stop.load(Ordering::Acquire) {
        match log.append(numbered(at, 10)).await {
            Ok(_) => confirmed.extend(at..at + 10),
            Err(AppendError::InDoubt(_) | AppendError::Unavailable(_)) => failed += 1,
            Err(error) => panic!("{error}"),
        }
        at += 10;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (confirmed, failed)
}

fn own_config(name: &str, port: u16) -> KafkaConfig {
    KafkaConfig { brokers: vec![format!("127.0.0.1:{port}")], ..config(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_around_a_killed_broker_is_there_once() {
    let port = free_port();
    let mut own = tokio::task::spawn_blocking(move || OwnBroker::plain(port, port)).await.unwrap();
    own = start(own).await;
    let mut patience = own_config("killed", port);
    patience.confirm_timeout = HumanDuration(Duration::from_secs(110));
    let patient = connect(patience).await;
    let mut hasty = patient.config().clone();
    hasty.confirm_timeout = HumanDuration(Duration::from_secs(1));
    let hasty = Kafka::open(hasty).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let streams = [(patient.log(), 0), (patient.log().local(), 1_000_000), (hasty.log(), 2_000_000)];
    let streams = streams.map(|(log, first)| tokio::spawn(stream(log, first, Arc::clone(&stop))));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        own.kill();
        own = start(own).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Release);
    let mut confirmed = Vec::new();
    for (at, stream) in streams.into_iter().enumerate() {
        let (those, failed) = stream.await.unwrap();
        assert!(those.len() > 100, "stream {at} confirmed {}", those.len());
        assert!(at == 2 || failed == 0, "stream {at} had patience, and {failed} appends failed");
        confirmed.extend(those);
    }
    assert_once(&patient, confirmed.into_iter()).await;
}

async fn start(mut own: OwnBroker) -> OwnBroker {
    tokio::task::spawn_blocking(move || {
        own.start();
        own
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_stores_nothing_twice_and_fails_nothing() {
    let (port, proxy) = (free_port(), free_port());
    let own = tokio::task::spawn_blocking(move || OwnBroker::plain(port, proxy)).await.unwrap();
    let _own = start(own).await;
    let cuts = cutting_proxy(proxy, port);
    let kafka = connect(own_config("lost", proxy)).await;
    cuts.begin(7);
    let log = kafka.log();
    for n in 0..150 {
        log.append(numbered(n * 10, 10)).await.unwrap();
    }
    assert!(cuts.end() > 20, "many answers were lost");
    let keys = keys(&kafka, Family::Beacons).await;
    assert_eq!(keys.len(), 1500);
    assert!(keys.values().all(|count| *count == 1));
}

/// Sets the longest record batch that the topic of beacons takes.
async fn set_largest(kafka: &Kafka, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> = client(kafka.config()).create().unwrap();
    let topic = ResourceSpecifier::Topic(kafka.topic(Family::Beacons));
    let change = AlterConfig::new(topic).set("max.message.bytes", bytes);
    admin.alter_configs(&[change], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

#[tokio::test]
async fn what_a_topic_refuses_for_its_size_is_not_there_and_appends_go_on() {
    let mut plain = config("refused");
    plain.compression = Compression::None;
    let kafka = connect(plain).await;
    let (log, large) = (kafka.log(), "x".repeat(5000));
    set_largest(&kafka, "3000").await;
    // The setting takes a moment.
    let mut refused = None;
    for n in 0..500 {
        let key = format!("site\0large-{n}");
        if let Err(error) = log.append(beacons(&[&key], &large)).await {
            refused = Some((key, error));
            break;
        }
    }
    let (key, error) = refused.expect("5000 bytes are too many");
    assert!(matches!(&error, AppendError::TooLarge { .. }), "{error}");
    assert!(log.last_error().is_some());
    log.append(numbered(0, 10)).await.unwrap();
    assert!(log.last_error().is_none());
    let keys = keys(&kafka, Family::Beacons).await;
    assert!(!keys.contains_key(key.as_bytes()), "what was refused is not there");
    assert_eq!(keys.get(&b"site\x000"[..]), Some(&1));
    clean(&kafka).await;
}
