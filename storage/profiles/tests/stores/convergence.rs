//! Any order and any repetition of writes ends in the profile of a plain twin.

use std::collections::BTreeMap;

use crate::support::{DAY, Store, ended, gone, link, now_ms, unique, visit};
use fanal_profiles::{Limits, ProfileBatch, ProfileVisit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const VISITS_MAX: usize = 3;

/// One change of a visit, or of a link.
#[derive(Debug, Clone, Copy)]
enum Change {
    Open { visit: u64, version: u64 },
    Ended { visit: u64, version: u64 },
    Gone { visit: u64, version: u64 },
    Link { value: u8, at: u64 },
}

/// What may be done with all of them, in order.
#[derive(Debug, Clone)]
struct Script {
    changes: Vec<Change>,
    /// Which change each write brings: repeated, out of order, some never.
    order: Vec<prop::sample::Index>,
    batch_size: usize,
    erased: Option<(u64, u64)>,
}

fn change() -> impl Strategy<Value = Change> {
    let place = || (0..7u64, 0..6u64);
    prop_oneof![
        3 => place().prop_map(|(visit, version)| Change::Open { visit, version }),
        2 => place().prop_map(|(visit, version)| Change::Ended { visit, version }),
        2 => place().prop_map(|(visit, version)| Change::Gone { visit, version }),
        1 => (0..3u8, 0..9u64).prop_map(|(value, at)| Change::Link { value, at }),
    ]
}

fn script(erases: bool) -> impl Strategy<Value = Script> {
    let erased = if erases { (0..6u64, 0..9u64).prop_map(Some).boxed() } else { Just(None).boxed() };
    (
        prop::collection::vec(change(), 1..30),
        prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        1..8usize,
        erased,
    )
        .prop_map(|(changes, order, batch_size, erased)| Script { changes, order, batch_size, erased })
}

/// The rules, without any store: all writes are known at once.
#[derive(Default)]
struct Twin {
    /// By start, then id: the winning write, and its visit unless it is gone.
    slots: BTreeMap<(u64, u64), ((u64, u8), Option<ProfileVisit>)>,
    links: BTreeMap<String, u64>,
}

impl Twin {
    fn slot(&mut self, key: (u64, u64), rank: (u64, u8), visit: Option<ProfileVisit>) {
        let known = self.slots.entry(key).or_insert_with(|| (rank, visit.clone()));
        if rank > known.0 {
            *known = (rank, visit);
        }
    }

    fn visits(&self, most: usize) -> Vec<ProfileVisit> {
        self.slots.values().rev().take(most).filter_map(|(_, visit)| visit.clone()).collect()
    }
}

/// Plays the script on a store and on the twin, then compares.
async fn play(store: &Store, script: &Script, visits_max: usize) {
    let (site, now) = (unique("site"), now_ms());
    let mut twin = Twin::default();
    let mut batches = vec![ProfileBatch::default()];
    let start = |visit: u64| now + visit / 2;
    for index in &script.order {
        let mut batch = ProfileBatch::default();
        let (key, rank, kept) = match *index.get(&script.changes) {
            Change::Open { visit: id, version } => {
                let stored = visit(&site, "v", id, start(id), version);
                batch.visits.push(stored.clone());
                ((start(id), id), (version, 0), Some(stored))
            }
            Change::Ended { visit: id, version } => {
                let stored = ended(visit(&site, "v", id, start(id), version));
                batch.visits.push(stored.clone());
                ((start(id), id), (version, 1), Some(stored))
            }
            Change::Gone { visit: id, version } => {
                batch.gone.push(gone(&visit(&site, "v", id, start(id), version), version));
                ((start(id), id), (version, 2), None)
            }
            Change::Link { value, at } => {
                let value = format!("user {value}");
                batch.links.push(link(&site, &value, "v", now + at));
                let is_erased = script.erased.is_some_and(|(_, erased)| at <= erased);
                if !is_erased {
                    let known = twin.links.entry(value).or_default();
                    *known = (now + at).max(*known);
                }
                push(&mut batches, batch, script.batch_size);
                continue;
            }
        };
        if script.erased.is_none_or(|(erased, _)| rank.0 > erased) {
            twin.slot(key, rank, kept);
        }
        push(&mut batches, batch, script.batch_size);
    }
    let erase_after = batches.len() / 2;
    for (i, batch) in batches.iter().enumerate() {
        store.profiles.write(batch).await.unwrap();
        if i == erase_after
            && let Some((version, at)) = script.erased
        {
            // Links are erased as far as they were stored: all of them were.
            for batch in &batches {
                let links = ProfileBatch { links: batch.links.clone(), ..ProfileBatch::default() };
                store.profiles.write(&links).await.unwrap();
            }
            store.profiles.erase(&site, "v", version, now + at).await.unwrap();
        }
    }
    assert_eq!(store.visits(&site, "v").await, twin.visits(visits_max));
    let mut links = store.links_of(&site, "v").await;
    links.sort();
    assert_eq!(links, twin.links.clone().into_iter().collect::<Vec<_>>());
    for value in 0..3 {
        let value = format!("user {value}");
        let expected = twin.links.get(&value).map(|at| ("v".to_owned(), *at));
        assert_eq!(store.linked(&site, &value).await, Vec::from_iter(expected));
    }
}

fn push(batches: &mut Vec<ProfileBatch>, one: ProfileBatch, size: usize) {
    let is_full = batches.last().is_some_and(|b| b.visits.len() + b.gone.len() + b.links.len() >= size);
    if is_full {
        batches.push(ProfileBatch::default());
    }
    if let Some(last) = batches.last_mut() {
        last.visits.extend(one.visits);
        last.gone.extend(one.gone);
        last.links.extend(one.links);
    }
}

fn check(open: fn(Limits) -> Store, cases: u32, erases: bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Where a slot fell out before the erasure, what the erasure freed is not known.
    let visits_max = if erases { 100 } else { VISITS_MAX };
    let store = {
        let _inside = runtime.enter();
        open(Limits { retention: DAY, visits_per_visitor_max: visits_max })
    };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let played = runner.run(&script(erases), |script| {
        runtime.block_on(play(&store, &script, visits_max));
        Ok(())
    });
    played.unwrap();
}

#[test]
fn any_order_of_writes_ends_in_the_same_embedded_profile() {
    check(crate::support::embedded, 300, false);
}

#[test]
fn any_order_of_writes_and_an_erasure_ends_in_the_same_embedded_profile() {
    check(crate::support::embedded, 200, true);
}

#[test]
fn any_order_of_writes_ends_in_the_same_cassandra_profile() {
    check(crate::support::cassandra, 40, false);
}

#[test]
fn any_order_of_writes_and_an_erasure_ends_in_the_same_cassandra_profile() {
    check(crate::support::cassandra, 30, true);
}
