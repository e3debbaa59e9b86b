//! Configuration of a test and what several tests do.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanal_kafka::{Kafka, KafkaConfig, KafkaReader};
use fanal_model::HumanDuration;
use fanal_storage::log::{Batch, EventSource, Family, Partition, Topic};
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;

/// No step of a test takes longer on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn broker() -> String {
    std::env::var("FANAL_STACK_KAFKA").expect(
        "FANAL_STACK_KAFKA is not set: run `make test`, or `scripts/stack.sh start kafka` and export what \
         `scripts/stack.sh env` prints",
    )
}

/// A configuration with names that no other test has.
pub(crate) fn config(name: &str) -> KafkaConfig {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let unique = format!("test-{name}-{since}-{}-{number}", std::process::id());
    KafkaConfig {
        brokers: vec![broker()],
        topic_prefix: unique.clone(),
        group: unique,
        partitions: 4,
        dead_partitions: 1,
        overflow_partitions: 2,
        replication: 1,
        min_insync_replicas: 1,
        // A busy machine confirms late.
        confirm_timeout: HumanDuration(Duration::from_secs(30)),
        session_timeout: HumanDuration(Duration::from_secs(6)),
        ..KafkaConfig::default()
    }
}

pub(crate) async fn connect(config: KafkaConfig) -> Kafka {
    Kafka::connect(config).await.expect("Kafka is ready")
}

pub(crate) fn client(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.brokers[0]);
    client
}

pub(crate) fn partition(family: Family, index: u32) -> Partition {
    Partition::new(family, index).unwrap()
}

pub(crate) fn beacons(keys: &[&str], value: &str) -> Batch {
    let mut batch = Batch::new();
    for key in keys {
        batch.push(Topic::Beacons, key.as_bytes(), |out| out.extend_from_slice(value.as_bytes())).unwrap();
    }
    batch
}

/// A record as a test compares it.
pub(crate) type Read = (u64, Topic, Vec<u8>, Vec<u8>);

/// Everything up to the end that the partition has now.
pub(crate) async fn read_all(kafka: &Kafka, partition: Partition) -> Vec<Read> {
    let from = kafka.start_offset(partition).await.unwrap();
    let mut reader = kafka.reader(partition, from).await.unwrap();
    let end = kafka.end_offset(partition).await.unwrap();
    read_to(&mut reader, end).await
}

pub(crate) async fn read_to(reader: &mut KafkaReader, end: u64) -> Vec<Read> {
    let mut records = Vec::new();
    while reader.position() < end {
        let next = tokio::time::timeout(PATIENCE, reader.next(1 << 20)).await;
        let chunk = next.expect("records come").expect("records can be read");
        for record in &chunk {
            assert!(record.append_time_ms > 1_600_000_000_000, "the broker stamps records");
            records.push((record.offset, record.topic, record.key.to_vec(), record.value.to_vec()));
        }
        assert_eq!(reader.position(), chunk.next_offset());
    }
    records
}

/// How often each key is in all partitions of a family; notes of overflow do not count.
pub(crate) async fn keys(kafka: &Kafka, family: Family) -> HashMap<Vec<u8>, usize> {
    let mut keys = HashMap::new();
    for partition in kafka.partitions_of(&[family]) {
        for (_, topic, key, _) in read_all(kafka, partition).await {
            if topic == Topic::Overflowed {
                continue;
            }
            *keys.entry(key).or_default() += 1;
        }
    }
    keys
}

/// Runs a test of this program as a process of its own, which a test can stop
/// or kill. The first line that it prints after `ready ` comes back.
pub(crate) fn child(test: &str, config: &KafkaConfig) -> Running {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("FANAL_TEST_CONFIG", serde_json::to_string(config).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Running(child)
}

/// `None` in a program that no test has started: then there is nothing to be a child of.
pub(crate) fn config_of_child() -> Option<KafkaConfig> {
    let json = std::env::var("FANAL_TEST_CONFIG").ok()?;
    Some(serde_json::from_str(&json).unwrap())
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success(), "{signal} was sent");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits for `done` and says what it waited for.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Deletes the topics of a test, so that a kept broker does not fill up.
pub(crate) async fn clean(kafka: &Kafka) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> = client(kafka.config()).create().unwrap();
    let prefix = &kafka.config().topic_prefix;
    let names = ["", ".dead", ".overflow", ".positions"].map(|suffix| format!("{prefix}{suffix}"));
    let names = names.each_ref().map(String::as_str);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in admin.delete_topics(&names, &options).await.unwrap() {
        assert!(
            !matches!(result, Err((_, code)) if code != RDKafkaErrorCode::UnknownTopicOrPartition),
            "{result:?}"
        );
    }
}
