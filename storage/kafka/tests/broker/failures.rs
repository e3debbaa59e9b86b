//! Brokers that are away, and brokers that take a connection and never answer.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use fanal_kafka::{Kafka, KafkaError};
use fanal_model::HumanDuration;
use fanal_storage::log::{AppendError, Batch, Topic};

use crate::support::{beacons, config};

/// What `confirm_timeout` and `request_timeout` leave room for.
const BOUND: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_long_for_a_broker_that_is_away_or_silent() {
    // Takes connections into its backlog and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = free.local_addr().unwrap();
    drop(free);
    for address in [silent.local_addr().unwrap(), away] {
        let mut wanted = config("away");
        wanted.brokers = vec![address.to_string()];
        wanted.confirm_timeout = HumanDuration(Duration::from_secs(1));
        wanted.request_timeout = HumanDuration(Duration::from_secs(2));
        let started = Instant::now();
        let error = Kafka::connect(wanted.clone()).await.err().expect("there is no broker");
        assert!(matches!(error, KafkaError::Unreachable { .. }), "{error}");
        let kafka = Kafka::open(wanted).expect("clients need no broker");
        let error = kafka.log().append(beacons(&["site\0v"], "value")).await.unwrap_err();
        assert!(matches!(error, AppendError::InDoubt(_) | AppendError::Unavailable(_)), "{error}");
        let mut probe = Batch::new();
        probe.push(Topic::Positions, b"", |_| {}).unwrap();
        let error = kafka.log().append(probe).await.unwrap_err();
        assert!(matches!(error, AppendError::Unavailable(_)), "{error}");
        assert!(kafka.end_offset(kafka.partitions()[0]).await.is_err());
        assert!(kafka.last_error().is_some() || kafka.log().last_error().is_some());
        let took = started.elapsed();
        assert!(took < BOUND, "it took {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded_while_nothing_is_confirmed_and_empties_by_itself() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wanted = config("full");
    wanted.brokers = vec![silent.local_addr().unwrap().to_string()];
    wanted.confirm_timeout = HumanDuration(Duration::from_secs(2));
    wanted.record_bytes_max.0 = 1 << 20;
    wanted.batch_bytes_max.0 = 1 << 20;
    wanted.queue_bytes_max.0 = 1 << 20;
    let kafka = Kafka::open(wanted).unwrap();
    let value = "x".repeat(300_000);
    let appends: Vec<_> = (0..5)
        .map(|_| {
            let (log, batch) = (kafka.log(), beacons(&["site\0v"], &value));
            tokio::spawn(async move { log.append(batch).await })
        })
        .collect();
    let mut errors = Vec::new();
    for append in appends {
        errors.push(append.await.unwrap().unwrap_err());
    }
    let overloaded = errors.iter().filter(|e| matches!(e, AppendError::Overloaded)).count();
    assert_eq!(overloaded, 2, "three batches fit into 1 MiB: {errors:?}");
    // The records' time is over soon after their senders were answered.
    let until = Instant::now() + BOUND;
    while kafka.log().queued() != (0, 0) {
        assert!(Instant::now() < until, "{:?} still wait", kafka.log().queued());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
