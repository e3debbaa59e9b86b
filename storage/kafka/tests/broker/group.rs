//! Groups: partitions move between members, and commits are fences.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanal_kafka::{Change, CommitError, Kafka, Membership, Stage};
use fanal_model::HumanDuration;
use fanal_storage::log::{Family, Partition};
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, beacons, child, clean, config, config_of_child, connect, partition, until};

const FAMILIES: [Family; 3] = [Family::Beacons, Family::Dead, Family::Overflow];

/// Who works on which partition, over all members of a test.
type Owners = Arc<Mutex<HashMap<Partition, usize>>>;

/// A member that notes what it works on and takes a while to let go.
struct Worker {
    membership: Membership,
    task: JoinHandle<()>,
}

async fn worker(kafka: &Kafka, owners: &Owners, number: usize) -> Worker {
    let membership = kafka.join(Stage::Archive, &FAMILIES).await.unwrap();
    let (changes, owners) = (membership.clone(), Arc::clone(owners));
    let task = tokio::spawn(async move {
        while let Some(change) = changes.next_change().await {
            match change {
                Change::Assigned(partitions) => {
                    let mut owners = owners.lock().unwrap();
                    for partition in partitions {
                        let before = owners.insert(partition, number);
                        assert_eq!(before, None, "partition {partition} was given to {number} as well");
                    }
                }
                Change::Revoked { partitions, released } => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    for partition in &partitions {
                        changes.commit(*partition, 7).await.expect("a commit while letting go");
                        owners.lock().unwrap().remove(partition);
                    }
                    drop(released);
                }
                Change::Lost(partitions) => panic!("{number} lost {partitions:?}"),
            }
        }
    });
    Worker { membership, task }
}

impl Worker {
    async fn leave(self, owners: &Owners, number: usize) {
        self.task.abort();
        self.task.await.ok();
        owners.lock().unwrap().retain(|_, owner| *owner != number);
        self.membership.leave().await;
    }
}

fn shares(owners: &Owners) -> Vec<usize> {
    let mut shares: HashMap<usize, usize> = HashMap::new();
    for owner in owners.lock().unwrap().values() {
        *shares.entry(*owner).or_default() += 1;
    }
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_unstable();
    shares
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_from_two_members_to_three_to_one_and_never_have_two_owners() {
    let kafka = connect(config("group")).await;
    let owners = Owners::default();
    let first = worker(&kafka, &owners, 1).await;
    until("all seven partitions have an owner", || shares(&owners) == [7]).await;
    assert!(first.membership.is_member());
    let second = worker(&kafka, &owners, 2).await;
    until("two members share the partitions", || shares(&owners) == [3, 4]).await;
    let third = worker(&kafka, &owners, 3).await;
    until("three members share the partitions", || shares(&owners) == [2, 2, 3]).await;
    assert_eq!(
        first.membership.partitions().len()
            + second.membership.partitions().len()
            + third.membership.partitions().len(),
        7
    );
    first.leave(&owners, 1).await;
    third.leave(&owners, 3).await;
    until("one member has all partitions", || shares(&owners) == [7]).await;
    for partition in kafka.partitions() {
        second.membership.commit(partition, 9).await.unwrap();
    }
    assert!(!second.task.is_finished(), "no member saw a partition twice");
    let committed = kafka.committed(Stage::Archive, &kafka.partitions()).await.unwrap();
    assert_eq!(committed, [Some(9); 7]);
    second.leave(&owners, 2).await;
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_let_go_is_not_waited_for_forever() {
    let mut short = config("stubborn");
    short.release_timeout = HumanDuration(Duration::from_secs(2));
    let kafka = connect(short).await;
    let stubborn = kafka.join(Stage::Visits, &[Family::Beacons]).await.unwrap();
    let Some(Change::Assigned(partitions)) = stubborn.next_change().await else { panic!("no assignment") };
    assert_eq!(partitions.len(), 4);
    let other = kafka.join(Stage::Visits, &[Family::Beacons]).await.unwrap();
    let revoked = tokio::time::timeout(PATIENCE, stubborn.next_change()).await.unwrap();
    let Some(Change::Revoked { partitions, released }) = revoked else { panic!("{revoked:?}") };
    let moved = tokio::time::timeout(PATIENCE, other.next_change()).await.unwrap();
    let Some(Change::Assigned(mut assigned)) = moved else { panic!("{moved:?}") };
    assigned.sort();
    let mut expected = partitions.clone();
    expected.sort();
    assert_eq!(assigned, expected);
    for partition in partitions {
        assert_eq!(stubborn.commit(partition, 1).await, Err(CommitError::Fenced(partition)));
        other.commit(partition, 2).await.unwrap();
    }
    drop(released);
    stubborn.leave().await;
    other.leave().await;
    clean(&kafka).await;
}

/// The child of `a_paused_member_cannot_commit_what_moved_meanwhile`.
#[tokio::test(flavor = "multi_thread")]
async fn paused_member() {
    let Some(config) = config_of_child() else { return };
    let kafka = Kafka::connect(config).await.unwrap();
    let membership = kafka.join(Stage::Visits, &[Family::Beacons]).await.unwrap();
    let Some(Change::Assigned(partitions)) = membership.next_change().await else { panic!() };
    for partition in &partitions {
        membership.commit(*partition, 1).await.unwrap();
    }
    println!("\nready");
    std::io::stdout().flush().unwrap();
    // Stopped and continued by the parent, which then writes a line.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for partition in partitions {
        println!("commit {:?}", membership.commit(partition, 100).await);
    }
    println!("end");
    std::io::stdout().flush().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_member_cannot_commit_what_moved_meanwhile() {
    let config = config("zombie");
    let kafka = connect(config.clone()).await;
    let mut paused = child("group::paused_member", &config);
    let mut output = BufReader::new(paused.0.stdout.take().unwrap()).lines();
    let mut line = move || output.next().expect("the child goes on").unwrap();
    while line() != "ready" {}
    paused.signal("-STOP");
    let other = kafka.join(Stage::Visits, &[Family::Beacons]).await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < 4 {
        match tokio::time::timeout(PATIENCE, other.next_change()).await.unwrap().unwrap() {
            Change::Assigned(partitions) => taken.extend(partitions),
            change => panic!("{change:?}"),
        }
    }
    for partition in &taken {
        other.commit(*partition, 2).await.unwrap();
    }
    paused.signal("-CONT");
    paused.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut answers = Vec::new();
    loop {
        match line() {
            text if text == "end" => break,
            text if text.starts_with("commit") => answers.push(text),
            _ => {}
        }
    }
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|answer| answer.contains("Fenced")), "{answers:?}");
    let committed = kafka.committed(Stage::Visits, &taken).await.unwrap();
    assert_eq!(committed, [Some(2); 4], "the paused member changed nothing");
    other.leave().await;
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_gives_partitions_to_others_without_waiting_for_the_session() {
    let mut long = config("leave");
    long.session_timeout = HumanDuration(Duration::from_secs(30));
    let kafka = connect(long).await;
    let first = kafka.join(Stage::Archive, &[Family::Dead]).await.unwrap();
    let Some(Change::Assigned(_)) = first.next_change().await else { panic!() };
    let second = kafka.join(Stage::Archive, &[Family::Dead]).await.unwrap();
    let left = Instant::now();
    first.leave().await;
    let change = tokio::time::timeout(PATIENCE, second.next_change()).await.unwrap();
    assert!(matches!(change, Some(Change::Assigned(ref p)) if p.len() == 1), "{change:?}");
    assert!(left.elapsed() < Duration::from_secs(20), "it took {:?}", left.elapsed());
    second.leave().await;
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_and_lag_can_be_asked_from_any_process() {
    let config = config("lag");
    let kafka = connect(config.clone()).await;
    let place = partition(Family::Beacons, 1);
    let partitions = kafka.partitions();
    assert_eq!(kafka.committed(Stage::Ledger, &partitions).await.unwrap(), [None; 7]);
    let mut total = 0;
    for n in 0..20 {
        let appended = kafka.log().append(beacons(&[&format!("site\0{n}")], "value")).await.unwrap();
        total += u64::from(appended.partition == place);
    }
    assert_eq!(kafka.lag(Stage::Ledger, &[place]).await.unwrap(), [(place, total)]);
    kafka.commit_marker(Stage::Ledger, place, total).await.unwrap();
    let other = connect(config).await;
    assert_eq!(other.committed(Stage::Ledger, &[place]).await.unwrap(), [Some(total)]);
    assert_eq!(other.lag(Stage::Ledger, &[place]).await.unwrap(), [(place, 0)]);
    let lags = other.lag(Stage::Archive, &partitions).await.unwrap();
    assert_eq!(lags.iter().map(|(_, lag)| lag).sum::<u64>(), 20);
    // A stage with members takes offsets from its members alone.
    let member = kafka.join(Stage::Ledger, &[Family::Beacons]).await.unwrap();
    let Some(Change::Assigned(_)) = member.next_change().await else { panic!() };
    assert!(other.commit_marker(Stage::Ledger, place, 1).await.is_err());
    member.leave().await;
    clean(&kafka).await;
}
