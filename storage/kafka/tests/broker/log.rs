//! Appending and reading.

use std::collections::HashMap;
use std::time::Duration;

use fanal_kafka::{KIND_HEADER, VERSION_HEADER, partition_of};
use fanal_model::{ByteSize, DeadLetter};
use fanal_storage::log::{AppendError, Batch, EventSource, Family, ReadError, Topic};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, beacons, clean, client, config, connect, keys, partition, read_all, read_to};

#[tokio::test(flavor = "multi_thread")]
async fn records_are_read_back_from_the_partition_of_their_key() {
    let kafka = connect(config("read-back")).await;
    let log = kafka.log();
    let visitors: Vec<_> = (0..500).map(|n| format!("site\0visitor-{n}")).collect();
    let mut batch = beacons(&visitors.iter().map(String::as_str).collect::<Vec<_>>(), "value");
    batch.push(Topic::Dead, b"site", |out| out.extend_from_slice(b"bad")).unwrap();
    log.append(batch).await.unwrap();
    let mut seen = 0;
    for partition in kafka.partitions_of(&[Family::Beacons]) {
        for (at, (offset, topic, key, value)) in read_all(&kafka, partition).await.into_iter().enumerate() {
            assert_eq!((offset, topic, &*value), (at as u64, Topic::Beacons, &b"value"[..]));
            assert_eq!(partition_of(&key, 4), partition.index(), "{key:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, visitors.len());
    let dead = read_all(&kafka, partition(Family::Dead, 0)).await;
    assert_eq!(dead, [(0, Topic::Dead, b"site".to_vec(), b"bad".to_vec())]);
    assert_eq!(log.queued(), (0, 0), "nothing waits any more");
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_appends_at_once_are_all_confirmed_and_all_there_once() {
    let kafka = connect(config("many")).await;
    let tasks: Vec<_> = (0..200)
        .map(|task| {
            let log = kafka.log();
            tokio::spawn(async move {
                for n in 0..20 {
                    let key = format!("site\0{task}-{n}");
                    let appended = log.append(beacons(&[&key], "v")).await.unwrap();
                    assert_eq!(appended.partition.index(), partition_of(key.as_bytes(), 4));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_a_record_is_on_the_dead_letter_topic() {
    let kafka = connect(config("unaccounted")).await;
    let mut batch = beacons(&["site\0v"], "value");
    batch.receipt(60_000, "site", 3, 1, 0);
    kafka.log().append(batch).await.unwrap();
    let dead = read_all(&kafka, partition(Family::Dead, 0)).await;
    assert_eq!(dead.len(), 2);
    for (_, _, key, value) in &dead {
        let letter = DeadLetter::decode(value).unwrap();
        assert_eq!((letter.reason, letter.site_code, &**key), ("unaccounted", "site", &b"site"[..]));
    }
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_leaves_nothing_and_what_is_too_large_is_refused_whole() {
    let mut small = config("sizes");
    small.record_bytes_max = ByteSize(2048);
    small.batch_bytes_max = ByteSize(4096);
    small.queue_bytes_max = ByteSize(1 << 20);
    let kafka = connect(small).await;
    let mut probe = Batch::new();
    probe.push(Topic::Positions, b"", |_| {}).unwrap();
    kafka.log().append(probe).await.unwrap();
    let large = "x".repeat(3000);
    let error = kafka.log().append(beacons(&["site\0a", "site\0b"], &large)).await.unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { max: 2048, .. }), "{error}");
    let many = "x".repeat(1500);
    let error = kafka.log().append(beacons(&["a", "b", "c"], &many)).await.unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { max: 4096, .. }), "{error}");
    let mut position = Batch::new();
    position.push(Topic::Positions, &[7; 32], |out| out.extend_from_slice(b"{}")).unwrap();
    assert!(matches!(kafka.log().append(position).await, Err(AppendError::Io(_))));
    for partition in kafka.partitions() {
        assert_eq!(kafka.end_offset(partition).await.unwrap(), 0, "{partition}");
    }
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_ours_is_told_apart_and_never_skipped() {
    let kafka = connect(config("foreign")).await;
    let producer: FutureProducer = client(kafka.config()).create().unwrap();
    let header =
        |key, value: &'static [u8]| Some(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
    let records: [(Option<OwnedHeaders>, Option<&str>); 6] = [
        (None, Some("plain")),
        (header(VERSION_HEADER, b"1"), Some("of version 1")),
        (header(VERSION_HEADER, b"2"), Some("of version 2")),
        (header(KIND_HEADER, b"unheard of"), Some("of a kind")),
        (header("traceparent", b"00-1"), Some("with a header of somebody else")),
        (None, None),
    ];
    let topic = kafka.topic(Family::Beacons);
    for (headers, value) in &records {
        let mut record = FutureRecord::<[u8], str>::to(topic).partition(0).key(b"key");
        record.headers = headers.clone();
        record.payload = *value;
        producer.send(record, PATIENCE).await.unwrap();
    }
    assert_eq!(kafka.seal(partition(Family::Beacons, 0)).await.unwrap(), 7);
    let read = read_all(&kafka, partition(Family::Beacons, 0)).await;
    let topics: Vec<_> = read.iter().map(|(_, topic, ..)| *topic).collect();
    use Topic::{Beacons, Foreign, Seal};
    assert_eq!(topics, [Beacons, Beacons, Foreign, Foreign, Beacons, Foreign, Seal]);
    assert_eq!(read[2].3, b"of version 2", "its bytes are kept");
    assert_eq!((&*read[6].2, &*read[6].3), (&b""[..], &b""[..]));
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_where_it_is_told_and_waits_at_the_end() {
    let kafka = connect(config("reader")).await;
    let place = partition(Family::Dead, 0);
    let append = |text: &'static str| {
        let log = kafka.log();
        async move {
            let mut batch = Batch::new();
            batch.push(Topic::Dead, b"site", |out| out.extend_from_slice(text.as_bytes())).unwrap();
            log.append(batch).await.unwrap()
        }
    };
    for text in ["zero", "one", "two"] {
        append(text).await;
    }
    let mut reader = kafka.reader(place, 1).await.unwrap();
    assert!(!reader.is_at_end());
    let read = read_to(&mut reader, 3).await;
    assert_eq!(read.iter().map(|r| (r.0, &*r.3)).collect::<Vec<_>>(), [(1, &b"one"[..]), (2, &b"two"[..])]);
    // Waiting is given up many times, as in a select, and nothing is lost by it.
    for _ in 0..50 {
        let waited = tokio::time::timeout(Duration::from_millis(20), reader.next(1 << 20)).await;
        assert!(waited.is_err(), "there is nothing to read");
    }
    assert!(reader.is_at_end());
    assert!(reader.try_next(1 << 20).unwrap().is_none());
    let appended = append("three").await;
    assert_eq!((appended.partition, appended.base_offset), (place, 3));
    assert_eq!(read_to(&mut reader, 4).await[0].3, b"three");
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_bound_gives_the_records_in_pieces_without_a_gap() {
    let mut small = config("pieces");
    small.prefetch_bytes = ByteSize(64 << 10);
    let kafka = connect(small).await;
    let value = "x".repeat(1000);
    for _ in 0..5 {
        kafka.log().append(beacons(&["site\0one"; 200], &value)).await.unwrap();
    }
    let place = partition(Family::Beacons, partition_of(b"site\0one", 4));
    let mut reader = kafka.reader(place, 0).await.unwrap();
    let (mut next, mut chunks) = (0, 0);
    while next < 1000 {
        let chunk = tokio::time::timeout(PATIENCE, reader.next(10_000)).await.unwrap().unwrap();
        assert!(chunk.byte_len() < 12_000, "a chunk of {} bytes", chunk.byte_len());
        for record in &chunk {
            assert_eq!(record.offset, next);
            next += 1;
        }
        chunks += 1;
    }
    assert!(chunks >= 90, "{chunks} chunks");
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_deleted_is_an_error_that_says_where_the_log_begins() {
    let kafka = connect(config("deleted")).await;
    let place = partition(Family::Beacons, partition_of(b"site\0one", 4));
    kafka.log().append(beacons(&["site\0one"; 20], "value")).await.unwrap();
    let mut reader = kafka.reader(place, 20).await.unwrap();
    let admin: AdminClient<DefaultClientContext> = client(kafka.config()).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(kafka.topic(Family::Beacons), place.index() as i32, Offset::Offset(15))
        .unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    assert_eq!(kafka.start_offset(place).await.unwrap(), 15);
    let refused = |result: Result<_, ReadError>| result.err().expect("there is nothing at this offset");
    let error = refused(kafka.reader(place, 3).await);
    assert!(matches!(error, ReadError::Deleted { wanted: 3, start: 15 }), "{error}");
    let error = refused(kafka.reader(place, 21).await);
    assert!(matches!(error, ReadError::BeyondEnd { wanted: 21, end: 20 }), "{error}");
    // A reader that stands at the end is not touched by what goes before it.
    kafka.log().append(beacons(&["site\0one"], "later")).await.unwrap();
    assert_eq!(read_to(&mut reader, 21).await[0].3, b"later");
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_sends_too_much_goes_to_the_overflow_topic() {
    let mut hot = config("hot");
    hot.hot_key_records_per_second = 100;
    let kafka = connect(hot).await;
    let log = kafka.log();
    for round in 0..50 {
        let mut all = vec!["site\0hot"; 40];
        let other = format!("site\0calm-{round}");
        all.push(&other);
        log.append(beacons(&all, "value")).await.unwrap();
    }
    let (own, overflow) = (keys(&kafka, Family::Beacons).await, keys(&kafka, Family::Overflow).await);
    let count = |keys: &HashMap<Vec<u8>, usize>| keys.get(&b"site\0hot"[..]).copied().unwrap_or(0);
    assert_eq!(count(&own) + count(&overflow), 2000, "every record is somewhere");
    assert!(count(&overflow) > 1000, "{} went to the overflow topic", count(&overflow));
    assert_eq!(overflow.len(), 1, "calm keys stay where they belong");
    assert_eq!(own.len(), 51);
    let mut notes = 0;
    for partition in kafka.partitions_of(&[Family::Beacons]) {
        let read = read_all(&kafka, partition).await;
        let noted = read.iter().filter(|(_, topic, ..)| *topic == Topic::Overflowed);
        for (_, _, key, value) in noted {
            assert_eq!(key, b"site\0hot", "the key's own partition is told");
            assert!(std::str::from_utf8(value).unwrap().parse::<u64>().is_ok());
            notes += 1;
        }
    }
    assert!(notes > 0, "and it is told at once");
    let mut used = 0;
    for partition in kafka.partitions_of(&[Family::Overflow]) {
        used += u32::from(kafka.end_offset(partition).await.unwrap() > 0);
    }
    assert_eq!(used, 2, "overflow is spread");
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_partition_of_a_key_is_told_that_lines_of_it_stand_elsewhere() {
    let kafka = connect(config("elsewhere")).await;
    let notes: Vec<_> = (0..1200_u64).map(|n| (format!("site\0visitor-{n}").into_bytes(), n)).collect();
    kafka.note_elsewhere(&notes).await.unwrap();
    let mut found = Vec::new();
    for partition in kafka.partitions_of(&[Family::Beacons]) {
        for (_, topic, key, value) in read_all(&kafka, partition).await {
            assert_eq!((topic, partition_of(&key, 4)), (Topic::Overflowed, partition.index()));
            found.push((key, String::from_utf8(value).unwrap().parse().unwrap()));
        }
    }
    found.sort_by_key(|(_, at_ms)| *at_ms);
    assert_eq!(found, notes);
    clean(&kafka).await;
}
