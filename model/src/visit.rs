//! A visit: what one visitor did on one site without a pause of the session timeout.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// Why a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// It may still go on.
    #[default]
    StillOpen,
    /// The session timeout passed without an event.
    Timeout,
    /// It was cut because it lasted 24 hours.
    DayLimit,
    /// It was cut because it held as many events as a visit may.
    EventLimit,
}

impl EndReason {
    /// The value of the column `end_reason`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StillOpen => "still_open",
            Self::Timeout => "timeout",
            Self::DayLimit => "day_limit",
            Self::EventLimit => "event_limit",
        }
    }
}

/// The first time that a visit saw one variation of one experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exposure {
    pub experiment_id: u32,
    pub variation_id: u32,
    pub first_at_ms: u64,
}

/// The conversions of one goal in a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GoalTotal {
    pub goal_id: u32,
    pub conversion_count: u32,
    pub first_at_ms: u64,
    /// Negative conversions subtract.
    pub revenue: Money,
}

/// One visit. A pure function of the set of the visitor's events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Visit {
    pub site_code: String,
    pub visitor_code: String,
    /// Made of site, visitor and first event, so that every way of building the
    /// visit gives it the same id.
    pub visit_id: u64,
    pub started_at_ms: u64,
    /// The last event that is not a heartbeat.
    pub last_event_at_ms: u64,
    /// The last event or heartbeat.
    pub last_seen_at_ms: u64,
    /// Time with an event or heartbeat no more than 15 s ago, in milliseconds.
    pub engaged_ms: u64,
    pub event_count: u32,
    pub page_view_count: u32,
    pub conversion_count: u32,
    pub revenue: Money,
    /// Distinct by experiment and variation, sorted by both.
    pub exposures: Vec<Exposure>,
    /// Distinct by goal, sorted by goal.
    pub goals: Vec<GoalTotal>,
    pub landing_url: String,
    pub exit_url: String,
    pub referrer_url: String,
    pub user_agent: String,
    pub device_type: String,
    pub browser: String,
    pub browser_version: String,
    pub os: String,
    pub country: String,
    pub region: String,
    pub city: String,
    pub sdk_name: String,
    pub sdk_version: String,
    /// Whether `user_agent` is a robot's, as the record says that it was taken from.
    pub is_robot: bool,
    /// Values by custom-data index.
    pub custom_data: BTreeMap<i32, Vec<String>>,
    /// Sorted, distinct.
    pub segment_ids: Vec<u32>,
    /// Sorted, distinct.
    pub personalization_ids: Vec<u32>,
    /// `visitNumber` as an SDK sent it, if one did.
    pub previous_visit_count: Option<u32>,
    /// `timeSincePreviousVisit` as an SDK sent it, in milliseconds.
    pub since_previous_ms: Option<u64>,
    pub end_reason: EndReason,
}
