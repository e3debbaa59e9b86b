//! The plain twin: sort all events, scan them, compute each measure by itself.
//!
//! Shares nothing with the program's builder but the parsed line: quadratic
//! where that is plainer.

use std::collections::{BTreeMap, BTreeSet};

use fanal_etl::visit::{VisitPolicy, VisitorEvent, event_id};
use fanal_model::{Beacon, EventKind};

/// The measures that analysts rely on, by visit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlainVisit {
    pub(crate) site: String,
    pub(crate) visitor: String,
    pub(crate) started_at: u64,
    pub(crate) last_event_at: u64,
    pub(crate) last_seen_at: u64,
    pub(crate) engaged_ms: u64,
    pub(crate) events: Vec<u64>,
    pub(crate) heartbeats: Vec<u64>,
    pub(crate) event_count: u32,
    pub(crate) page_view_count: u32,
    pub(crate) conversion_count: u32,
    pub(crate) revenue: i64,
    pub(crate) exposures: Vec<(u32, u32, u64)>,
    pub(crate) goals: Vec<(u32, u32, u64, i64)>,
    pub(crate) landing_url: String,
    pub(crate) exit_url: String,
    pub(crate) device_type: String,
}

/// What becomes of a set of events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plain {
    pub(crate) visits: Vec<PlainVisit>,
    /// Event ids in no visit and no duplicates: heartbeats outside of visits.
    pub(crate) stray: BTreeSet<u64>,
    pub(crate) duplicates: usize,
}

pub(crate) fn build(beacons: &[Vec<u8>], policy: &VisitPolicy) -> Plain {
    let mut visitors: BTreeMap<(String, String), Vec<VisitorEvent<'_>>> = BTreeMap::new();
    for bytes in beacons {
        let beacon = Beacon::decode(bytes).unwrap();
        let key = (beacon.site_code.to_owned(), beacon.visitor().to_owned());
        visitors.entry(key).or_default().push(VisitorEvent::read(beacon).unwrap());
    }
    let mut plain = Plain::default();
    for ((site, visitor), mut events) in visitors {
        events.sort_by(|a, b| a.order_key().cmp(&b.order_key()));
        let all = events.len();
        let events = without_duplicates(events, policy);
        plain.duplicates += all - events.len();
        scan(&site, &visitor, &events, policy, &mut plain);
    }
    plain.visits.sort();
    plain
}

fn without_duplicates<'a>(events: Vec<VisitorEvent<'a>>, policy: &VisitPolicy) -> Vec<VisitorEvent<'a>> {
    let mut kept: Vec<VisitorEvent<'a>> = Vec::new();
    for event in events {
        let first = kept.iter().rev().find(|known| same(known, &event));
        if first.is_none_or(|first| event.at_ms() - first.at_ms() >= policy.dedupe_horizon_ms) {
            kept.push(event);
        }
    }
    kept
}

fn same(a: &VisitorEvent<'_>, b: &VisitorEvent<'_>) -> bool {
    if a.event.nonce.is_empty() || b.event.nonce.is_empty() {
        event_id(&a.beacon) == event_id(&b.beacon)
    } else {
        a.event.nonce == b.event.nonce
    }
}

fn scan(site: &str, visitor: &str, events: &[VisitorEvent<'_>], policy: &VisitPolicy, plain: &mut Plain) {
    let mut runs: Vec<Vec<&VisitorEvent<'_>>> = Vec::new();
    let mut beats: Vec<Vec<&VisitorEvent<'_>>> = Vec::new();
    for event in events {
        let goes_on = runs.last().is_some_and(|run| {
            let last = run[run.len() - 1].at_ms();
            event.at_ms() < last + policy.session_timeout_ms
                && event.at_ms() < run[0].at_ms() + policy.visit_ms_max
                && run.len() < policy.visit_events_max as usize
        });
        match (event.is_heartbeat(), goes_on) {
            (true, true) => beats.last_mut().unwrap().push(event),
            (true, false) => {
                plain.stray.insert(event.event_id);
            }
            (false, true) => runs.last_mut().unwrap().push(event),
            (false, false) => {
                runs.push(vec![event]);
                beats.push(Vec::new());
            }
        }
    }
    for (run, beats) in runs.iter().zip(&beats) {
        plain.visits.push(measure(site, visitor, run, beats));
    }
}

fn measure(site: &str, visitor: &str, run: &[&VisitorEvent<'_>], beats: &[&VisitorEvent<'_>]) -> PlainVisit {
    let pages: Vec<String> = run.iter().filter_map(|e| page_url(e)).collect();
    let mut seen: Vec<u64> = run.iter().chain(beats).map(|e| e.at_ms()).collect();
    seen.sort_unstable();
    let mut exposures: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut goals: BTreeMap<u32, (u32, u64, i64)> = BTreeMap::new();
    let mut in_order: Vec<&&VisitorEvent<'_>> = run.iter().chain(beats).collect();
    in_order.sort_by(|a, b| a.order_key().cmp(&b.order_key()));
    let mut device_type = String::new();
    for event in &in_order {
        match &event.event.kind {
            EventKind::Experiment(e) => {
                exposures.entry((e.experiment_id, e.variation_id)).or_insert(event.at_ms());
            }
            EventKind::Conversion(c) => {
                let goal = goals.entry(c.goal_id).or_insert((0, event.at_ms(), 0));
                goal.0 += 1;
                goal.2 += c.signed_revenue().ten_thousandths();
            }
            EventKind::StaticData(d) => {
                if let Some(device) = &d.device_type {
                    device_type = device.to_string();
                }
            }
            _ => {}
        }
    }
    PlainVisit {
        site: site.to_owned(),
        visitor: visitor.to_owned(),
        started_at: run[0].at_ms(),
        last_event_at: run[run.len() - 1].at_ms(),
        last_seen_at: *seen.last().unwrap(),
        engaged_ms: seen.windows(2).map(|pair| (pair[1] - pair[0]).min(15_000)).sum(),
        events: run.iter().map(|e| e.event_id).collect::<BTreeSet<_>>().into_iter().collect(),
        heartbeats: beats.iter().map(|e| e.event_id).collect::<BTreeSet<_>>().into_iter().collect(),
        event_count: u32::try_from(run.len()).unwrap(),
        page_view_count: u32::try_from(pages.len()).unwrap(),
        conversion_count: goals.values().map(|g| g.0).sum(),
        revenue: goals.values().map(|g| g.2).sum(),
        exposures: exposures.into_iter().map(|((e, v), at)| (e, v, at)).collect(),
        goals: goals.into_iter().map(|(g, (n, at, r))| (g, n, at, r)).collect(),
        landing_url: pages.first().cloned().unwrap_or_default(),
        exit_url: pages.last().cloned().unwrap_or_default(),
        device_type,
    }
}

fn page_url(event: &VisitorEvent<'_>) -> Option<String> {
    match &event.event.kind {
        EventKind::Page(page) => Some(page.href.to_string()),
        _ => None,
    }
}
