//! The tables as ClickHouse keeps them: the row with the highest version of
//! each key wins, the later one among equals; deleted rows are not seen.

use std::collections::{BTreeMap, BTreeSet};

use fanal_storage::clickhouse::{EventRow, Flush, OutcomeRow, VisitRow};

use super::PlainVisit;

#[derive(Default, Clone)]
pub(crate) struct Tables {
    events: BTreeMap<(String, i64, u32, u64), EventRow>,
    visits: BTreeMap<(String, String, u64), VisitRow>,
    outcomes: BTreeMap<(u64, String, u32, String), OutcomeRow>,
}

impl Tables {
    pub(crate) fn apply(&mut self, flush: Flush) {
        for row in flush.events {
            let key = (row.site_code.clone(), row.event_at, row.line_number, row.event_id);
            replace(&mut self.events, key, row, |row| row.version);
        }
        for row in flush.visits {
            let key = (row.site_code.clone(), row.visitor_code.clone(), row.visit_id);
            replace(&mut self.visits, key, row, |row| row.version);
        }
        for row in flush.outcomes {
            let key = (row.first_offset, row.site_code.clone(), row.minute, row.outcome.clone());
            replace(&mut self.outcomes, key, row, |row| row.version);
        }
    }

    pub(crate) fn live_events(&self) -> impl Iterator<Item = &EventRow> {
        self.events.values().filter(|row| row.is_deleted == 0)
    }

    pub(crate) fn live_visits(&self) -> impl Iterator<Item = &VisitRow> {
        self.visits.values().filter(|row| row.is_deleted == 0)
    }

    pub(crate) fn outcome_count(&self, outcome: &str) -> u64 {
        let live = self.outcomes.values().filter(|row| row.is_deleted == 0 && row.outcome == outcome);
        live.map(|row| row.count).sum()
    }

    pub(crate) fn outcomes_after(&self, version: u64) -> Vec<OutcomeRow> {
        self.outcomes.values().filter(|row| row.is_deleted == 0 && row.version > version).cloned().collect()
    }

    /// The highest version of any row: what a restart has to reach before it writes.
    pub(crate) fn version_max(&self) -> u64 {
        let events = self.events.values().map(|row| row.version);
        let visits = self.visits.values().map(|row| row.version);
        events.chain(visits).chain(self.outcomes.values().map(|row| row.version)).max().unwrap_or(0)
    }

    /// Visits as the twin describes them.
    pub(crate) fn plain_visits(&self) -> Vec<PlainVisit> {
        let mut members: BTreeMap<u64, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
        for event in self.live_events() {
            let (events, beats) = members.entry(event.visit_id).or_default();
            if event.is_heartbeat {
                beats.insert(event.event_id)
            } else {
                events.insert(event.event_id)
            };
        }
        let mut visits: Vec<PlainVisit> = self.live_visits().map(|row| plain(row, &members)).collect();
        visits.sort();
        visits
    }

    pub(crate) fn stray(&self) -> BTreeSet<u64> {
        self.live_events().filter(|row| row.visit_id == 0).map(|row| row.event_id).collect()
    }
}

fn replace<K: Ord, R>(table: &mut BTreeMap<K, R>, key: K, row: R, version: impl Fn(&R) -> u64) {
    let is_newer = table.get(&key).is_none_or(|old| version(old) <= version(&row));
    if is_newer {
        table.insert(key, row);
    }
}

fn plain(row: &VisitRow, members: &BTreeMap<u64, (BTreeSet<u64>, BTreeSet<u64>)>) -> PlainVisit {
    let at = |ms: i64| u64::try_from(ms).unwrap();
    let (events, heartbeats) = members.get(&row.visit_id).cloned().unwrap_or_default();
    PlainVisit {
        site: row.site_code.clone(),
        visitor: row.visitor_code.clone(),
        started_at: at(row.started_at),
        last_event_at: at(row.last_event_at),
        last_seen_at: at(row.last_seen_at),
        engaged_ms: u64::from(row.engaged_s) * 1000,
        events: events.into_iter().collect(),
        heartbeats: heartbeats.into_iter().collect(),
        event_count: row.event_count,
        page_view_count: row.page_view_count,
        conversion_count: row.conversion_count,
        revenue: row.revenue,
        exposures: (0..row.exposure_experiment_ids.len())
            .map(|i| {
                (row.exposure_experiment_ids[i], row.exposure_variation_ids[i], at(row.exposure_first_at[i]))
            })
            .collect(),
        goals: (0..row.goal_ids.len())
            .map(|i| {
                (
                    row.goal_ids[i],
                    row.goal_conversion_counts[i],
                    at(row.goal_first_at[i]),
                    row.goal_revenues[i],
                )
            })
            .collect(),
        landing_url: row.landing_url.clone(),
        exit_url: row.exit_url.clone(),
        device_type: row.device_type.clone(),
    }
}
