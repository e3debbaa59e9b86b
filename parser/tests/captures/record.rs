//! Beacons and events as JSON, field by field.

use fanal_model::{Beacon, DeadLetter, Event, EventKind};
use fanal_parser::{Sink, line};
pub(crate) use serde_json::{Value, json};

/// Keeps what the receiver hands out.
#[derive(Default)]
pub(crate) struct Records(pub(crate) Vec<Value>);

impl Sink for Records {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        let event = line::parse(beacon.line).unwrap().event();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.0.push(json!({
            "site_code": beacon.site_code,
            "visitor_code": beacon.visitor_code,
            "mapping_value": beacon.mapping_value,
            "client_address": beacon.client_address,
            "user_agent": text(beacon.user_agent),
            "referer": text(beacon.referer),
            "source": beacon.source.name(),
            "node": beacon.node,
            "received_at_ms": beacon.received_at_ms,
            "line": text(beacon.line),
            "line_number": beacon.line_number,
            "visitor_lines": beacon.visitor_lines,
            "sdk": [beacon.sdk_name, beacon.sdk_version],
            "robot": beacon.robot,
            "event": event_json(&event),
        }));
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.0.push(json!({ "rejected": letter.reason }));
    }
}

fn event_json(event: &Event<'_>) -> Value {
    let extra: Vec<_> = event.extra.iter().map(|(name, value)| json!([name, value])).collect();
    json!({ "type": event.kind.name(), "nonce": event.nonce, "extra": extra, "values": values(&event.kind) })
}

fn values(kind: &EventKind<'_>) -> Value {
    match kind {
        EventKind::StaticData(data) => json!({
            "device_type": data.device_type,
            "browser": data.browser,
            "browser_version": data.browser_version,
            "os": data.os,
            "visit_number": data.visit_number,
            "since_previous_ms": data.since_previous_ms,
        }),
        EventKind::Geolocation(place) => json!({
            "country": place.country,
            "region": place.region,
            "city": place.city,
            "postal_code": place.postal_code,
            "latitude": place.latitude,
            "longitude": place.longitude,
        }),
        EventKind::CustomData(data) => json!({
            "index": data.index,
            "values_count_map": data.values_count_map,
            "values": fanal_parser::counts::values(&data.values_count_map),
            "overwrite": data.overwrite,
            "mapping_identifier": data.mapping_identifier,
        }),
        EventKind::Page(page) => json!({
            "href": page.href,
            "title": page.title,
            "referrers_indices": page.referrers_indices,
        }),
        EventKind::Experiment(e) => {
            json!({ "experiment_id": e.experiment_id, "variation_id": e.variation_id })
        }
        EventKind::TargetingSegment(s) => json!({ "segment_id": s.segment_id }),
        EventKind::Conversion(c) => json!({
            "goal_id": c.goal_id,
            "revenue": c.revenue.to_string(),
            "negative": c.negative,
            "metadata": c.metadata,
            "metadata_values": fanal_parser::counts::metadata(&c.metadata),
        }),
        EventKind::Activity => Value::Null,
        EventKind::Personalization(p) => {
            json!({ "personalization_id": p.personalization_id, "variation_id": p.variation_id })
        }
        EventKind::Other(name) => json!({ "event_type": name }),
    }
}
