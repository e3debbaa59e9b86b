//! Imports: records and position together, or neither.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use fanal_kafka::{ImportAppendError, Kafka};
use fanal_storage::log::{Batch, Family, Partition, Topic};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{beacons, child, clean, client, config, config_of_child, connect, partition, read_all};

const HEAD: [u8; 32] = [0xab; 32];

fn position(prefix: &str, extends: Option<&str>) -> Vec<u8> {
    let extends = extends.map_or("null".to_owned(), |extends| format!("\"{extends}\""));
    format!(r#"{{"offset":1,"prefix":"{prefix}","extends":{extends}}}"#).into_bytes()
}

/// A batch with some records and the position after them.
fn batch(value: &str, position: &[u8]) -> Batch {
    batch_of(&HEAD, value, position)
}

fn batch_of(head: &[u8; 32], value: &str, position: &[u8]) -> Batch {
    let keys: Vec<_> = (0..40).map(|n| format!("site\0{n}")).collect();
    let mut batch = beacons(&keys.iter().map(String::as_str).collect::<Vec<_>>(), value);
    batch.push(Topic::Dead, b"site", |out| out.extend_from_slice(value.as_bytes())).unwrap();
    batch.push(Topic::Positions, head, |out| out.extend_from_slice(position)).unwrap();
    batch
}

async fn values(kafka: &Kafka) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for partition in kafka.partitions() {
        values.extend(read_all(kafka, partition).await.into_iter().map(|(.., value)| value));
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_positions_are_there_together_and_a_position_replaces_what_it_extends() {
    let kafka = connect(config("import")).await;
    assert!(kafka.import_positions(&HEAD).await.unwrap().is_empty());
    let log = kafka.import_log(&HEAD).await.unwrap();
    log.append(batch("one", &position("aa", None))).await.unwrap();
    assert_eq!(kafka.import_positions(&HEAD).await.unwrap(), [position("aa", None)]);
    // Another content that begins alike, and one that goes on from the first.
    log.append(batch("two", &position("bb", None))).await.unwrap();
    log.append(batch("three", &position("cc", Some("aa")))).await.unwrap();
    assert_eq!(
        kafka.import_positions(&HEAD).await.unwrap(),
        [position("bb", None), position("cc", Some("aa"))]
    );
    assert!(kafka.import_positions(&[1; 32]).await.unwrap().is_empty(), "another file has none");
    // `read_all` ends although marks of the transactions stand at the partitions' ends.
    let values = values(&kafka).await;
    assert_eq!(values.len(), 3 * 41);
    for partition in kafka.partitions_of(&[Family::Beacons]) {
        let records = read_all(&kafka, partition).await.len() as u64;
        assert!(kafka.end_offset(partition).await.unwrap() > records, "there are marks");
    }
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_import_of_the_same_file_ends_the_first() {
    let kafka = connect(config("fence")).await;
    let first = kafka.import_log(&HEAD).await.unwrap();
    first.append(batch("one", &position("aa", None))).await.unwrap();
    let other_file = kafka.import_log(&[1; 32]).await.unwrap();
    let second = kafka.import_log(&HEAD).await.unwrap();
    let error = first.append(batch("two", &position("bb", Some("aa")))).await.unwrap_err();
    assert_eq!(error, ImportAppendError::Fenced);
    assert_eq!(first.append(batch("two", &position("bb", Some("aa")))).await, Err(ImportAppendError::Fenced));
    second.append(batch("three", &position("cc", Some("aa")))).await.unwrap();
    other_file.append(beacons(&["site\0other"], "four")).await.unwrap();
    assert_eq!(kafka.import_positions(&HEAD).await.unwrap(), [position("cc", Some("aa"))]);
    let values = values(&kafka).await;
    assert!(!values.contains(&b"two".to_vec()));
    assert_eq!(values.len(), 2 * 41 + 1);
    clean(&kafka).await;
}

/// The child of `an_import_that_dies_before_its_commit_leaves_nothing`.
#[test]
fn dying_import() {
    let Some(config) = config_of_child() else { return };
    let head: String = HEAD.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{}.import.{head}", config.group);
    let mut client = client(&config);
    // Not longer than that of an import, for those who wait until the brokers give it up.
    client.set("transactional.id", id).set("transaction.timeout.ms", "10000");
    let producer: BaseProducer = client.create().unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    producer.begin_transaction().unwrap();
    for n in 0..40 {
        let key = format!("site\0{n}");
        producer.send(BaseRecord::to(&config.topic_prefix).key(&key).payload("never")).unwrap();
    }
    let positions = format!("{}.positions", config.topic_prefix);
    let key = [&HEAD[..], b"zz"].concat();
    producer.send(BaseRecord::to(&positions).key(&key).payload(&position("zz", None))).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    println!("\nready");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_dies_before_its_commit_leaves_nothing() {
    let config = config("dies");
    let kafka = connect(config.clone()).await;
    let mut import = child("import::dying_import", &config);
    let mut output = BufReader::new(import.0.stdout.take().unwrap()).lines();
    while output.next().expect("the child goes on").unwrap() != "ready" {}
    import.signal("-KILL");
    let ends = |kafka: &Kafka| {
        let kafka = kafka.clone();
        async move {
            let mut ends = 0;
            for partition in kafka.partitions() {
                ends += kafka.end_offset(partition).await.unwrap();
            }
            ends
        }
    };
    assert_eq!(ends(&kafka).await, 40, "the records had arrived");
    let log = kafka.import_log(&HEAD).await.unwrap();
    assert!(kafka.import_positions(&HEAD).await.unwrap().is_empty());
    assert!(values(&kafka).await.is_empty());
    log.append(batch("again", &position("aa", None))).await.unwrap();
    let values = values(&kafka).await;
    assert_eq!(values.len(), 41);
    assert!(values.iter().all(|value| value == b"again"));
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_behind_the_open_transaction_of_a_killed_import_is_not_missed() {
    const OTHER: [u8; 32] = [8; 32];
    let config = config("behind");
    let kafka = connect(config.clone()).await;
    let mut import = child("import::dying_import", &config);
    let mut output = BufReader::new(import.0.stdout.take().unwrap()).lines();
    while output.next().expect("the child goes on").unwrap() != "ready" {}
    import.signal("-KILL");
    let log = kafka.import_log(&OTHER).await.unwrap();
    log.append(batch_of(&OTHER, "other", &position("aa", None))).await.unwrap();
    drop(log);
    assert_eq!(kafka.import_positions(&OTHER).await.unwrap(), [position("aa", None)]);
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_read_stores_nothing() {
    let kafka = connect(config("position")).await;
    let log = kafka.import_log(&HEAD).await.unwrap();
    let error = log.append(batch("one", b"no json")).await.unwrap_err();
    assert!(matches!(error, ImportAppendError::Position(_)), "{error}");
    log.append(batch("two", &position("aa", None))).await.unwrap();
    assert_eq!(values(&kafka).await.len(), 41);
    let place: Partition = partition(Family::Dead, 0);
    assert_eq!(read_all(&kafka, place).await[0].3, b"two");
    clean(&kafka).await;
}
