//! A visit as bytes: one byte that names the encoding, then protobuf.
//!
//! Protobuf, because fields that are added later are passed over by programs that do
//! not know them, and empty ones (most of a short visit) take no room. Only a change
//! of meaning raises the first byte; programs that do not know it refuse by name.
//! What must stay true: the same visit gives the same bytes; tags are never reused.

mod messages;

use fanal_model::Visit;
use prost::Message;

use crate::batch::ProfileVisit;
use crate::error::ProfileError;
use crate::metrics;
use crate::writes::SlotKey;
use messages::{StoredSlot, StoredVisit};

const ENCODING: u8 = 1;
/// The most bytes that a visit takes. Only custom data gets that long; a mutation of
/// Cassandra has an end too.
const DATA_BYTES_MAX: usize = 256 * 1024;
/// A text of a visit that is too large even without custom data is cut to this.
const TEXT_BYTES_MAX: usize = 8 * 1024;

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
        stored.cut_texts(TEXT_BYTES_MAX);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fanal_model::{EndReason, Exposure, GoalTotal, Money};

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
            is_robot: true,
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
