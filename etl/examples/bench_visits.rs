//! Events per second of the visit builder on one thread: encoded beacons of
//! sorted visitors through reading, deduplication and the fold; and the same
//! beacons in order of time through the streaming engine. The answer is checked.
//!
//! `cargo run --release -p fanal-etl --example bench_visits`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench ends where its input is wrong")]

use std::time::Instant;

use fanal_etl::stream::{Engine, EngineConfig};
use fanal_etl::visit::{Scan, VisitPolicy, VisitorEvent};
use fanal_model::{Beacon, Source};
use fanal_storage::log::Partition;

const VISITORS: u64 = 50_000;
const VISITS: u64 = 2;
const EVENTS: u64 = 8;
const RUNS: usize = 5;
const START: u64 = 1_760_000_000_000;
const FLUSH_RECORDS: u64 = 50_000;

/// Visitor by visitor: two visits of eight events, one of them sent twice.
fn beacons() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for visitor in 0..VISITORS {
        let code = format!("v{visitor:015x}");
        for event in 0..VISITS * EVENTS + 1 {
            // The last one repeats the first nonce a second later.
            let nonce = if event == VISITS * EVENTS { 0 } else { event };
            let at_ms = match event {
                n if n == VISITS * EVENTS => START + visitor * 50 + 1_000,
                n => START + visitor * 50 + (n / EVENTS) * 3_600_000 + (n % EVENTS) * 10_000,
            };
            let kind = match event % 4 {
                0 => "eventType=page&href=https%3A%2F%2Fshop.example%2Fproducts%2F42%3Fcolour%3Dblue&title=A%20product".to_owned(),
                1 => "eventType=experiment&id=3001&variationId=4002".to_owned(),
                2 => "eventType=customData&index=1&valuesCountMap=%7B%22gold%22%3A1%7D&overwrite=true".to_owned(),
                _ => "eventType=conversion&goalId=9001&revenue=12.5&negative=false".to_owned(),
            };
            let line = format!("{kind}&nonce={:08X}{nonce:08X}&visitorCode={code}", visitor);
            let beacon = Beacon {
                received_at_ms: at_ms,
                site_code: "abcdefghij",
                visitor_code: &code,
                user_agent:
                    b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36",
                source: Source::Http,
                node: "bench",
                line: line.as_bytes(),
                visitor_lines: 2,
                ..Beacon::default()
            };
            let mut bytes = Vec::new();
            beacon.encode(&mut bytes);
            all.push((visitor, at_ms, bytes));
        }
    }
    all.sort_by_key(|(visitor, at_ms, _)| (*visitor, *at_ms));
    all.into_iter().map(|(_, _, bytes)| bytes).collect()
}

/// Seconds, visits and duplicates of one pass over sorted visitors.
fn fold(beacons: &[Vec<u8>], policy: &VisitPolicy) -> (f64, u64, u64) {
    let began = Instant::now();
    let (mut visits, mut duplicates) = (0, 0);
    let mut scan = Scan::default();
    let mut visitor = "";
    for bytes in beacons {
        let event = VisitorEvent::read(Beacon::decode(bytes).unwrap()).unwrap();
        if event.beacon.visitor() != visitor {
            visits += u64::from(scan.open_visit(0, policy).is_some());
            scan = Scan::default();
            visitor = event.beacon.visitor();
        }
        let placement = scan.push(&event, policy);
        visits += u64::from(placement.closed.is_some());
        duplicates += u64::from(placement.is_duplicate);
    }
    visits += u64::from(scan.open_visit(0, policy).is_some());
    (began.elapsed().as_secs_f64(), visits, duplicates)
}

/// Seconds and distinct visits written of one pass through the engine.
fn stream(in_time: &[&Vec<u8>], policy: &VisitPolicy) -> (f64, u64) {
    let began = Instant::now();
    let mut engine = Engine::new(
        EngineConfig { partition: Partition::EMBEDDED, key_partitions: 1, allowed_lateness_ms: 120_000 },
        0,
    );
    let mut rows = std::collections::HashSet::new();
    for (offset, bytes) in (0..).zip(in_time) {
        let at_ms = Beacon::decode(bytes).unwrap().received_at_ms;
        engine.take(offset, at_ms, bytes);
        if (offset + 1).is_multiple_of(FLUSH_RECORDS) {
            rows.extend(
                engine.flush(None, &|_: &str| *policy).tables.visits.into_iter().map(|row| row.visit_id),
            );
        }
    }
    rows.extend(
        engine
            .flush(Some(u64::MAX / 2), &|_: &str| *policy)
            .tables
            .visits
            .into_iter()
            .map(|row| row.visit_id),
    );
    (began.elapsed().as_secs_f64(), rows.len() as u64)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    let beacons = beacons();
    let mut in_time: Vec<&Vec<u8>> = beacons.iter().collect();
    in_time.sort_by_key(|bytes| Beacon::decode(bytes).unwrap().received_at_ms);
    let policy = VisitPolicy::default();
    let (mut folds, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (seconds, visits, duplicates) = fold(&beacons, &policy);
        assert_eq!((visits, duplicates), (VISITORS * VISITS, VISITORS), "the answer");
        folds.push(seconds);
        let (seconds, visits) = stream(&in_time, &policy);
        assert_eq!(visits, VISITORS * VISITS, "the answer");
        streams.push(seconds);
    }
    let events = beacons.len() as f64;
    let (fold_s, stream_s) = (median(folds), median(streams));
    println!(
        "{{\"bench\":\"visit_builder\",\"events\":{},\"seconds\":{fold_s:.4},\"events_per_s\":{:.0},\"visits\":{},\"stream_seconds\":{stream_s:.4},\"stream_events_per_s\":{:.0}}}",
        beacons.len(),
        events / fold_s,
        VISITORS * VISITS,
        events / stream_s
    );
}
