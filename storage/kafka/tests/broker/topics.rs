//! Making and checking topics.

use fanal_kafka::{Difference, Kafka, KafkaError, Stage};
use fanal_model::HumanDuration;
use fanal_storage::log::{AppendError, Family};

use crate::support::{beacons, clean, config, connect};

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_as_configured_and_differences_are_named() {
    let wanted = config("topics");
    let kafka = connect(wanted.clone()).await;
    assert_eq!(kafka.topics_differ().await.unwrap(), []);
    assert_eq!(kafka.partitions().len(), 7);
    let mut other = wanted.clone();
    other.retention = HumanDuration(std::time::Duration::from_secs(2 * 86_400));
    let again = connect(other).await;
    let differences = again.topics_differ().await.unwrap();
    let expected = |topic: &str| Difference {
        topic: topic.to_owned(),
        what: "retention.ms".to_owned(),
        found: "604800000".to_owned(),
        wanted: "172800000".to_owned(),
    };
    let topics =
        [Family::Beacons, Family::Dead, Family::Overflow].map(|family| expected(again.topic(family)));
    assert_eq!(differences, topics);
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_refused() {
    let wanted = config("count");
    let kafka = connect(wanted.clone()).await;
    let mut other = wanted;
    other.partitions = 5;
    let error = Kafka::connect(other).await.err().expect("four partitions are not five");
    assert!(matches!(error, KafkaError::PartitionCount { found: 4, wanted: 5, .. }), "{error}");
    assert!(error.to_string().contains("write 4"), "{error}");
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_another_number_of_partitions_is_written_and_read_by_nobody() {
    let wanted = config("stays");
    let kafka = connect(wanted.clone()).await;
    let mut other = wanted;
    other.partitions = 5;
    other.confirm_timeout = HumanDuration(std::time::Duration::from_secs(1));
    let other = Kafka::open(other).unwrap();
    let refused = other.log().append(beacons(&["site\0visitor"], "x")).await;
    assert!(
        matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("has 4 partitions, configured are 5")),
        "{refused:?}"
    );
    let joined = other.join(Stage::Visits, &[Family::Beacons]).await;
    assert!(matches!(joined, Err(KafkaError::PartitionCount { found: 4, wanted: 5, .. })));
    for partition in kafka.partitions() {
        assert_eq!(kafka.end_offset(partition).await.unwrap(), 0);
    }
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_copies_than_brokers_are_refused_with_the_key() {
    let mut wanted = config("copies");
    wanted.replication = 5;
    let error = Kafka::connect(wanted).await.err().expect("there are no five brokers").to_string();
    assert!(error.contains("event_log.kafka.replication = 5"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_make_the_topics_at_once() {
    let wanted = config("together");
    let made: Vec<_> = (0..4).map(|_| tokio::spawn(Kafka::connect(wanted.clone()))).collect();
    for kafka in made {
        kafka.await.unwrap().unwrap();
    }
    clean(&connect(wanted).await).await;
}
