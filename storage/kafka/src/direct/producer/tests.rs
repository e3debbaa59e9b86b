//! What the producer makes of answers that a real broker gives seldom.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::client::LastError;
use crate::config::KafkaConfig;
use crate::topics::Topics;

/// What comes of a request with records.
#[derive(Clone, Copy)]
enum Fate {
    Code(i16),
    Silence,
    Close,
    /// An answer for a partition that was not asked for.
    Astray,
}
use Fate::{Astray, Close, Code as Says, Silence};

/// What a broker saw of a record batch: who stamped it, with which sequence.
type Seen = Arc<Mutex<Vec<(i64, i32)>>>;

/// A broker that leads one partition; each request with records takes the next fate, and
/// is confirmed after the last one.
async fn broker(fates: &[Fate]) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let fates = Arc::new(Mutex::new(fates.iter().copied().collect::<std::collections::VecDeque<_>>()));
    let (all, ids) = (Arc::clone(&seen), Arc::new(Mutex::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (fates, seen, ids) = (Arc::clone(&fates), Arc::clone(&all), Arc::clone(&ids));
            tokio::spawn(async move { serve(stream, port, &fates, &seen, &ids).await });
        }
    });
    (format!("127.0.0.1:{port}"), seen)
}

async fn serve(
    mut stream: TcpStream,
    port: u16,
    fates: &Mutex<std::collections::VecDeque<Fate>>,
    seen: &Seen,
    ids: &Mutex<i64>,
) -> Option<()> {
    loop {
        let len = stream.read_i32().await.ok()?;
        let mut request = vec![0; usize::try_from(len).ok()?];
        stream.read_exact(&mut request).await.ok()?;
        let mut answer = request[4..8].to_vec();
        match request[1] {
            18 => {
                answer.extend([0, 0, 0, 0, 0, 3]);
                let all = [[0_i16, 3, 9], [3, 0, 12], [22, 0, 4]];
                all.concat().iter().for_each(|number| answer.extend(number.to_be_bytes()));
            }
            3 => put_metadata(&mut answer, port),
            22 => {
                let mut id = ids.lock().unwrap();
                *id += 1;
                answer.extend([0; 6]);
                answer.extend(id.to_be_bytes());
                answer.extend([0, 0]);
            }
            _ => {
                let batch = &request[request.windows(2).position(|two| two == [0xff, 0xff]).unwrap()..];
                // Behind the batch's magic, which stands after the leader's epoch of -1.
                let magic =
                    batch.windows(5).position(|five| five == [0xff, 0xff, 0xff, 0xff, 2]).unwrap() + 4;
                let number = |at: usize, len: usize| {
                    batch[magic + at..magic + at + len]
                        .iter()
                        .fold(0_i64, |all, byte| all << 8 | i64::from(*byte))
                };
                seen.lock().unwrap().push((number(27, 8), i32::try_from(number(37, 4)).unwrap()));
                let fate = fates.lock().unwrap().pop_front().unwrap_or(Says(0));
                let (partition, code) = match fate {
                    Says(code) => (0_i32, code),
                    Astray => (5, 0),
                    Close => return None,
                    Silence => {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        return None;
                    }
                };
                answer.extend([0, 0, 0, 1, 0, 7]);
                answer.extend(b"beacons");
                answer.extend([0, 0, 0, 1]);
                answer.extend(partition.to_be_bytes());
                answer.extend(code.to_be_bytes());
                answer.extend([0; 7]);
                // Offset 42, two times, no errors of records, no text, no throttling.
                answer.push(42);
                answer.extend([0; 20]);
                answer.extend([0xff, 0xff, 0, 0, 0, 0]);
            }
        }
        stream.write_i32(i32::try_from(answer.len()).ok()?).await.ok()?;
        stream.write_all(&answer).await.ok()?;
    }
}

fn put_metadata(answer: &mut Vec<u8>, port: u16) {
    answer.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 9]);
    answer.extend(b"127.0.0.1");
    answer.extend(i32::from(port).to_be_bytes());
    // No rack, no cluster id, a controller, one topic without an error.
    answer.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7]);
    answer.extend(b"beacons");
    // Not internal; one partition without an error, number 0, led by broker 1, no copies.
    answer.extend([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    answer.extend([0; 8]);
}

async fn producer(fates: &[Fate]) -> (DirectProducer, Seen) {
    let (address, seen) = broker(fates).await;
    let config = KafkaConfig { brokers: vec![address], partitions: 1, ..KafkaConfig::default() };
    let settings = Settings::new(&config, &Topics::new(&config), LastError::default()).unwrap();
    (DirectProducer::new(&Arc::new(settings)), seen)
}

/// One batch of three records.
async fn append(producer: &mut DirectProducer) -> Result<u64, Unconfirmed> {
    producer.begin(0);
    let content = Content { key: Some(b"key"), value: Some(b"value"), kind: None };
    for _ in 0..3 {
        producer.push(Family::Beacons, 0, content);
    }
    producer.close();
    let sent = producer.send(Instant::now() + Duration::from_secs(1)).await;
    let (_, offset) = producer.appended(0);
    producer.clear();
    sent.map(|()| offset)
}

#[tokio::test]
async fn tries_repeat_the_same_sequence_until_one_is_confirmed() {
    for fate in [Says(6), Says(7), Says(19), Says(20), Says(3), Says(-1), Close, Astray] {
        let (mut producer, seen) = producer(&[fate, fate, Says(0), Says(0)]).await;
        assert_eq!(append(&mut producer).await.unwrap(), 42);
        assert_eq!(append(&mut producer).await.unwrap(), 42);
        assert_eq!(*seen.lock().unwrap(), [(1, 0), (1, 0), (1, 0), (1, 3)]);
    }
}

#[tokio::test]
async fn a_copy_that_the_broker_knows_is_confirmed() {
    let (mut producer, seen) = producer(&[Close, Says(46)]).await;
    append(&mut producer).await.unwrap();
    append(&mut producer).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [(1, 0), (1, 0), (1, 3)]);
}

#[tokio::test]
async fn after_any_failure_the_next_batch_has_another_producer_id() {
    for (fates, perhaps) in [
        (&[Says(45)][..], false),
        (&[Says(59)], false),
        (&[Says(47)], false),
        (&[Says(29)], false),
        (&[Says(10)], false),
        (&[Close, Says(45)], true),
        (&[Says(20), Says(29)], true),
        (&[Says(1234)], true),
        (&[Silence], true),
    ] {
        let (mut producer, seen) = producer(fates).await;
        let error = append(&mut producer).await.unwrap_err();
        assert_eq!(error.perhaps, perhaps, "{}", error.detail);
        assert_eq!(error.too_large, matches!(fates[0], Says(10)));
        append(&mut producer).await.unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.last(), Some(&(2, 0)), "{}", error.detail);
        assert_eq!(seen.len(), fates.len() + 1, "nothing was tried in vain");
    }
}

#[tokio::test]
async fn what_is_refused_for_lack_of_copies_all_the_time_is_surely_not_there() {
    let (mut producer, _) = producer(&[Says(19); 50]).await;
    let error = append(&mut producer).await.unwrap_err();
    assert!(!error.perhaps && error.detail.contains("NOT_ENOUGH_REPLICAS"), "{}", error.detail);
}

#[tokio::test]
async fn a_batch_that_is_given_up_takes_its_identity_along() {
    let (mut producer, seen) = producer(&[Says(0), Silence]).await;
    append(&mut producer).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(200), append(&mut producer)).await;
    assert!(given_up.is_err());
    producer.abandon();
    append(&mut producer).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [(1, 0), (1, 3), (2, 0)]);
}
