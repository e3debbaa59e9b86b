//! The measures of one visit, gathered event by event in the total order.
//!
//! `docs/definitions.md` holds the sentence that each measure here computes.

use fanal_model::{
    Conversion, CustomData, EndReason, EventKind, Experiment, Exposure, Geolocation, GoalTotal, StaticData,
    Visit,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::event::VisitorEvent;
use super::policy::VisitPolicy;

/// Time after an event or heartbeat that still counts as engaged.
const ENGAGED_MS_MAX: u64 = 15_000;

/// Distinct values that one visit keeps per list; more than a person produces.
const LIST_MAX: usize = 1_000;

/// A visit under construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accumulator {
    visit: Visit,
    /// The instant from which the session timeout runs.
    last_activity_ms: u64,
}

impl Accumulator {
    /// A visit that begins with `event`, which is not added yet.
    #[must_use]
    pub fn start(event: &VisitorEvent<'_>) -> Self {
        let (beacon, at_ms) = (&event.beacon, event.at_ms());
        let visit = Visit {
            site_code: beacon.site_code.to_owned(),
            visitor_code: beacon.visitor().to_owned(),
            // Site, visitor, instant, position and bytes of the first event are in its id.
            visit_id: xxh3_64_with_seed(&event.event_id.to_le_bytes(), 1),
            started_at_ms: at_ms,
            last_event_at_ms: at_ms,
            last_seen_at_ms: at_ms,
            ..Visit::default()
        };
        Self { visit, last_activity_ms: at_ms }
    }

    #[must_use]
    pub fn visit_id(&self) -> u64 {
        self.visit.visit_id
    }

    #[must_use]
    pub fn started_at_ms(&self) -> u64 {
        self.visit.started_at_ms
    }

    #[must_use]
    pub fn visit(&self) -> Visit {
        self.visit.clone()
    }

    /// Why an event at `at_ms` would not belong to this visit, if it would not. The
    /// first limit that was reached counts, so that the answer is the same however
    /// much later it is asked for.
    #[must_use]
    pub fn ends_before(&self, at_ms: u64, policy: &VisitPolicy) -> Option<EndReason> {
        let timeout_ms = self.last_activity_ms + policy.session_timeout_ms;
        let limit_ms = self.visit.started_at_ms + policy.visit_ms_max;
        if self.visit.event_count >= policy.visit_events_max {
            Some(EndReason::EventLimit)
        } else if at_ms >= timeout_ms && timeout_ms <= limit_ms {
            Some(EndReason::Timeout)
        } else if at_ms >= limit_ms {
            Some(EndReason::DayLimit)
        } else {
            None
        }
    }

    /// The first instant at which no event can belong to this visit.
    #[must_use]
    pub fn deadline_ms(&self, policy: &VisitPolicy) -> u64 {
        let timeout = self.last_activity_ms + policy.session_timeout_ms;
        timeout.min(self.visit.started_at_ms + policy.visit_ms_max)
    }

    pub(super) fn close(&mut self, reason: EndReason) {
        self.visit.end_reason = reason;
    }

    /// Moves what a heartbeat may move: presence, engaged time, static data.
    pub(super) fn heartbeat(&mut self, event: &VisitorEvent<'_>, policy: &VisitPolicy) {
        self.seen(event.at_ms());
        if policy.heartbeat_extends {
            self.last_activity_ms = event.at_ms();
        }
        if let EventKind::StaticData(data) = &event.event.kind {
            self.static_data(data);
        }
    }

    pub(super) fn add(&mut self, event: &VisitorEvent<'_>) {
        let at_ms = event.at_ms();
        self.seen(at_ms);
        self.last_activity_ms = at_ms;
        let visit = &mut self.visit;
        visit.last_event_at_ms = at_ms;
        visit.event_count = visit.event_count.saturating_add(1);
        let beacon = &event.beacon;
        if visit.user_agent.is_empty() {
            visit.user_agent = String::from_utf8_lossy(beacon.user_agent).into_owned();
            visit.is_robot = beacon.is_robot();
        }
        if visit.sdk_name.is_empty() {
            visit.sdk_name = beacon.sdk_name.to_owned();
            visit.sdk_version = beacon.sdk_version.to_owned();
        }
        if visit.referrer_url.is_empty() {
            visit.referrer_url = referrer(event).to_owned();
        }
        match &event.event.kind {
            EventKind::Page(page) => {
                visit.page_view_count = visit.page_view_count.saturating_add(1);
                if visit.landing_url.is_empty() {
                    set(&mut visit.landing_url, &page.href);
                }
                set(&mut visit.exit_url, &page.href);
            }
            EventKind::Experiment(experiment) => expose(&mut visit.exposures, *experiment, at_ms),
            EventKind::Conversion(conversion) => convert(visit, conversion, at_ms),
            EventKind::CustomData(data) => custom_data(visit, data),
            EventKind::StaticData(data) => self.static_data(data),
            EventKind::Geolocation(place) => geolocation(visit, place),
            EventKind::TargetingSegment(segment) => insert(&mut visit.segment_ids, segment.segment_id),
            EventKind::Personalization(shown) => {
                insert(&mut visit.personalization_ids, shown.personalization_id)
            }
            EventKind::Activity | EventKind::Other(_) => {}
        }
    }

    fn seen(&mut self, at_ms: u64) {
        let gap = at_ms - self.visit.last_seen_at_ms;
        self.visit.engaged_ms += gap.min(ENGAGED_MS_MAX);
        self.visit.last_seen_at_ms = at_ms;
    }

    /// Partial lines are merged field by field, the later value wins.
    fn static_data(&mut self, data: &StaticData<'_>) {
        let visit = &mut self.visit;
        for (column, value) in [
            (&mut visit.device_type, &data.device_type),
            (&mut visit.browser, &data.browser),
            (&mut visit.browser_version, &data.browser_version),
            (&mut visit.os, &data.os),
        ] {
            if let Some(value) = value {
                set(column, value);
            }
        }
        visit.previous_visit_count = data.visit_number.or(visit.previous_visit_count);
        let since = data.since_previous_ms.and_then(|ms| u64::try_from(ms).ok());
        visit.since_previous_ms = since.or(visit.since_previous_ms);
    }
}

fn set(column: &mut String, value: &str) {
    column.clear();
    column.push_str(value);
}

/// Where the visitor came from, as a page or a static-data line may name it.
fn referrer<'e>(event: &'e VisitorEvent<'_>) -> &'e str {
    let named =
        event.event.extra.iter().find(|(name, _)| matches!(&**name, "referrerHref" | "firstReferrerHref"));
    named.map_or("", |(_, url)| url)
}

fn expose(exposures: &mut Vec<Exposure>, seen: Experiment, at_ms: u64) {
    let key = (seen.experiment_id, seen.variation_id);
    if let Err(at) = exposures.binary_search_by_key(&key, |e| (e.experiment_id, e.variation_id))
        && exposures.len() < LIST_MAX
    {
        let (experiment_id, variation_id) = key;
        exposures.insert(at, Exposure { experiment_id, variation_id, first_at_ms: at_ms });
    }
}

fn convert(visit: &mut Visit, conversion: &Conversion<'_>, at_ms: u64) {
    let revenue = conversion.signed_revenue();
    visit.conversion_count = visit.conversion_count.saturating_add(1);
    visit.revenue = visit.revenue.plus(revenue);
    match visit.goals.binary_search_by_key(&conversion.goal_id, |goal| goal.goal_id) {
        Ok(at) => {
            let goal = &mut visit.goals[at];
            goal.conversion_count = goal.conversion_count.saturating_add(1);
            goal.revenue = goal.revenue.plus(revenue);
        }
        Err(at) if visit.goals.len() < LIST_MAX => {
            let goal =
                GoalTotal { goal_id: conversion.goal_id, conversion_count: 1, first_at_ms: at_ms, revenue };
            visit.goals.insert(at, goal);
        }
        Err(_) => {}
    }
}

/// `overwrite=true` replaces the values of the index, else they are added.
fn custom_data(visit: &mut Visit, data: &CustomData<'_>) {
    let sent = fanal_parser::counts::values(&data.values_count_map).unwrap_or_default();
    if visit.custom_data.len() >= LIST_MAX && !visit.custom_data.contains_key(&data.index) {
        return;
    }
    let values = visit.custom_data.entry(data.index).or_default();
    if data.overwrite {
        values.clear();
    }
    for value in sent {
        if !values.contains(&value) && values.len() < LIST_MAX {
            values.push(value);
        }
    }
}

fn geolocation(visit: &mut Visit, place: &Geolocation<'_>) {
    set(&mut visit.country, &place.country);
    set(&mut visit.region, &place.region);
    set(&mut visit.city, &place.city);
}

fn insert(sorted: &mut Vec<u32>, id: u32) {
    if let Err(at) = sorted.binary_search(&id)
        && sorted.len() < LIST_MAX
    {
        sorted.insert(at, id);
    }
}

#[cfg(test)]
mod tests {
    use fanal_model::Money;

    use super::*;

    #[test]
    fn revenue_of_a_negative_conversion_is_subtracted() {
        let mut visit = Visit::default();
        let amount = Money::parse("12.5").unwrap();
        convert(&mut visit, &Conversion { goal_id: 7, revenue: amount, ..Conversion::default() }, 5);
        convert(
            &mut visit,
            &Conversion { goal_id: 7, revenue: amount, negative: true, ..Conversion::default() },
            9,
        );
        assert_eq!((visit.revenue, visit.conversion_count), (Money::default(), 2));
        let total = GoalTotal { goal_id: 7, conversion_count: 2, first_at_ms: 5, revenue: Money::default() };
        assert_eq!(visit.goals, [total]);
    }

    #[test]
    fn overwriting_custom_data_replaces_its_values() {
        let mut visit = Visit::default();
        let data = |json: &'static str, overwrite| CustomData {
            index: 3,
            values_count_map: json.into(),
            overwrite,
            mapping_identifier: false,
        };
        custom_data(&mut visit, &data(r#"{"a":1,"b":1}"#, false));
        custom_data(&mut visit, &data(r#"{"b":1,"c":1}"#, false));
        assert_eq!(visit.custom_data[&3], ["a", "b", "c"]);
        custom_data(&mut visit, &data(r#"{"d":1}"#, true));
        assert_eq!(visit.custom_data[&3], ["d"]);
    }
}
