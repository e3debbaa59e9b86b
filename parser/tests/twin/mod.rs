//! The plain twin: what the protocol page says, in the dullest way there is.
//!
//! Splits, collects, decodes into owned text and looks names up in a map; shares
//! no code with the parser. Slow on purpose; what it says is the answer.

#![allow(dead_code, reason = "each test binary uses its part of the twin")]

pub(crate) mod request;

use std::borrow::Cow;
use std::collections::HashMap;

use fanal_model::{
    Conversion, CustomData, Event, EventKind, Experiment, Geolocation, Money, Page, Personalization,
    RejectReason, StaticData, TargetingSegment,
};

const OF_THE_REQUEST: [&str; 4] = ["siteCode", "sdkName", "sdkVersion", "bodyUa"];

const OF_EVERY_KIND: [&str; 5] = ["eventType", "nonce", "visitorCode", "mappingValue", "userAgent"];

const OF_A_KIND: [&str; 27] = [
    "deviceType",
    "browser",
    "browserIndex",
    "browserVersion",
    "os",
    "osIndex",
    "visitNumber",
    "timeSincePreviousVisit",
    "country",
    "region",
    "city",
    "postalCode",
    "latitude",
    "longitude",
    "index",
    "valuesCountMap",
    "overwrite",
    "mappingIdentifier",
    "href",
    "title",
    "referrersIndices",
    "id",
    "variationId",
    "goalId",
    "revenue",
    "negative",
    "metadata",
];

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TwinLine {
    pub code: Option<String>,
    pub mapping: Option<String>,
    pub user_agent: Option<Vec<u8>>,
    pub event: Event<'static>,
}

pub(crate) fn parse(line: &[u8]) -> Result<TwinLine, RejectReason> {
    let mut line = line.to_vec();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.contains(&0) {
        return Err(RejectReason::Binary);
    }
    let pairs = pairs(&line);
    let mut values: HashMap<String, Vec<u8>> = HashMap::new();
    for (name, value) in &pairs {
        if is_known(name) && !value.is_empty() {
            values.entry(lossy(name)).or_insert_with(|| value.clone());
        }
    }
    let kind = text(&values, "eventType").ok_or(RejectReason::MissingEventType)?;
    for name in ["visitorCode", "mappingValue"] {
        if text(&values, name).is_some_and(|code| code.chars().count() > 255) {
            return Err(RejectReason::VisitorTooLong);
        }
    }
    let mut used: Vec<&str> = OF_EVERY_KIND.to_vec();
    let kind = event_kind(&kind, &values, &mut used)?;
    Ok(TwinLine {
        code: text(&values, "visitorCode"),
        mapping: text(&values, "mappingValue"),
        user_agent: values.get("userAgent").cloned(),
        event: Event {
            kind,
            nonce: owned(text(&values, "nonce").unwrap_or_default()),
            extra: extra(&pairs, &used),
        },
    })
}

fn is_known(name: &[u8]) -> bool {
    OF_EVERY_KIND.iter().chain(&OF_A_KIND).any(|known| known.as_bytes() == name)
}

fn extra(pairs: &[(Vec<u8>, Vec<u8>)], used: &[&str]) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
    let mut first: Vec<&[u8]> = Vec::new();
    let mut extra = Vec::new();
    for (name, value) in pairs {
        if OF_THE_REQUEST.iter().any(|n| n.as_bytes() == name) {
            continue;
        }
        if is_known(name) {
            if value.is_empty() {
                continue;
            }
            if !first.contains(&name.as_slice()) {
                first.push(name);
                if used.iter().any(|n| n.as_bytes() == name) {
                    continue;
                }
            }
        }
        extra.push((owned(lossy(name)), owned(decode(value))));
    }
    extra.truncate(1_000);
    extra
}

fn event_kind(
    kind: &str,
    values: &HashMap<String, Vec<u8>>,
    used: &mut Vec<&'static str>,
) -> Result<EventKind<'static>, RejectReason> {
    let plain = kind.replace('_', "").to_ascii_lowercase();
    let mut take = |name: &'static str| {
        used.push(name);
        owned(text(values, name).unwrap_or_default())
    };
    Ok(match plain.as_str() {
        "staticdata" => static_data(values, used),
        "geolocation" => geolocation(values, used),
        "customdata" => EventKind::CustomData(CustomData {
            index: required(values, "index", used, |t| i32::try_from(signed(t)?).ok())?,
            values_count_map: {
                used.push("valuesCountMap");
                owned(text(values, "valuesCountMap").unwrap_or_default())
            },
            overwrite: optional(values, "overwrite", used, flag).unwrap_or(false),
            mapping_identifier: optional(values, "mappingIdentifier", used, flag).unwrap_or(false),
        }),
        "page" => {
            let href = take("href");
            if href.is_empty() {
                return Err(RejectReason::MissingParameter);
            }
            EventKind::Page(Page { href, title: take("title"), referrers_indices: take("referrersIndices") })
        }
        "experiment" => EventKind::Experiment(Experiment {
            experiment_id: required(values, "id", used, whole)?,
            variation_id: required(values, "variationId", used, whole)?,
        }),
        "targetingsegment" => {
            EventKind::TargetingSegment(TargetingSegment { segment_id: required(values, "id", used, whole)? })
        }
        "conversion" => EventKind::Conversion(Conversion {
            goal_id: required(values, "goalId", used, whole)?,
            revenue: optional(values, "revenue", used, Money::parse).unwrap_or_default(),
            negative: optional(values, "negative", used, flag).unwrap_or(false),
            metadata: {
                used.push("metadata");
                owned(text(values, "metadata").unwrap_or_default())
            },
        }),
        "activity" => EventKind::Activity,
        "personalization" => EventKind::Personalization(Personalization {
            personalization_id: required(values, "id", used, whole)?,
            variation_id: required(values, "variationId", used, whole)?,
        }),
        _ => EventKind::Other(owned(kind.to_owned())),
    })
}

fn static_data(values: &HashMap<String, Vec<u8>>, used: &mut Vec<&'static str>) -> EventKind<'static> {
    let any = |t: &str| Some(owned(t.to_owned()));
    let browsers = ["CHROME", "IE", "FIREFOX", "SAFARI", "OPERA", "OTHER"];
    let systems = ["WINDOWS", "MAC", "IOS", "LINUX", "ANDROID", "WINDOWS_PHONE"];
    let browser_index = optional(values, "browserIndex", used, |t| browsers.get(whole(t)? as usize).copied());
    let os_index = optional(values, "osIndex", used, |t| systems.get(whole(t)? as usize).copied());
    EventKind::StaticData(StaticData {
        device_type: optional(values, "deviceType", used, |t| Some(owned(t.to_ascii_uppercase()))),
        browser: optional(values, "browser", used, any).or(browser_index.map(Cow::Borrowed)),
        browser_version: optional(values, "browserVersion", used, any),
        os: optional(values, "os", used, any).or(os_index.map(Cow::Borrowed)),
        visit_number: optional(values, "visitNumber", used, whole),
        since_previous_ms: optional(values, "timeSincePreviousVisit", used, signed),
    })
}

fn geolocation(values: &HashMap<String, Vec<u8>>, used: &mut Vec<&'static str>) -> EventKind<'static> {
    let any = |t: &str| Some(owned(t.to_owned()));
    let degrees = |t: &str| t.parse::<f64>().ok().filter(|n| !n.is_nan() && !n.is_infinite());
    EventKind::Geolocation(Geolocation {
        country: optional(values, "country", used, any).unwrap_or_default(),
        region: optional(values, "region", used, any).unwrap_or_default(),
        city: optional(values, "city", used, any).unwrap_or_default(),
        postal_code: optional(values, "postalCode", used, any).unwrap_or_default(),
        latitude: optional(values, "latitude", used, degrees),
        longitude: optional(values, "longitude", used, degrees),
    })
}

fn required<T>(
    values: &HashMap<String, Vec<u8>>,
    name: &'static str,
    used: &mut Vec<&'static str>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, RejectReason> {
    if !values.contains_key(name) {
        return Err(RejectReason::MissingParameter);
    }
    optional(values, name, used, read).ok_or(RejectReason::InvalidParameter)
}

fn optional<T>(
    values: &HashMap<String, Vec<u8>>,
    name: &'static str,
    used: &mut Vec<&'static str>,
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let value = read(&text(values, name)?)?;
    used.push(name);
    Some(value)
}

fn whole(text: &str) -> Option<u32> {
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn signed(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn flag(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

/// Segments between `&`, each cut at its first `=`; `userAgent=` takes the rest.
pub(crate) fn pairs(line: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let segments: Vec<&[u8]> = line.split(|b| *b == b'&').collect();
    let mut pairs = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        if let Some(agent) = segment.strip_prefix(b"userAgent=") {
            let mut value = agent.to_vec();
            for more in &segments[at + 1..] {
                value.push(b'&');
                value.extend_from_slice(more);
            }
            pairs.push((b"userAgent".to_vec(), value));
            break;
        }
        if segment.is_empty() {
            continue;
        }
        let mut halves = segment.splitn(2, |b| *b == b'=');
        let name = halves.next().unwrap_or_default().to_vec();
        pairs.push((name, halves.next().unwrap_or_default().to_vec()));
    }
    pairs
}

fn text(values: &HashMap<String, Vec<u8>>, name: &str) -> Option<String> {
    values.get(name).map(|raw| decode(raw))
}

pub(crate) fn decode(raw: &[u8]) -> String {
    lossy(&decode_bytes(raw))
}

pub(crate) fn decode_bytes(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let digits = raw.get(at + 1..at + 3).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        match byte {
            Some(byte) if raw[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(raw[at]);
                at += 1;
            }
        }
    }
    out
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn owned(text: String) -> Cow<'static, str> {
    Cow::Owned(text)
}
