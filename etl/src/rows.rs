//! Events and visits as table rows. Streaming and rebuild both write through
//! here, so that their rows are equal.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use fanal_model::{Beacon, EndReason, EventKind, RULES_VERSION, Visit};
use fanal_profiles::ProfileLink;
use fanal_storage::clickhouse::{EventRow, LinkRow, OutcomeRow, VisitRow};
use fanal_storage::log::Partition;
use xxhash_rust::xxh3::Xxh3;

use crate::acquisition::{Campaign, channel};
use crate::visit::VisitorEvent;

/// Version of a row that streaming writes: true up to this event-log offset.
#[must_use]
pub fn streamed_version(end_offset: u64) -> u64 {
    end_offset << 1
}

/// Version of a row that a rebuild writes: at equal offsets the rebuild is
/// right, since it alone sees late events.
#[must_use]
pub fn rebuilt_version(end_offset: u64) -> u64 {
    end_offset << 1 | 1
}

/// The versions of partitions in SQL, by the column `log_partition`; 0 for others.
pub(crate) fn version_by_partition(versions: impl Iterator<Item = (u32, u64)>) -> String {
    let pairs = versions.map(|(p, v)| (format!("toUInt32({p})"), format!("toUInt64({v})")));
    let (partitions, versions): (Vec<String>, Vec<String>) = pairs.unzip();
    if partitions.is_empty() {
        return "toUInt64(0)".to_owned();
    }
    format!("transform(log_partition, [{}], [{}], toUInt64(0))", partitions.join(","), versions.join(","))
}

/// Hash of all measures of a visit; equal visits have equal rows.
#[must_use]
pub fn visit_hash(visit: &Visit) -> u64 {
    let mut hash = Xxh3::new();
    RULES_VERSION.hash(&mut hash);
    visit.hash(&mut hash);
    // 0 is kept for "not known what the table holds".
    hash.finish().max(1)
}

/// The row of an event in a visit (`visit_id` 0: in none).
#[must_use]
pub fn event_row(event: &VisitorEvent<'_>, visit_id: u64, partition: Partition, version: u64) -> EventRow {
    let beacon = &event.beacon;
    let mut row = EventRow {
        site_code: beacon.site_code.to_owned(),
        event_at: millis(event.at_ms()),
        line_number: beacon.line_number,
        event_type: event.event.kind.name().to_owned(),
        visitor_code: beacon.visitor().to_owned(),
        visit_id,
        event_id: event.event_id,
        nonce: event.event.nonce.to_string(),
        is_heartbeat: event.is_heartbeat(),
        extra: extra(event),
        sdk_name: beacon.sdk_name.to_owned(),
        sdk_version: beacon.sdk_version.to_owned(),
        source: beacon.source.name().to_owned(),
        node: beacon.node.to_owned(),
        is_bot: beacon.is_robot(),
        rules_version: RULES_VERSION,
        log_partition: partition.number(),
        version,
        ..EventRow::default()
    };
    match &event.event.kind {
        EventKind::Page(page) => {
            row.page_url = page.href.to_string();
            row.page_title = page.title.to_string();
        }
        EventKind::Conversion(conversion) => {
            row.goal_id = conversion.goal_id;
            row.revenue = conversion.revenue.ten_thousandths();
            row.is_negative = conversion.negative;
            let metadata = fanal_parser::counts::metadata(&conversion.metadata).unwrap_or_default();
            row.goal_metadata = metadata.into_iter().collect();
        }
        EventKind::Experiment(experiment) => {
            row.experiment_id = experiment.experiment_id;
            row.variation_id = experiment.variation_id;
        }
        EventKind::CustomData(data) => {
            row.custom_data_index = data.index;
            let values = fanal_parser::counts::values(&data.values_count_map).unwrap_or_default();
            // SDKs always count 1: the map is a set.
            row.custom_data_values = values.into_iter().map(|value| (value, 1)).collect();
        }
        EventKind::TargetingSegment(segment) => row.segment_id = segment.segment_id,
        EventKind::Personalization(shown) => {
            row.personalization_id = shown.personalization_id;
            row.variation_id = shown.variation_id;
        }
        EventKind::StaticData(_) | EventKind::Geolocation(_) | EventKind::Activity | EventKind::Other(_) => {}
    }
    row
}

/// Parameters that stand in a column of their own, whatever the kind.
const OWN_COLUMN: &[&str] =
    &["eventType", "nonce", "visitorCode", "userAgent", "siteCode", "sdkName", "sdkVersion", "bodyUa"];

/// Places finer than a city are personal data that no measure needs.
const NOT_STORED: &[&str] = &["postalCode", "latitude", "longitude"];

/// Every parameter of the line without a column, by its name on the wire.
fn extra(event: &VisitorEvent<'_>) -> Vec<(String, String)> {
    let own: &[&str] = match &event.event.kind {
        EventKind::Page(_) => &["href", "title"],
        EventKind::Conversion(_) => &["goalId", "revenue", "negative", "metadata"],
        EventKind::Experiment(_) | EventKind::Personalization(_) => &["id", "variationId"],
        EventKind::TargetingSegment(_) => &["id"],
        EventKind::CustomData(_) => &["index", "valuesCountMap"],
        EventKind::StaticData(_) | EventKind::Geolocation(_) | EventKind::Activity => &[],
        // The kind itself is worth keeping where it is not one of ours.
        EventKind::Other(_) => &[],
    };
    let unread = |name: &str| event.event.extra.iter().any(|(known, _)| known == name);
    let mut kept = Vec::new();
    if let EventKind::Other(kind) = &event.event.kind {
        kept.push(("eventType".to_owned(), kind.to_string()));
    }
    for parameter in event.beacon.line.split(|byte| *byte == b'&') {
        if parameter.starts_with(b"userAgent=") {
            break;
        }
        let at = parameter.iter().position(|byte| *byte == b'=').unwrap_or(parameter.len());
        let name = fanal_parser::decode(&parameter[..at]);
        let has_column = OWN_COLUMN.contains(&&*name) || (own.contains(&&*name) && !unread(&name));
        if name.is_empty() || has_column || NOT_STORED.contains(&&*name) {
            continue;
        }
        let value = fanal_parser::decode(parameter.get(at + 1..).unwrap_or_default());
        if !kept.iter().any(|(known, _)| *known == name) {
            kept.push((name.into_owned(), value.into_owned()));
        }
    }
    kept
}

/// The link that a mapping custom data states, if the event is one.
#[must_use]
pub fn link_row(event: &VisitorEvent<'_>) -> Option<LinkRow> {
    let EventKind::CustomData(data) = &event.event.kind else { return None };
    if !data.mapping_identifier {
        return None;
    }
    let mapping_value = fanal_parser::counts::values(&data.values_count_map)?.into_iter().next()?;
    Some(LinkRow {
        site_code: event.beacon.site_code.to_owned(),
        mapping_value,
        visitor_code: event.beacon.visitor().to_owned(),
        linked_at: millis(event.at_ms()),
    })
}

/// The same link for the profile store.
#[must_use]
pub fn profile_link(row: &LinkRow) -> ProfileLink {
    ProfileLink {
        site_code: row.site_code.clone(),
        mapping_value: row.mapping_value.clone(),
        visitor_code: row.visitor_code.clone(),
        linked_at_ms: u64::try_from(row.linked_at).unwrap_or(0),
    }
}

/// The row that counts the record at `offset` as a duplicate, or no longer.
#[must_use]
pub fn duplicate_row(
    partition: Partition,
    offset: u64,
    beacon: &Beacon<'_>,
    version: u64,
    is_deleted: bool,
) -> OutcomeRow {
    OutcomeRow {
        log_partition: partition.number(),
        first_offset: offset,
        site_code: beacon.site_code.to_owned(),
        minute: minute(beacon.received_at_ms),
        outcome: "duplicate".to_owned(),
        count: 1,
        version,
        is_deleted: u8::from(is_deleted),
    }
}

/// Start of the minute, in seconds since the epoch.
#[must_use]
pub fn minute(at_ms: u64) -> u32 {
    u32::try_from(at_ms / 60_000 * 60).unwrap_or(u32::MAX)
}

/// The row of a visit.
#[must_use]
pub fn visit_row(visit: &Visit, partition: Partition, version: u64) -> VisitRow {
    let campaign = Campaign::of(&visit.landing_url);
    let text = |value: &Cow<'_, str>| value.to_string();
    VisitRow {
        site_code: visit.site_code.clone(),
        visit_id: visit.visit_id,
        visitor_code: visit.visitor_code.clone(),
        previous_visit_count: visit.previous_visit_count.unwrap_or(0),
        since_previous_s: seconds(visit.since_previous_ms.unwrap_or(0)),
        started_at: millis(visit.started_at_ms),
        last_event_at: millis(visit.last_event_at_ms),
        last_seen_at: millis(visit.last_seen_at_ms),
        duration_s: seconds(visit.last_event_at_ms - visit.started_at_ms),
        engaged_s: seconds(visit.engaged_ms),
        end_reason: visit.end_reason.name().to_owned(),
        event_count: visit.event_count,
        page_view_count: visit.page_view_count,
        conversion_count: visit.conversion_count,
        revenue: visit.revenue.ten_thousandths(),
        is_bounce: visit.page_view_count <= 1 && visit.conversion_count == 0,
        landing_url: visit.landing_url.clone(),
        exit_url: visit.exit_url.clone(),
        referrer_url: visit.referrer_url.clone(),
        channel: channel(&campaign, &visit.referrer_url, &visit.landing_url).to_owned(),
        utm_source: text(&campaign.source),
        utm_medium: text(&campaign.medium),
        utm_campaign: text(&campaign.campaign),
        utm_term: text(&campaign.term),
        utm_content: text(&campaign.content),
        device_type: visit.device_type.clone(),
        browser: visit.browser.clone(),
        browser_version: visit.browser_version.clone(),
        os: visit.os.clone(),
        country_code: country_code(&visit.country),
        country: visit.country.clone(),
        region: visit.region.clone(),
        city: visit.city.clone(),
        sdk_name: visit.sdk_name.clone(),
        sdk_version: visit.sdk_version.clone(),
        exposure_experiment_ids: visit.exposures.iter().map(|e| e.experiment_id).collect(),
        exposure_variation_ids: visit.exposures.iter().map(|e| e.variation_id).collect(),
        exposure_first_at: visit.exposures.iter().map(|e| millis(e.first_at_ms)).collect(),
        goal_ids: visit.goals.iter().map(|g| g.goal_id).collect(),
        goal_conversion_counts: visit.goals.iter().map(|g| g.conversion_count).collect(),
        goal_first_at: visit.goals.iter().map(|g| millis(g.first_at_ms)).collect(),
        goal_revenues: visit.goals.iter().map(|g| g.revenue.ten_thousandths()).collect(),
        custom_data: visit.custom_data.iter().map(|(index, values)| (*index, values.clone())).collect(),
        segment_ids: visit.segment_ids.clone(),
        personalization_ids: visit.personalization_ids.clone(),
        is_bot: visit.is_robot,
        is_outlier: matches!(visit.end_reason, EndReason::DayLimit | EndReason::EventLimit),
        rules_version: RULES_VERSION,
        // The embedded log has this partition alone.
        row_hash: visit_hash(visit),
        log_partition: partition.number(),
        version,
        is_deleted: 0,
    }
}

/// The row that removes a visit: its key, and nothing else of it.
#[must_use]
pub fn gone_visit_row(
    site_code: String,
    visitor_code: String,
    visit_id: u64,
    started_at_ms: u64,
    partition: Partition,
    version: u64,
) -> VisitRow {
    VisitRow {
        site_code,
        visitor_code,
        visit_id,
        started_at: millis(started_at_ms),
        last_event_at: millis(started_at_ms),
        last_seen_at: millis(started_at_ms),
        rules_version: RULES_VERSION,
        log_partition: partition.number(),
        version,
        is_deleted: 1,
        ..VisitRow::default()
    }
}

/// Only what is a code already: SDKs send names, which stay in `country`.
fn country_code(country: &str) -> String {
    let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_alphabetic());
    if is_code { country.to_ascii_uppercase() } else { String::new() }
}

fn millis(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}
