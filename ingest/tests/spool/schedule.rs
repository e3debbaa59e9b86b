//! Any schedule of outages, hangs and restarts.

use std::time::Duration;

use fanal_ingest::spool::Spooled;
use fanal_service::health::Health;
use fanal_service::stop::Stop;
use fanal_storage::log::{AppendError, EventLog};
use proptest::prelude::*;

use crate::inner::{Mode, batch, clock, last_places, lines, memory, place_behind, settings, soon};

#[derive(Debug, Clone)]
enum Step {
    Append {
        batches: usize,
        lines: usize,
    },
    Behind(Mode),
    /// The drain ends in the middle of what it does, as in a crash.
    Cut,
    /// The drain is asked to stop.
    Stop,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        3 => Just(Mode::Takes),
        1 => Just(Mode::Refuses(AppendError::Unavailable("away".to_owned()))),
        1 => Just(Mode::Refuses(AppendError::Overloaded)),
        1 => Just(Mode::Refuses(AppendError::InDoubt("late".to_owned()))),
        2 => Just(Mode::Hangs),
        2 => Just(Mode::TakesSilently),
        1 => (150..600_usize).prop_map(Mode::TakesUpTo),
    ];
    prop_oneof![
        4 => (1..12_usize, 1..5_usize).prop_map(|(batches, lines)| Step::Append { batches, lines }),
        4 => mode.prop_map(Step::Behind),
        1 => Just(Step::Cut),
        1 => Just(Step::Stop),
        2 => (0..60_u64).prop_map(Step::Wait),
    ]
}

/// Lines by the batch that holds them; which batches were acknowledged, and which of
/// these by the spool.
#[derive(Default)]
struct Told {
    acknowledged: Vec<Vec<String>>,
    spooled: Vec<String>,
}

async fn run(steps: Vec<Step>) {
    let (dir, inner, mut told, mut sent) = (tempfile::tempdir().unwrap(), memory(), Told::default(), 0);
    let open = || {
        let (log, drain) =
            Spooled::open(inner.clone(), settings(dir.path()), clock(), Health::new()).unwrap();
        let stop = Stop::new();
        (log, tokio::spawn(drain.run(stop.clone())), stop)
    };
    let mut running = open();
    for step in steps {
        match step {
            Step::Append { batches, lines } => {
                for _ in 0..batches {
                    sent += 1;
                    let names: Vec<_> = (0..lines).map(|line| format!("{sent:04}-{line}")).collect();
                    let appended =
                        tokio::time::timeout(Duration::from_secs(5), running.0.append(batch(&names)));
                    match appended.await.expect("an append is answered, whatever the log behind does") {
                        Ok(place) if place.partition == place_behind() => told.acknowledged.push(names),
                        Ok(_) => {
                            told.spooled.extend_from_slice(&names);
                            told.acknowledged.push(names);
                        }
                        // Not acknowledged; it must keep nobody else from being.
                        Err(AppendError::TooLarge { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            Step::Behind(mode) => inner.set(mode),
            Step::Cut | Step::Stop => {
                let (log, draining, stop) = running;
                match step {
                    Step::Cut => draining.abort(),
                    _ => stop.stop(),
                }
                draining.await.ok();
                drop(log);
                running = open();
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
    inner.set(Mode::Takes);
    soon("the spool is drained", || running.0.waiting() == 0 && !running.0.is_spooling()).await;
    let (found, received) = lines(inner.log.reader(0).unwrap());
    let last = last_places(&found);
    for name in told.acknowledged.iter().flatten() {
        assert!(last.contains_key(name.as_str()), "{name} was acknowledged and is gone");
    }
    let places: Vec<_> = told.spooled.iter().map(|name| last[name.as_str()]).collect();
    assert!(places.is_sorted(), "spooled lines changed their order: {:?} at {places:?}", told.spooled);
    assert_eq!(received, found.len() as u64, "each copy of a line came with its count");
    running.2.stop();
    running.1.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_of_outages_and_restarts_loses_and_reorders_nothing(
        steps in prop::collection::vec(step(), 1..25),
    ) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run(steps));
    }
}
