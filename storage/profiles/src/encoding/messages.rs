//! The protobuf messages, and a visit as one of them.

use std::collections::BTreeMap;

use fanal_model::{EndReason, Exposure, GoalTotal, Money, Visit};
use prost::Message;

use crate::writes::SlotKey;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSlot {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    /// Missing: the visit exists no longer.
    #[prost(message, optional, boxed, tag = "2")]
    pub(super) visit: Option<Box<StoredVisit>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredVisit {
    #[prost(uint64, tag = "1")]
    pub(super) last_event_after_ms: u64,
    #[prost(uint64, tag = "2")]
    pub(super) last_seen_after_ms: u64,
    #[prost(uint64, tag = "3")]
    pub(super) engaged_ms: u64,
    #[prost(uint32, tag = "4")]
    pub(super) event_count: u32,
    #[prost(uint32, tag = "5")]
    pub(super) page_view_count: u32,
    #[prost(uint32, tag = "6")]
    pub(super) conversion_count: u32,
    #[prost(sint64, tag = "7")]
    pub(super) revenue: i64,
    #[prost(message, repeated, tag = "8")]
    pub(super) exposures: Vec<StoredExposure>,
    #[prost(message, repeated, tag = "9")]
    pub(super) goals: Vec<StoredGoal>,
    #[prost(string, tag = "10")]
    pub(super) landing_url: String,
    #[prost(string, tag = "11")]
    pub(super) exit_url: String,
    #[prost(string, tag = "12")]
    pub(super) referrer_url: String,
    #[prost(string, tag = "13")]
    pub(super) user_agent: String,
    #[prost(string, tag = "14")]
    pub(super) device_type: String,
    #[prost(string, tag = "15")]
    pub(super) browser: String,
    #[prost(string, tag = "16")]
    pub(super) browser_version: String,
    #[prost(string, tag = "17")]
    pub(super) os: String,
    #[prost(string, tag = "18")]
    pub(super) country: String,
    #[prost(string, tag = "19")]
    pub(super) region: String,
    #[prost(string, tag = "20")]
    pub(super) city: String,
    #[prost(string, tag = "21")]
    pub(super) sdk_name: String,
    #[prost(string, tag = "22")]
    pub(super) sdk_version: String,
    #[prost(message, repeated, tag = "23")]
    pub(super) custom_data: Vec<StoredCustomData>,
    #[prost(uint32, repeated, tag = "24")]
    pub(super) segment_ids: Vec<u32>,
    #[prost(uint32, repeated, tag = "25")]
    pub(super) personalization_ids: Vec<u32>,
    #[prost(uint32, optional, tag = "26")]
    pub(super) previous_visit_count: Option<u32>,
    #[prost(uint64, optional, tag = "27")]
    pub(super) since_previous_ms: Option<u64>,
    /// 0 still open, 1 timeout, 2 day limit, 3 event limit.
    #[prost(uint32, tag = "28")]
    pub(super) end_reason: u32,
    #[prost(bool, tag = "29")]
    pub(super) is_robot: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredExposure {
    #[prost(uint32, tag = "1")]
    pub(super) experiment_id: u32,
    #[prost(uint32, tag = "2")]
    pub(super) variation_id: u32,
    #[prost(sint64, tag = "3")]
    pub(super) first_after_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredGoal {
    #[prost(uint32, tag = "1")]
    pub(super) goal_id: u32,
    #[prost(uint32, tag = "2")]
    pub(super) conversion_count: u32,
    #[prost(sint64, tag = "3")]
    pub(super) first_after_ms: i64,
    #[prost(sint64, tag = "4")]
    pub(super) revenue: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredCustomData {
    #[prost(sint32, tag = "1")]
    pub(super) index: i32,
    #[prost(string, repeated, tag = "2")]
    pub(super) values: Vec<String>,
}

impl StoredVisit {
    pub(super) fn of(visit: &Visit) -> Self {
        let start = visit.started_at_ms;
        Self {
            last_event_after_ms: visit.last_event_at_ms.saturating_sub(start),
            last_seen_after_ms: visit.last_seen_at_ms.saturating_sub(start),
            engaged_ms: visit.engaged_ms,
            event_count: visit.event_count,
            page_view_count: visit.page_view_count,
            conversion_count: visit.conversion_count,
            revenue: visit.revenue.ten_thousandths(),
            exposures: visit.exposures.iter().map(|exposure| StoredExposure::of(exposure, start)).collect(),
            goals: visit.goals.iter().map(|goal| StoredGoal::of(goal, start)).collect(),
            landing_url: visit.landing_url.clone(),
            exit_url: visit.exit_url.clone(),
            referrer_url: visit.referrer_url.clone(),
            user_agent: visit.user_agent.clone(),
            device_type: visit.device_type.clone(),
            browser: visit.browser.clone(),
            browser_version: visit.browser_version.clone(),
            os: visit.os.clone(),
            country: visit.country.clone(),
            region: visit.region.clone(),
            city: visit.city.clone(),
            sdk_name: visit.sdk_name.clone(),
            sdk_version: visit.sdk_version.clone(),
            is_robot: visit.is_robot,
            custom_data: visit
                .custom_data
                .iter()
                .map(|(index, values)| StoredCustomData { index: *index, values: values.clone() })
                .collect(),
            segment_ids: visit.segment_ids.clone(),
            personalization_ids: visit.personalization_ids.clone(),
            previous_visit_count: visit.previous_visit_count,
            since_previous_ms: visit.since_previous_ms,
            end_reason: match visit.end_reason {
                EndReason::StillOpen => 0,
                EndReason::Timeout => 1,
                EndReason::DayLimit => 2,
                EndReason::EventLimit => 3,
            },
        }
    }

    pub(super) fn into_visit(self, key: &SlotKey) -> Option<Visit> {
        let start = key.started_at_ms;
        Some(Visit {
            site_code: key.site_code.clone(),
            visitor_code: key.visitor_code.clone(),
            visit_id: key.visit_id,
            started_at_ms: start,
            last_event_at_ms: start.saturating_add(self.last_event_after_ms),
            last_seen_at_ms: start.saturating_add(self.last_seen_after_ms),
            engaged_ms: self.engaged_ms,
            event_count: self.event_count,
            page_view_count: self.page_view_count,
            conversion_count: self.conversion_count,
            revenue: Money::from_ten_thousandths(self.revenue),
            exposures: self.exposures.into_iter().map(|exposure| exposure.into_exposure(start)).collect(),
            goals: self.goals.into_iter().map(|goal| goal.into_goal(start)).collect(),
            landing_url: self.landing_url,
            exit_url: self.exit_url,
            referrer_url: self.referrer_url,
            user_agent: self.user_agent,
            device_type: self.device_type,
            browser: self.browser,
            browser_version: self.browser_version,
            os: self.os,
            country: self.country,
            region: self.region,
            city: self.city,
            sdk_name: self.sdk_name,
            sdk_version: self.sdk_version,
            is_robot: self.is_robot,
            custom_data: self
                .custom_data
                .into_iter()
                .map(|data| (data.index, data.values))
                .collect::<BTreeMap<_, _>>(),
            segment_ids: self.segment_ids,
            personalization_ids: self.personalization_ids,
            previous_visit_count: self.previous_visit_count,
            since_previous_ms: self.since_previous_ms,
            end_reason: match self.end_reason {
                0 => EndReason::StillOpen,
                1 => EndReason::Timeout,
                2 => EndReason::DayLimit,
                3 => EndReason::EventLimit,
                _ => return None,
            },
        })
    }

    pub(super) fn cut_texts(&mut self, bytes_max: usize) {
        let texts = [
            &mut self.landing_url,
            &mut self.exit_url,
            &mut self.referrer_url,
            &mut self.user_agent,
            &mut self.device_type,
            &mut self.browser,
            &mut self.browser_version,
            &mut self.os,
            &mut self.country,
            &mut self.region,
            &mut self.city,
            &mut self.sdk_name,
            &mut self.sdk_version,
        ];
        for text in texts {
            text.truncate(text.floor_char_boundary(bytes_max));
        }
    }
}

impl StoredExposure {
    pub(super) fn of(exposure: &Exposure, start: u64) -> Self {
        Self {
            experiment_id: exposure.experiment_id,
            variation_id: exposure.variation_id,
            first_after_ms: after(exposure.first_at_ms, start),
        }
    }

    pub(super) fn into_exposure(self, start: u64) -> Exposure {
        Exposure {
            experiment_id: self.experiment_id,
            variation_id: self.variation_id,
            first_at_ms: start.saturating_add_signed(self.first_after_ms),
        }
    }
}

impl StoredGoal {
    pub(super) fn of(goal: &GoalTotal, start: u64) -> Self {
        Self {
            goal_id: goal.goal_id,
            conversion_count: goal.conversion_count,
            first_after_ms: after(goal.first_at_ms, start),
            revenue: goal.revenue.ten_thousandths(),
        }
    }

    pub(super) fn into_goal(self, start: u64) -> GoalTotal {
        GoalTotal {
            goal_id: self.goal_id,
            conversion_count: self.conversion_count,
            first_at_ms: start.saturating_add_signed(self.first_after_ms),
            revenue: Money::from_ten_thousandths(self.revenue),
        }
    }
}

/// Times are stored as distances from the start: three bytes instead of six.
fn after(at_ms: u64, start_ms: u64) -> i64 {
    let distance = i128::from(at_ms) - i128::from(start_ms);
    i64::try_from(distance).unwrap_or(if distance < 0 { i64::MIN } else { i64::MAX })
}
