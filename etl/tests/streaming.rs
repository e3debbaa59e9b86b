//! Streaming against the sort-and-scan twin: any order of arrival within the
//! allowed lateness, duplication, batching and restarts give the same tables.
#![allow(clippy::unwrap_used, reason = "a test panics where its claim does not hold")]

mod twin;

#[path = "twin/tables.rs"]
mod tables;

use fanal_etl::stream::{Engine, EngineConfig};
use fanal_etl::visit::VisitPolicy;
use fanal_model::{Beacon, Source};
use fanal_storage::log::{Family, Partition};
use proptest::prelude::*;
use tables::Tables;
use twin::{Plain, PlainVisit};

const MINUTE: u64 = 60_000;
const START: u64 = 1_760_000_000_000;
/// Wide enough that nothing a test makes is late, unless it wants that.
const LATENESS: u64 = 600 * MINUTE;

/// Small numbers, so that a short history meets every rule.
fn policy() -> VisitPolicy {
    VisitPolicy {
        session_timeout_ms: 30 * MINUTE,
        visit_ms_max: 120 * MINUTE,
        visit_events_max: 12,
        dedupe_horizon_ms: 90 * MINUTE,
        heartbeat_extends: false,
    }
}

#[derive(Debug, Clone)]
struct Made {
    at_ms: u64,
    visitor: u8,
    line_number: u32,
    kind: u8,
    nonce: u16,
    alone: bool,
}

fn made() -> impl Strategy<Value = Made> {
    // Times crowd around multiples of five minutes: equal instants and exact
    // timeouts are common.
    let at = (0_u64..96, prop_oneof![Just(0_u64), Just(1), 0_u64..MINUTE]);
    (at, 0_u8..3, 0_u32..3, 0_u8..9, 0_u16..40, any::<bool>()).prop_map(
        |((step, more), visitor, line_number, kind, nonce, alone)| Made {
            at_ms: START + step * 5 * MINUTE + more,
            visitor,
            line_number,
            kind,
            nonce,
            alone,
        },
    )
}

fn encode(made: &Made) -> Vec<u8> {
    let kind = match made.kind {
        0 => "eventType=page&href=https%3A%2F%2Fx%2F1&title=t".to_owned(),
        1 => format!("eventType=page&href=https%3A%2F%2Fx%2F{}", made.nonce),
        2 => format!(
            "eventType=conversion&goalId={}&revenue=1.25&negative={}",
            made.nonce % 3,
            made.nonce.is_multiple_of(2)
        ),
        3 => format!("eventType=experiment&id={}&variationId={}", made.nonce % 2, made.nonce % 3),
        4 | 5 => format!(
            "eventType=staticData&deviceType={}",
            if made.nonce.is_multiple_of(2) { "PHONE" } else { "TABLET" }
        ),
        6 => "eventType=activity".to_owned(),
        7 => format!(
            "eventType=customData&index={}&valuesCountMap=%7B%22v%22%3A1%7D&overwrite=true",
            made.nonce % 3
        ),
        _ => "eventType=somethingNew&a=b".to_owned(),
    };
    // Every tenth nonce is missing: such lines are joined only when equal in all.
    let nonce = if made.nonce % 10 == 9 { String::new() } else { format!("&nonce={:016X}", made.nonce) };
    let line = format!("{kind}{nonce}&visitorCode=v{}", made.visitor);
    let beacon = Beacon {
        received_at_ms: made.at_ms,
        site_code: if made.visitor == 2 { "other" } else { "site" },
        visitor_code: &format!("v{}", made.visitor),
        source: Source::Http,
        line: line.as_bytes(),
        line_number: made.line_number,
        visitor_lines: if made.alone { 1 } else { 2 },
        ..Beacon::default()
    };
    let mut bytes = Vec::new();
    beacon.encode(&mut bytes);
    bytes
}

fn config() -> EngineConfig {
    EngineConfig { partition: Partition::EMBEDDED, key_partitions: 1, allowed_lateness_ms: LATENESS }
}

/// Streams `log` in batches of these sizes; at a size of 0 the process is killed
/// after the flush, and goes on from the last checkpoint, which was written
/// `checkpoint_age` batches before.
fn stream(log: &[Vec<u8>], batches: &[usize], checkpoint_age: usize) -> Tables {
    let mut tables = Tables::default();
    let mut engine = Engine::new(config(), 0);
    let mut checkpoints = vec![engine.to_bytes().unwrap()];
    let mut sizes = batches.iter().copied().cycle();
    let mut kills = 0;
    let mut catch_up = 0;
    while usize::try_from(engine.end_offset()).unwrap() < log.len() {
        let size = sizes.next().unwrap_or(1);
        if size == 0 && kills < 4 {
            kills += 1;
            let at = checkpoints.len().saturating_sub(1 + checkpoint_age);
            engine = Engine::from_bytes(config(), &checkpoints[at]).unwrap();
            checkpoints.truncate(at + 1);
            // As the role does: what the table has beyond the checkpoint is told to the engine.
            let from = fanal_etl::rows::streamed_version(engine.end_offset());
            for row in tables.live_visits().filter(|row| row.version > from) {
                let started_at = u64::try_from(row.started_at).unwrap();
                engine.found_in_table(&row.site_code, &row.visitor_code, row.visit_id, started_at);
            }
            for row in tables.outcomes_after(from) {
                engine.outcome_found_in_table(row);
            }
            catch_up = tables.version_max() / 2;
            continue;
        }
        for _ in 0..size.max(1) {
            let offset = engine.end_offset();
            let Some(record) = log.get(usize::try_from(offset).unwrap()) else { break };
            let append_time = Beacon::decode(record).unwrap().received_at_ms;
            assert_eq!(engine.take(offset, append_time, record), None);
        }
        if engine.end_offset() >= catch_up {
            tables.apply(engine.flush(None, &|_: &str| policy()).tables);
            checkpoints.push(engine.to_bytes().unwrap());
        }
    }
    tables.apply(engine.flush(None, &|_: &str| policy()).tables);
    tables
}

fn check(log: &[Vec<u8>], tables: &Tables) {
    let Plain { visits, stray, duplicates } = twin::build(log, &policy());
    // The row holds whole seconds.
    let in_seconds = |visit: PlainVisit| PlainVisit { engaged_ms: visit.engaged_ms / 1000 * 1000, ..visit };
    let visits: Vec<_> = visits.into_iter().map(in_seconds).collect();
    assert_eq!(tables.plain_visits(), visits);
    assert_eq!(tables.stray(), stray);
    assert_eq!(tables.outcome_count("duplicate"), duplicates as u64);
    assert_eq!(tables.live_events().count() + duplicates, log.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_order_batching_and_restart_gives_the_visits_of_the_twin(
        events in prop::collection::vec(made(), 1..60),
        repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        order in any::<u64>(),
        batches in prop::collection::vec(0_usize..9, 1..12),
        checkpoint_age in 0_usize..3,
    ) {
        let mut log: Vec<Vec<u8>> = events.iter().map(encode).collect();
        // The same record twice: an import and a collector that both saw it.
        for index in &repeats {
            let again = log[index.index(log.len())].clone();
            log.push(again);
        }
        shuffle(&mut log, order);
        let tables = stream(&log, &batches, checkpoint_age);
        check(&log, &tables);
    }

    #[test]
    fn settling_early_changes_nothing_for_events_in_order(
        events in prop::collection::vec(made(), 1..80),
        batches in prop::collection::vec(0_usize..5, 1..6),
    ) {
        // In order of time and with no lateness allowed at all, every event is
        // folded as soon as time moves on.
        let mut log: Vec<Vec<u8>> = events.iter().map(encode).collect();
        log.sort_by_key(|record| Beacon::decode(record).unwrap().received_at_ms);
        let tight = EngineConfig { partition: Partition::EMBEDDED, key_partitions: 1, allowed_lateness_ms: 0 };
        let mut engine = Engine::new(tight, 0);
        let mut tables = Tables::default();
        let mut sizes = batches.iter().copied().cycle();
        for (offset, record) in (0..).zip(&log) {
            let at = Beacon::decode(record).unwrap().received_at_ms;
            prop_assert_eq!(engine.take(offset, at, record), None);
            if sizes.next() == Some(0) {
                tables.apply(engine.flush(None, &|_: &str| policy()).tables);
                engine = Engine::from_bytes(tight, &engine.to_bytes().unwrap()).unwrap();
            }
        }
        tables.apply(engine.flush(None, &|_: &str| policy()).tables);
        check(&log, &tables);
        // Long after the last event nothing is held any more.
        tables.apply(engine.flush(Some(START + 10_000 * MINUTE), &|_: &str| policy()).tables);
        prop_assert_eq!(engine.visitor_count(), 0);
        prop_assert!(tables.live_visits().all(|row| row.end_reason != "still_open"));
        check(&log, &tables);
    }
}

/// A permutation that is a function of `seed` alone.
fn shuffle(log: &mut [Vec<u8>], seed: u64) {
    let mut state = seed | 1;
    for i in (1..log.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        log.swap(i, usize::try_from(state >> 33).unwrap() % (i + 1));
    }
}

#[test]
fn a_late_record_is_counted_once_and_asks_for_a_rebuild() {
    let mut tables = Tables::default();
    let event =
        |at_ms, nonce| encode(&Made { at_ms, visitor: 0, line_number: 0, kind: 0, nonce, alone: true });
    let config = EngineConfig { allowed_lateness_ms: MINUTE, ..config() };
    let mut engine = Engine::new(config, 0);
    engine.take(0, START, &event(START, 1));
    engine.take(1, START + 5 * MINUTE, &event(START + 5 * MINUTE, 2));
    // Four minutes late where one is allowed.
    engine.take(2, START + 5 * MINUTE, &event(START + MINUTE, 3));
    tables.apply(engine.flush(None, &|_: &str| policy()).tables);
    tables.apply(engine.flush(None, &|_: &str| policy()).tables);
    assert_eq!(tables.outcome_count("late"), 1);
    assert_eq!(tables.live_events().count(), 2);
    // The open visit misses the late event: when it ends, its day is marked again.
    let flush = engine.flush(Some(START + 400 * MINUTE), &|_: &str| policy()).tables;
    let stale: Vec<_> = flush.outcomes.iter().filter(|row| row.outcome == "stale").collect();
    assert_eq!(stale.len(), 1);
    assert_eq!(u64::from(stale[0].minute) * 1000, (START + MINUTE) / MINUTE * MINUTE);
}

fn stale(flush: fanal_storage::clickhouse::Flush) -> usize {
    flush.outcomes.iter().filter(|row| row.outcome == "stale").count()
}

#[test]
fn a_visitor_is_built_in_its_own_partition_alone() {
    const PARTITIONS: u32 = 4;
    let visitor =
        |visitor, at_ms, nonce| encode(&Made { at_ms, visitor, line_number: 0, kind: 0, nonce, alone: true });
    let config = |index| EngineConfig {
        partition: Partition::new(Family::Beacons, index).unwrap(),
        key_partitions: PARTITIONS,
        allowed_lateness_ms: LATENESS,
    };
    let home = fanal_kafka::partition_of(b"site\0v0", PARTITIONS);
    let mut found = Vec::new();
    for index in 0..PARTITIONS {
        let mut engine = Engine::new(config(index), 0);
        engine.take(0, START, &visitor(0, START, 1));
        engine.take(1, START, &visitor(0, START + MINUTE, 2));
        let changed = engine.flush(None, &|_: &str| policy());
        let late: u64 =
            changed.tables.outcomes.iter().filter(|row| row.outcome == "late").map(|row| row.count).sum();
        if index == home {
            assert_eq!((changed.tables.events.len(), late, changed.notes.len()), (2, 0, 0));
        } else {
            assert_eq!((changed.tables.events.len(), changed.tables.visits.len(), late), (0, 0, 2));
            found = changed.notes;
            assert!(engine.flush(None, &|_: &str| policy()).notes.is_empty(), "told twice");
        }
    }
    // The home asks for another rebuild when its own visit, which misses them, is over.
    assert_eq!(found, [(b"site\0v0".to_vec(), START), (b"site\0v0".to_vec(), START + MINUTE)]);
    let mut engine = Engine::new(config(home), 0);
    engine.take(0, START + 2 * MINUTE, &visitor(0, START + 2 * MINUTE, 3));
    for (offset, (key, at_ms)) in (1..).zip(&found) {
        engine.take_overflowed(offset, START + 2 * MINUTE, key, *at_ms);
    }
    assert_eq!(stale(engine.flush(None, &|_: &str| policy()).tables), 2);
    assert_eq!(stale(engine.flush(Some(START + 2000 * MINUTE), &|_: &str| policy()).tables), 1);
}

#[test]
fn a_damaged_checkpoint_is_refused_at_every_byte() {
    let mut engine = Engine::new(config(), 0);
    let made = Made { at_ms: START, visitor: 0, line_number: 0, kind: 0, nonce: 1, alone: true };
    engine.take(0, START, &encode(&made));
    let bytes = engine.to_bytes().unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Engine::from_bytes(config(), &damaged).is_err(), "byte {at}");
        assert!(Engine::from_bytes(config(), &bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_heartbeat_neither_starts_nor_extends_a_visit() {
    let beat =
        |at_ms, nonce| encode(&Made { at_ms, visitor: 0, line_number: 0, kind: 4, nonce, alone: true });
    let page =
        |at_ms, nonce| encode(&Made { at_ms, visitor: 0, line_number: 0, kind: 0, nonce, alone: true });
    let log = [
        beat(START, 1),
        page(START + MINUTE, 2),
        beat(START + 20 * MINUTE, 3),
        // 30 minutes after the page, although only 11 after the heartbeat.
        page(START + 31 * MINUTE, 4),
    ];
    let tables = stream(&log, &[1], 0);
    let mut visits: Vec<_> = tables.live_visits().collect();
    visits.sort_by_key(|visit| visit.started_at);
    assert_eq!(visits.len(), 2);
    assert_eq!((visits[0].event_count, visits[1].event_count), (1, 1));
    assert_eq!(visits[0].last_seen_at - visits[0].last_event_at, 19 * 60_000);
    assert_eq!(tables.stray().len(), 1);
}

#[test]
fn a_visit_that_begins_with_a_late_event_of_an_unknown_visitor_is_marked_again() {
    let mut tables = Tables::default();
    let event =
        |at_ms, nonce| encode(&Made { at_ms, visitor: 0, line_number: 0, kind: 0, nonce, alone: true });
    let config = EngineConfig { allowed_lateness_ms: MINUTE, ..config() };
    let mut engine = Engine::new(config, 0);
    // The rebuild puts both into one visit; streaming knows only the second.
    engine.take(0, START + 5 * MINUTE, &event(START, 1));
    tables.apply(engine.flush(None, &|_: &str| policy()).tables);
    engine = Engine::from_bytes(config, &engine.to_bytes().unwrap()).unwrap();
    engine.take(1, START + 6 * MINUTE, &event(START + 6 * MINUTE, 2));
    let flush = engine.flush(None, &|_: &str| policy()).tables;
    assert!(flush.outcomes.is_empty(), "{:?}", flush.outcomes);
    tables.apply(flush);
    let flush = engine.flush(Some(START + 38 * MINUTE), &|_: &str| policy()).tables;
    assert_eq!(flush.visits.len(), 1);
    assert_eq!(flush.outcomes.iter().filter(|row| row.outcome == "stale").count(), 1);
}

#[test]
fn a_late_event_is_forgotten_when_nothing_can_follow_it() {
    let event = |at_ms| encode(&Made { at_ms, visitor: 0, line_number: 0, kind: 0, nonce: 1, alone: true });
    let config = EngineConfig { allowed_lateness_ms: MINUTE, ..config() };
    // Of another day: its own mark is all there is to do.
    let mut engine = Engine::new(config, 0);
    engine.take(0, START + 1440 * MINUTE, &event(START));
    assert_eq!(stale(engine.flush(None, &|_: &str| policy()).tables), 0);
    assert_eq!(engine.visitor_count(), 0);
    // Of just now: its visit is open until the timeout, and a rebuild must end it.
    let mut engine = Engine::new(config, 0);
    engine.take(0, START + 5 * MINUTE, &event(START));
    assert_eq!(stale(engine.flush(None, &|_: &str| policy()).tables), 0);
    assert_eq!(stale(engine.flush(Some(START + 45 * MINUTE), &|_: &str| policy()).tables), 1);
    assert_eq!(stale(engine.flush(Some(START + 60 * MINUTE), &|_: &str| policy()).tables), 0);
    assert_eq!(stale(engine.flush(Some(START + 120 * MINUTE), &|_: &str| policy()).tables), 0);
    assert_eq!(engine.visitor_count(), 0);
}

#[test]
fn a_visit_ends_for_the_same_reason_whenever_that_is_looked_at() {
    let policy = VisitPolicy { session_timeout_ms: 30 * MINUTE, visit_ms_max: 40 * MINUTE, ..policy() };
    let page =
        |at_ms, nonce| encode(&Made { at_ms, visitor: 0, line_number: 0, kind: 0, nonce, alone: true });
    let end_reason = |steps: &[u64]| {
        let mut engine = Engine::new(
            EngineConfig { partition: Partition::EMBEDDED, key_partitions: 1, allowed_lateness_ms: 0 },
            0,
        );
        let mut tables = Tables::default();
        engine.take(0, START, &page(START, 1));
        engine.take(1, START + 20 * MINUTE, &page(START + 20 * MINUTE, 2));
        for step in steps {
            tables.apply(engine.flush(Some(START + step * MINUTE), &|_: &str| policy).tables);
        }
        let visit = tables.live_visits().next().unwrap();
        visit.end_reason.clone()
    };
    // The limit at 40 minutes comes before the timeout at 50.
    assert_eq!(end_reason(&[41, 60]), "day_limit");
    assert_eq!(end_reason(&[60]), "day_limit");
}

#[test]
fn a_visit_whose_beginning_was_trimmed_asks_for_a_rebuild_at_once_and_at_its_end() {
    let page =
        |at_ms, nonce| encode(&Made { at_ms, visitor: 0, line_number: 0, kind: 0, nonce, alone: true });
    let config = EngineConfig { allowed_lateness_ms: MINUTE, ..config() };
    let mut engine = Engine::without_beginning(config, 500);
    engine.take(500, START, &page(START, 1));
    let stale = |flush: &fanal_storage::clickhouse::Flush| {
        flush.outcomes.iter().filter(|row| row.outcome == "stale" && row.is_deleted == 0).count()
    };
    assert_eq!(stale(&engine.flush(None, &|_: &str| policy()).tables), 1);
    assert!(stale(&engine.flush(Some(START + 40 * MINUTE), &|_: &str| policy()).tables) >= 1);
    // Long after the first record nothing is in doubt.
    engine.flush(Some(START + 290 * MINUTE), &|_: &str| policy());
    engine.take(501, START + 300 * MINUTE, &page(START + 300 * MINUTE, 2));
    assert_eq!(stale(&engine.flush(Some(START + 400 * MINUTE), &|_: &str| policy()).tables), 0);
}
