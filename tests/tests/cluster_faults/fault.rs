//! The faults: how each begins and how it is over. Nobody else's hand is in it.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use fanal_tests::{Fault as Wire, eventually};

use crate::installation::{Installation, READY_LIMIT, SERVERS, SETTLE_LIMIT, USUAL_WORKERS};
use crate::seed::Random;

/// A service manager starts again what has ended.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Longer than the session timeout: others have the partitions by then.
const AWAY: Duration = Duration::from_secs(8);
const DOWN: Duration = Duration::from_secs(5);
/// How often the third worker comes and goes.
const COMINGS: u32 = 3;
const STAY_MAX: Duration = Duration::from_millis(1500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Collector,
    /// By number from 0, back after this time.
    Worker(usize, Duration),
    Server(&'static str),
    /// One of the two.
    DataNode,
    Paused(&'static str),
    Broker(Wire),
    ComingAndGoing,
    Scale,
    Zombie,
    Everything,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

const fn fault(name: &'static str, kind: Kind) -> Fault {
    Fault { name, kind }
}

/// A wave begins together; the waves of a group follow each other; a group of the short
/// form is verified as a whole. The long form verifies after each fault.
pub(crate) const GROUPS: &[&[&[Fault]]] = &[
    &[
        &[fault("a_killed_collector_loses_nothing_that_it_acknowledged", Kind::Collector)],
        &[
            fault(
                "a_killed_worker_that_is_back_before_it_is_missed_repeats_nothing",
                Kind::Worker(0, RESTART_AFTER),
            ),
            fault("a_killed_catalogue_is_not_missed", Kind::Server("mariadb")),
        ],
    ],
    &[
        &[
            fault("a_killed_broker_is_bridged_by_the_spool", Kind::Server("kafka")),
            fault("a_killed_data_node_is_written_around", Kind::DataNode),
        ],
        &[fault(
            "a_broker_that_delays_is_bridged_by_the_spool",
            Kind::Broker(Wire::Delay(Duration::from_secs(3))),
        )],
    ],
    &[
        &[
            fault("a_killed_name_node_stops_the_archive_until_it_is_back", Kind::Server("namenode")),
            fault("a_killed_profile_store_stops_the_workers_until_it_is_back", Kind::Server("cassandra")),
        ],
        &[fault("partitions_that_come_and_go_in_the_middle_of_a_batch_are_done_once", Kind::ComingAndGoing)],
    ],
    &[
        &[
            fault("a_killed_clickhouse_stops_the_workers_until_it_is_back", Kind::Server("clickhouse")),
            fault("a_killed_worker_is_replaced_by_the_others", Kind::Worker(1, AWAY)),
        ],
        &[fault("a_broker_that_cuts_is_bridged_by_the_spool", Kind::Broker(Wire::Cut))],
        &[fault(
            "a_broker_that_accepts_and_never_answers_is_bridged_by_the_spool",
            Kind::Broker(Wire::HalfOpen),
        )],
    ],
    &[
        &[
            fault("a_zombie_that_returns_after_its_partitions_moved_writes_nothing", Kind::Zombie),
            fault("a_clickhouse_that_accepts_and_never_answers_is_waited_for", Kind::Paused("clickhouse")),
        ],
        &[fault("two_workers_become_three_and_one", Kind::Scale)],
    ],
    &[
        &[fault("a_broker_whose_answers_are_lost_stores_nothing_twice", Kind::Broker(Wire::NoAnswers))],
        &[fault("after_a_restart_of_everything_all_is_there_once", Kind::Everything)],
    ],
];

impl Kind {
    /// How long it lasts; workers that come and go take their own time.
    pub(crate) fn lasts(self) -> Duration {
        match self {
            Self::Collector => RESTART_AFTER,
            Self::Worker(_, away) => away,
            Self::Server(_) | Self::DataNode => DOWN,
            Self::Paused(_) | Self::Broker(_) => DOWN,
            Self::ComingAndGoing | Self::Scale | Self::Zombie | Self::Everything => Duration::ZERO,
        }
    }

    /// Whether senders may see nothing of it, because the spool is there.
    pub(crate) fn is_silent(self) -> bool {
        !matches!(self, Self::Collector | Self::Everything)
    }

    /// Whether the spool has to step in.
    pub(crate) fn is_spooled(self) -> bool {
        matches!(self, Self::Server("kafka") | Self::Broker(_))
    }

    pub(crate) fn begin(self, whole: &mut Installation, random: &mut Random) {
        match self {
            Self::Collector => whole.collector.kill(),
            Self::Worker(number, _) => whole.workers[number].kill(),
            Self::Server(name) => whole.stack.kill(name),
            Self::DataNode => whole.stack.kill(["datanode1", "datanode2"][random.index(2)]),
            Self::Paused(name) => whole.stack.pause(name),
            Self::Broker(wire) => whole.proxy.set(wire),
            Self::ComingAndGoing => come_and_go(whole, random),
            Self::Scale => scale(whole),
            Self::Zombie => whole.workers[random.index(USUAL_WORKERS)].pause(),
            Self::Everything => {
                let nodes = std::iter::once(&mut whole.collector).chain(&mut whole.workers);
                nodes.filter(|node| node.is_running()).for_each(fanal_tests::Node::kill);
                SERVERS.iter().for_each(|name| whole.stack.kill(name));
            }
        }
    }

    /// Ends it. Killed servers come back all at once, so they are only named.
    pub(crate) fn end(self, whole: &mut Installation) -> &'static [&'static str] {
        match self {
            Self::Collector => whole.collector.start(),
            Self::Worker(number, _) => whole.workers[number].start(),
            Self::Server("kafka") => return &["kafka"],
            Self::Server("namenode") => return &["namenode"],
            Self::Server("cassandra") => return &["cassandra"],
            Self::Server("mariadb") => return &["mariadb"],
            Self::Server(_) => return &["clickhouse"],
            Self::DataNode => return &["datanode1", "datanode2"],
            Self::Paused(name) => whole.stack.resume(name),
            Self::Broker(_) => whole.proxy.set(Wire::Pass),
            Self::ComingAndGoing | Self::Scale => {}
            Self::Zombie => return_of_the_zombie(whole),
            // Processes wait for their servers.
            Self::Everything => {
                whole.collector.start();
                whole.workers[..USUAL_WORKERS].iter_mut().for_each(fanal_tests::Node::start);
                return &SERVERS;
            }
        }
        &[]
    }

    /// What must have happened once everything runs again.
    pub(crate) fn settle(self, whole: &Installation) {
        if let Self::Worker(number, _) = self {
            whole.until_busy(number);
        }
    }
}

/// A third worker joins and leaves while all work: it is stopped, and killed in the end.
fn come_and_go(whole: &mut Installation, random: &mut Random) {
    for coming in 1..=COMINGS {
        whole.workers[2].start();
        whole.until_busy(2);
        sleep(random.between(Duration::ZERO, STAY_MAX));
        if coming == COMINGS {
            whole.workers[2].kill();
        } else {
            assert_eq!(whole.workers[2].stop(), 0);
        }
    }
}

/// Two workers become three, then one, then the two of before.
fn scale(whole: &mut Installation) {
    whole.workers[2].start();
    whole.until_busy(2);
    whole.until_owned_by(&[0, 1, 2]);
    for worker in &mut whole.workers[..USUAL_WORKERS] {
        assert_eq!(worker.stop(), 0);
    }
    whole.until_owned_by(&[2]);
    whole.workers[..USUAL_WORKERS].iter_mut().for_each(fanal_tests::Node::start);
    (0..USUAL_WORKERS).for_each(|worker| whole.until_busy(worker));
    assert_eq!(whole.workers[2].stop(), 0);
    whole.until_owned_by(&[0, 1]);
}

/// Only when the others have all that it had does the paused worker go on.
fn return_of_the_zombie(whole: &mut Installation) {
    let is_paused = |worker: usize| whole.workers[worker].is_paused();
    let zombie = (0..USUAL_WORKERS).find(|worker| is_paused(*worker)).unwrap();
    let other = USUAL_WORKERS - 1 - zombie;
    whole.until_owned_by(&[other]);
    whole.workers[zombie].resume();
    let lost = "\"partition released\"";
    eventually(SETTLE_LIMIT, "the zombie lets go", || (whole.workers[zombie].said(lost) > 0).then_some(()));
    whole.until_owned_by(&[0, 1]);
}

/// Waits until requests go to Kafka itself: what was before is over.
pub(crate) fn until_direct(whole: &Installation) {
    eventually(READY_LIMIT, "requests that go to Kafka itself", || {
        (whole.collector.metric("ingest_spool_state") == Some(0.0)).then_some(())
    });
}

/// Waits until the spool has been used since `engaged`, so that the fault was one.
pub(crate) fn until_spooled(whole: &Installation, engaged: f64) {
    eventually(READY_LIMIT, "use of the spool", || (engaged_total(whole) > engaged).then_some(()));
}

pub(crate) fn engaged_total(whole: &Installation) -> f64 {
    whole.collector.metric("ingest_spool_engaged_total").unwrap_or(0.0)
}

/// Requests that were refused or had no answer.
pub(crate) fn noticed(whole: &Installation) -> u64 {
    let counters = whole.load.counters();
    counters.refused.load(Ordering::SeqCst) + counters.broken.load(Ordering::SeqCst)
}
