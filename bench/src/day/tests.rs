//! Invariants of a generated day.

use super::*;
use std::collections::HashSet;

fn options(events: u64, seed: u64) -> Options {
    Options {
        out: PathBuf::new(),
        events,
        sites: 4,
        nodes: 3,
        seed,
        start_ms: 1_790_812_800_000, // 2026-10-01
        bad_nonces: true,
    }
}

#[test]
fn construction_equals_sort_and_scan() {
    for seed in 0..12 {
        let day = plan(&options(20_000, seed)).unwrap();
        let (distinct, heartbeats, twin) = twin::scan(&day);
        let mut visits = day.visits.clone();
        visits.sort_by_key(|visit| (visit.visitor, visit.started_at_ms));
        assert_eq!(visits.len(), twin.len(), "seed {seed}");
        for (planned, scanned) in visits.iter().zip(&twin) {
            assert_eq!(planned, scanned, "seed {seed}");
        }
        assert_eq!(day.distinct(), distinct, "seed {seed}");
        assert_eq!(day.per_site.iter().map(|site| site.heartbeats).sum::<u64>(), heartbeats, "seed {seed}");
    }
}

#[test]
fn each_special_case_occurs_in_a_day_of_20_000_events() {
    for seed in 0..12 {
        let day = plan(&options(20_000, seed)).unwrap();
        let missing: Vec<_> =
            day.cases.by_name().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
        assert!(missing.is_empty(), "seed {seed} lacks {missing:?}");
    }
}

#[test]
fn bad_nonces_can_be_left_out() {
    let day = plan(&Options { bad_nonces: false, ..options(20_000, 2) }).unwrap();
    let counts = day.cases.by_name();
    assert_eq!(counts["line_with_bad_nonce"], 0);
    assert!(counts["line_of_junk"] > 0);
    assert_eq!(twin::scan(&day).0, day.distinct());
}

#[test]
fn a_day_has_the_events_that_were_asked_for() {
    let day = plan(&options(5_000, 7)).unwrap();
    assert!((5_000..5_300).contains(&day.distinct()), "{}", day.distinct());
}

#[test]
fn repeats_are_between_a_half_and_one_and_a_half_percent() {
    let day = plan(&options(100_000, 3)).unwrap();
    let accepted: u64 = day.per_site.iter().map(|site| site.accepted).sum();
    let share = (accepted - day.distinct()) as f64 / accepted as f64;
    assert!((0.005..0.015).contains(&share), "{share}");
}

#[test]
fn visits_have_one_to_twenty_events_unless_their_body_is_shared() {
    let day = plan(&options(50_000, 5)).unwrap();
    let sizes: HashSet<u32> = day.visits.iter().map(|visit| visit.event_count).collect();
    assert!((1..=20).all(|size| sizes.contains(&size)), "{sizes:?}");
}

#[test]
fn codes_are_unique_within_their_site() {
    let day = plan(&options(50_000, 9)).unwrap();
    let mut seen = HashSet::new();
    assert!(day.visitors.iter().all(|visitor| seen.insert((visitor.site, &visitor.code))));
}

#[test]
fn no_visit_is_longer_than_a_day() {
    let day = plan(&options(50_000, 11)).unwrap();
    assert!(day.visits.iter().all(|visit| visit.last_event_at_ms - visit.started_at_ms < DAY_MS));
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let no_site = plan(&Options { sites: 0, ..options(10, 1) }).unwrap_err();
    assert!(no_site.to_string().starts_with("--sites is 0; give a number from 1"), "{no_site}");
    let too_many = plan(&options(EVENTS_MAX + 1, 1)).unwrap_err();
    assert!(too_many.to_string().starts_with("--events is"), "{too_many}");
}

#[test]
fn amounts_keep_four_places() {
    assert_eq!(truth::decimal(0), "0.0000");
    assert_eq!(truth::decimal(199_900), "19.9900");
    assert_eq!(truth::decimal(-5), "-0.0005");
    assert_eq!(truth::decimal(-1_230_001), "-123.0001");
}
