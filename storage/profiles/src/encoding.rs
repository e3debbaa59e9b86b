//! A visit as bytes: one byte that names the encoding, then protobuf.
//!
//! Protobuf, because fields that are added later are passed over by programs that do
//! not know them, and empty ones (most of a short visit) take no room. Only a change
//! of meaning raises the first byte; programs that do not know it refuse by name.
//! What must stay true: the same visit gives the same bytes; tags are never reused.

use std::collections::BTreeMap;

use fanal_model::{EndReason, Exposure, GoalTotal, Money, Visit};
use prost::Message;

use crate::batch::ProfileVisit;
use crate::error::ProfileError;
use crate::metrics;
use crate::writes::SlotKey;

const ENCODING: u8 = 1;
/// The most bytes that a visit takes. Only custom data gets that long; a mutation of
/// Cassandra has an end too.
const DATA_BYTES_MAX: usize = 256 * 1024;
/// A text of a visit that is too large even without custom data is cut to this.
const TEXT_BYTES_MAX: usize = 8 * 1024;

#[derive(Clone, PartialEq, Message)]
struct StoredSlot {
    #[prost(uint64, tag = "1")]
    version: u64,
    /// Missing: the visit exists no longer.
    #[prost(message, optional, boxed, tag = "2")]
    visit: Option<Box<StoredVisit>>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredVisit {
    #[prost(uint64, tag = "1")]
    last_event_after_ms: u64,
    #[prost(uint64, tag = "2")]
    last_seen_after_ms: u64,
    #[prost(uint64, tag = "3")]
    engaged_ms: u64,
    #[prost(uint32, tag = "4")]
    event_count: u32,
    #[prost(uint32, tag = "5")]
    page_view_count: u32,
    #[prost(uint32, tag = "6")]
    conversion_count: u32,
    #[prost(sint64, tag = "7")]
    revenue: i64,
    #[prost(message, repeated, tag = "8")]
    exposures: Vec<StoredExposure>,
    #[prost(message, repeated, tag = "9")]
    goals: Vec<StoredGoal>,
    #[prost(string, tag = "10")]
    landing_url: String,
    #[prost(string, tag = "11")]
    exit_url: String,
    #[prost(string, tag = "12")]
    referrer_url: String,
    #[prost(string, tag = "13")]
    user_agent: String,
    #[prost(string, tag = "14")]
    device_type: String,
    #[prost(string, tag = "15")]
    browser: String,
    #[prost(string, tag = "16")]
    browser_version: String,
    #[prost(string, tag = "17")]
    os: String,
    #[prost(string, tag = "18")]
    country: String,
    #[prost(string, tag = "19")]
    region: String,
    #[prost(string, tag = "20")]
    city: String,
    #[prost(string, tag = "21")]
    sdk_name: String,
    #[prost(string, tag = "22")]
    sdk_version: String,
    #[prost(message, repeated, tag = "23")]
    custom_data: Vec<StoredCustomData>,
    #[prost(uint32, repeated, tag = "24")]
    segment_ids: Vec<u32>,
    #[prost(uint32, repeated, tag = "25")]
    personalization_ids: Vec<u32>,
    #[prost(uint32, optional, tag = "26")]
    previous_visit_count: Option<u32>,
    #[prost(uint64, optional, tag = "27")]
    since_previous_ms: Option<u64>,
    /// 0 still open, 1 timeout, 2 day limit, 3 event limit.
    #[prost(uint32, tag = "28")]
    end_reason: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredExposure {
    #[prost(uint32, tag = "1")]
    experiment_id: u32,
    #[prost(uint32, tag = "2")]
    variation_id: u32,
    #[prost(sint64, tag = "3")]
    first_after_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredGoal {
    #[prost(uint32, tag = "1")]
    goal_id: u32,
    #[prost(uint32, tag = "2")]
    conversion_count: u32,
    #[prost(sint64, tag = "3")]
    first_after_ms: i64,
    #[prost(sint64, tag = "4")]
    revenue: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCustomData {
    #[prost(sint32, tag = "1")]
    index: i32,
    #[prost(string, repeated, tag = "2")]
    values: Vec<String>,
}

/// The bytes of a visit; site, visitor, id and start are its key.
pub(crate) fn visit(visit: &Visit, version: u64) -> Vec<u8> {
    let mut stored = StoredVisit::of(visit);
    let mut length = stored.encoded_len();
    if length > DATA_BYTES_MAX {
        metrics::shortened();
        stored.custom_data.clear();
        length = stored.encoded_len();
    }
    if length > DATA_BYTES_MAX {
        stored.cut_texts();
    }
    encode(&StoredSlot { version, visit: Some(Box::new(stored)) })
}

/// The bytes that say that there is no such visit.
pub(crate) fn gone(version: u64) -> Vec<u8> {
    encode(&StoredSlot { version, visit: None })
}

/// Reads either of them; `None` if the visit is gone.
pub(crate) fn read(key: &SlotKey, data: &[u8]) -> Result<Option<ProfileVisit>, ProfileError> {
    let damaged = |problem: String| ProfileError::Damaged {
        site_code: key.site_code.clone(),
        visitor_code: key.visitor_code.clone(),
        problem,
    };
    let (encoding, body) = data.split_first().ok_or_else(|| damaged("it is empty".to_owned()))?;
    if *encoding != ENCODING {
        return Err(ProfileError::NewerEncoding { found: *encoding, known: ENCODING });
    }
    let slot = StoredSlot::decode(body).map_err(|error| damaged(error.to_string()))?;
    let Some(stored) = slot.visit else { return Ok(None) };
    let visit = stored.into_visit(key).ok_or_else(|| damaged("its end reason is not known".to_owned()))?;
    Ok(Some(ProfileVisit { visit, version: slot.version }))
}

fn encode(slot: &StoredSlot) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + slot.encoded_len());
    data.push(ENCODING);
    slot.encode_raw(&mut data);
    data
}

impl StoredVisit {
    fn of(visit: &Visit) -> Self {
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

    fn into_visit(self, key: &SlotKey) -> Option<Visit> {
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

    fn cut_texts(&mut self) {
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
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
    }
}

impl StoredExposure {
    fn of(exposure: &Exposure, start: u64) -> Self {
        Self {
            experiment_id: exposure.experiment_id,
            variation_id: exposure.variation_id,
            first_after_ms: after(exposure.first_at_ms, start),
        }
    }

    fn into_exposure(self, start: u64) -> Exposure {
        Exposure {
            experiment_id: self.experiment_id,
            variation_id: self.variation_id,
            first_at_ms: start.saturating_add_signed(self.first_after_ms),
        }
    }
}

impl StoredGoal {
    fn of(goal: &GoalTotal, start: u64) -> Self {
        Self {
            goal_id: goal.goal_id,
            conversion_count: goal.conversion_count,
            first_after_ms: after(goal.first_at_ms, start),
            revenue: goal.revenue.ten_thousandths(),
        }
    }

    fn into_goal(self, start: u64) -> GoalTotal {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(visit: &Visit) -> SlotKey {
        SlotKey {
            site_code: visit.site_code.clone(),
            visitor_code: visit.visitor_code.clone(),
            started_at_ms: visit.started_at_ms,
            visit_id: visit.visit_id,
        }
    }

    fn full() -> Visit {
        let text = |name: &str| format!("{name} é");
        Visit {
            site_code: text("site"),
            visitor_code: text("visitor"),
            visit_id: u64::MAX,
            started_at_ms: 1_700_000_000_000,
            last_event_at_ms: 1_700_000_100_000,
            last_seen_at_ms: 1_700_000_200_000,
            engaged_ms: 90_000,
            event_count: 1,
            page_view_count: 2,
            conversion_count: 3,
            revenue: Money::from_ten_thousandths(-45),
            exposures: vec![Exposure { experiment_id: 4, variation_id: 0, first_at_ms: 1_700_000_000_001 }],
            goals: vec![GoalTotal {
                goal_id: 5,
                conversion_count: 6,
                first_at_ms: 1_700_000_000_002,
                revenue: Money::from_ten_thousandths(Money::MAX),
            }],
            landing_url: text("landing"),
            exit_url: text("exit"),
            referrer_url: text("referrer"),
            user_agent: text("agent"),
            device_type: text("device"),
            browser: text("browser"),
            browser_version: text("browser version"),
            os: text("os"),
            country: text("country"),
            region: text("region"),
            city: text("city"),
            sdk_name: text("sdk"),
            sdk_version: text("sdk version"),
            custom_data: BTreeMap::from([(-1, vec!["a".to_owned(), String::new()]), (7, vec![])]),
            segment_ids: vec![8, 9],
            personalization_ids: vec![10],
            previous_visit_count: Some(0),
            since_previous_ms: Some(0),
            end_reason: EndReason::EventLimit,
        }
    }

    #[test]
    fn every_field_of_a_visit_reads_back() {
        for visit in [full(), Visit::default()] {
            let stored = read(&key(&visit), &super::visit(&visit, 12)).unwrap().unwrap();
            assert_eq!(stored, ProfileVisit { visit, version: 12 });
        }
    }

    #[test]
    fn a_removal_reads_back_as_no_visit() {
        assert_eq!(read(&key(&full()), &gone(3)).unwrap(), None);
    }

    #[test]
    fn another_encoding_is_refused_by_name() {
        let mut data = super::visit(&full(), 1);
        data[0] = 2;
        let error = read(&key(&full()), &data).unwrap_err();
        assert!(matches!(error, ProfileError::NewerEncoding { found: 2, known: 1 }), "{error}");
    }

    #[test]
    fn damaged_bytes_are_an_error_and_not_a_visit() {
        let data = super::visit(&full(), 1);
        for length in [0, 2, data.len() - 1] {
            let error = read(&key(&full()), &data[..length]).unwrap_err();
            assert!(matches!(error, ProfileError::Damaged { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn an_added_field_is_passed_over() {
        let mut data = super::visit(&full(), 1);
        // Tag 99, a varint.
        data.extend_from_slice(&[0x98, 0x06, 0x05]);
        assert_eq!(read(&key(&full()), &data).unwrap().unwrap().visit, full());
    }

    #[test]
    fn a_visit_that_is_too_large_loses_custom_data_before_anything_else() {
        let mut large = full();
        large.custom_data.insert(1, vec!["x".repeat(DATA_BYTES_MAX)]);
        let stored = read(&key(&large), &super::visit(&large, 1)).unwrap().unwrap().visit;
        assert_eq!(stored, Visit { custom_data: BTreeMap::new(), ..full() });
        large.landing_url = "é".repeat(DATA_BYTES_MAX);
        let data = super::visit(&large, 1);
        assert!(data.len() < DATA_BYTES_MAX, "{}", data.len());
        assert_eq!(read(&key(&large), &data).unwrap().unwrap().visit.landing_url.len(), TEXT_BYTES_MAX);
    }
}
