//! The lane over a log that answers when the test says so.

use std::time::Duration;

use fanal_storage::log::{Appended, Partition, Topic};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::*;

type Asked = (Batch, oneshot::Sender<Result<Appended, AppendError>>);

/// Hands each append to the test.
#[derive(Clone)]
struct Held(UnboundedSender<Asked>);

impl EventLog for Held {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let (done, answer) = oneshot::channel();
        self.0.send((batch, done)).map_err(|_| AppendError::Closed)?;
        answer.await.unwrap_or(Err(AppendError::Closed))
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Result<(), AppendError>>>);

impl Observer for Heard {
    type Pending = ();

    fn leaves(&self, _: &Batch, _: u64) {}

    fn appended(&self, (): (), queued: Instant, sent: Instant, result: &Result<(), AppendError>) {
        assert!(queued <= sent);
        self.0.lock().unwrap().push(result.clone());
    }
}

type TestLane = Lane<Held, Heard>;

fn lane(bytes_max: usize) -> (TestLane, UnboundedReceiver<Asked>, Arc<Heard>) {
    let (sender, asked) = unbounded_channel();
    let heard = Arc::new(Heard::default());
    (Lane::new(Held(sender), Arc::clone(&heard), bytes_max), asked, heard)
}

fn appended() -> Result<Appended, AppendError> {
    Ok(Appended { partition: Partition::EMBEDDED, base_offset: 0 })
}

/// One request of one line with a value of `bytes`.
fn write(lane: &TestLane, name: &str, bytes: usize) -> Result<Ticket, AppendError> {
    let value = name.to_owned() + &" ".repeat(bytes.saturating_sub(name.len()));
    let written = lane.write(|batch| {
        batch.push(Topic::Beacons, b"key", |out| out.extend_from_slice(value.as_bytes())).unwrap();
        let counts = Counts { received: 1, accepted: 1, rejected: 0 };
        Ok::<_, AppendError>(((), Written { site_code: "site", minute_ms: 0, counts }))
    });
    written.map(|((), ticket)| ticket)
}

fn names(batch: &Batch) -> Vec<String> {
    batch.records().map(|(_, _, value)| String::from_utf8_lossy(value).trim().to_owned()).collect()
}

async fn next(asked: &mut UnboundedReceiver<Asked>) -> Asked {
    tokio::time::timeout(Duration::from_secs(5), asked.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_comes_while_a_batch_is_on_its_way_leaves_together_after_it() {
    let (lane, mut asked, heard) = lane(1 << 20);
    let first = write(&lane, "1", 1).unwrap();
    let (batch, done) = next(&mut asked).await;
    assert_eq!(names(&batch), ["1"]);
    let rest: Vec<_> = ["2", "3", "4"].iter().map(|name| write(&lane, name, 1).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(asked.try_recv().is_err(), "one batch at a time");
    done.send(appended()).unwrap();
    assert_eq!(first.await, Ok(()));
    let (batch, done) = next(&mut asked).await;
    assert_eq!(names(&batch), ["2", "3", "4"]);
    let receipts: Vec<_> = batch.receipts().iter().map(|r| (&*r.site, r.received)).collect();
    assert_eq!(receipts, [("site", 3)], "one receipt for the requests of a site");
    done.send(appended()).unwrap();
    for ticket in rest {
        assert_eq!(ticket.await, Ok(()));
    }
    assert_eq!(*heard.0.lock().unwrap(), [Ok(()), Ok(())]);
}

#[tokio::test]
async fn a_batch_that_fails_fails_its_own_requests_alone() {
    let (lane, mut asked, _) = lane(1 << 20);
    let first = write(&lane, "1", 1).unwrap();
    let (_, done) = next(&mut asked).await;
    let second = write(&lane, "2", 1).unwrap();
    done.send(Err(AppendError::Full)).unwrap();
    assert_eq!(first.await, Err(AppendError::Full));
    next(&mut asked).await.1.send(appended()).unwrap();
    assert_eq!(second.await, Ok(()));
}

#[tokio::test]
async fn a_request_that_is_refused_leaves_nothing_behind() {
    let (lane, mut asked, _) = lane(1 << 20);
    let refused = lane.write(|batch| {
        batch.push(Topic::Beacons, b"key", |out| out.push(1)).unwrap();
        Err::<((), Written<'_>), _>(AppendError::TooLarge { bytes: 1, max: 0 })
    });
    assert!(refused.is_err());
    let ticket = write(&lane, "kept", 4).unwrap();
    let (batch, done) = next(&mut asked).await;
    assert_eq!(names(&batch), ["kept"]);
    done.send(appended()).unwrap();
    ticket.await.unwrap();
}

#[tokio::test]
async fn a_large_request_does_not_share_and_a_full_batch_is_closed() {
    let (lane, mut asked, _) = lane(64 << 20);
    let _held = write(&lane, "held", 4).unwrap();
    let (_, done) = next(&mut asked).await;
    let _small = write(&lane, "small", 5).unwrap();
    let _large = write(&lane, "large", SHARED_BYTES_MAX + 1).unwrap();
    let _beside = write(&lane, "beside", 6).unwrap();
    // With the large one, four of these reach the size at which a batch is closed.
    for n in 0..5 {
        let _ticket = write(&lane, &format!("fills-{n}"), SHARED_BYTES_MAX - 100).unwrap();
    }
    done.send(appended()).unwrap();
    let mut batches = Vec::new();
    for _ in 0..3 {
        let (batch, done) = next(&mut asked).await;
        batches.push(names(&batch));
        assert_eq!(batch.receipts()[0].received, u64::from(batch.record_count()));
        done.send(appended()).unwrap();
    }
    assert_eq!(batches[0], ["small"]);
    assert_eq!(batches[1], ["large", "beside", "fills-0", "fills-1", "fills-2", "fills-3"]);
    assert_eq!(batches[2], ["fills-4"]);
}

#[tokio::test]
async fn a_lane_that_is_full_refuses_at_once_and_takes_again() {
    let (lane, mut asked, _) = lane(1000);
    let first = write(&lane, "1", 900).unwrap();
    let (_, done) = next(&mut asked).await;
    let second = write(&lane, "2", 900).unwrap();
    assert!(matches!(write(&lane, "3", 1), Err(AppendError::Overloaded)));
    done.send(appended()).unwrap();
    first.await.unwrap();
    next(&mut asked).await.1.send(appended()).unwrap();
    second.await.unwrap();
    let third = write(&lane, "3", 1).unwrap();
    next(&mut asked).await.1.send(appended()).unwrap();
    third.await.unwrap();
}

#[test]
fn those_who_wait_learn_that_their_runtime_ended_and_the_next_one_is_served() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lane, mut asked, _) = lane(1 << 20);
    let first = runtime();
    let (sent, waiting) = first.block_on(async {
        let sent = write(&lane, "1", 1).unwrap();
        let _asked = next(&mut asked).await;
        (sent, write(&lane, "2", 1).unwrap())
    });
    drop(first);
    runtime().block_on(async {
        assert!(matches!(sent.await, Err(AppendError::InDoubt(_))));
        assert_eq!(waiting.await, Err(AppendError::Closed));
        let ticket = write(&lane, "3", 1).unwrap();
        let (batch, done) = next(&mut asked).await;
        assert_eq!(names(&batch), ["3"]);
        done.send(appended()).unwrap();
        assert_eq!(ticket.await, Ok(()));
    });
}

#[tokio::test]
async fn thousands_of_requests_are_each_in_exactly_one_batch() {
    let (lane, mut asked, _) = lane(64 << 20);
    let answering = tokio::spawn(async move {
        let mut found = Vec::new();
        while let Some((batch, done)) = asked.recv().await {
            tokio::time::sleep(Duration::from_micros(300)).await;
            found.extend(names(&batch));
            done.send(appended()).unwrap();
        }
        found
    });
    let lane = Arc::new(lane);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..50 {
        let lane = Arc::clone(&lane);
        tasks.spawn(async move {
            for n in 0..100 {
                write(&lane, &format!("{task}-{n}"), 1000).unwrap().await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    drop(lane);
    let mut found = answering.await.unwrap();
    found.sort();
    let mut expected: Vec<_> = (0..50).flat_map(|t| (0..100).map(move |n| format!("{t}-{n}"))).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_request_without_a_line_does_not_wait_for_somebody_who_sends_one() {
    let (lane, mut asked, _) = lane(1 << 20);
    let counts = Counts { received: 0, accepted: 0, rejected: 0 };
    let nothing = Written { site_code: "site", minute_ms: 0, counts };
    let ((), ticket) = lane.write(|_| Ok::<_, AppendError>(((), nothing))).unwrap();
    ticket.await.unwrap();
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn a_panic_in_one_request_leaves_nothing_of_it_among_the_others() {
    let (lane, mut asked, _) = lane(1 << 20);
    let first = write(&lane, "first", 10).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        lane.write(|batch| -> Result<((), Written<'static>), AppendError> {
            batch.push(Topic::Beacons, b"key", |out| out.extend_from_slice(b"whole")).unwrap();
            batch.push(Topic::Beacons, b"key", |_| panic!("asked for")).unwrap();
            unreachable!()
        })
    }));
    assert!(panicked.is_err());
    let second = write(&lane, "second", 10).unwrap();
    let (batch, done) = next(&mut asked).await;
    let values: Vec<_> = batch.records().map(|(_, _, value)| value.trim_ascii().to_vec()).collect();
    assert_eq!(values, [b"first".to_vec(), b"second".to_vec()]);
    done.send(appended()).unwrap();
    first.await.unwrap();
    second.await.unwrap();
}
