//! What a tracking line says: one kind of the wire protocol, with its values.

use std::borrow::Cow;

use crate::money::Money;

/// A decoded tracking line. Borrows from the line wherever nothing had to be
/// percent-decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    pub kind: EventKind<'a>,
    /// 16 hexadecimal characters from SDKs; empty when the sender gave none.
    pub nonce: Cow<'a, str>,
    /// Parameters that this version does not know, and known ones whose value it
    /// could not read, as name and decoded value, in the order of the line.
    pub extra: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// The kinds of the protocol; a kind that this version does not know is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind<'a> {
    StaticData(StaticData<'a>),
    Geolocation(Geolocation<'a>),
    CustomData(CustomData<'a>),
    Page(Page<'a>),
    Experiment(Experiment),
    TargetingSegment(TargetingSegment),
    Conversion(Conversion<'a>),
    Activity,
    Personalization(Personalization),
    /// `eventType` as the sender wrote it.
    Other(Cow<'a, str>),
}

impl EventKind<'_> {
    /// The value of the column `event_type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StaticData(_) => "static_data",
            Self::Geolocation(_) => "geolocation",
            Self::CustomData(_) => "custom_data",
            Self::Page(_) => "page",
            Self::Experiment(_) => "experiment",
            Self::TargetingSegment(_) => "targeting_segment",
            Self::Conversion(_) => "conversion",
            Self::Activity => "activity",
            Self::Personalization(_) => "personalization",
            Self::Other(_) => "other",
        }
    }
}

/// Device, browser, operating system and visit counters; several partial lines
/// of one visit are merged field by field, the later value wins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StaticData<'a> {
    /// `PHONE`, `TABLET` or `DESKTOP`.
    pub device_type: Option<Cow<'a, str>>,
    /// Name from the line, or from `browserIndex` when only that was sent.
    pub browser: Option<Cow<'a, str>>,
    /// As sent, such as `128.5`.
    pub browser_version: Option<Cow<'a, str>>,
    pub os: Option<Cow<'a, str>>,
    /// Visits of this visitor before the current one.
    pub visit_number: Option<u32>,
    /// Milliseconds since the last activity of the previous visit; -1 when the
    /// browser could not read its storage.
    pub since_previous_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Geolocation<'a> {
    pub country: Cow<'a, str>,
    pub region: Cow<'a, str>,
    pub city: Cow<'a, str>,
    pub postal_code: Cow<'a, str>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct CustomData<'a> {
    /// -1 is possible from browsers.
    pub index: i32,
    /// The JSON object value→count, percent-decoded, as sent.
    pub values_count_map: Cow<'a, str>,
    pub overwrite: bool,
    /// Links the line's visitor to the user id in the first key of the map.
    pub mapping_identifier: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page<'a> {
    /// The full URL.
    pub href: Cow<'a, str>,
    pub title: Cow<'a, str>,
    /// JSON array of whole numbers, as sent; empty when absent.
    pub referrers_indices: Cow<'a, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Experiment {
    pub experiment_id: u32,
    /// 0 is the original, a legal variation.
    pub variation_id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TargetingSegment {
    pub segment_id: u32,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversion<'a> {
    pub goal_id: u32,
    /// As given; `negative` carries the sign.
    pub revenue: Money,
    pub negative: bool,
    /// JSON object custom-data index → array of values, as sent; empty when absent.
    pub metadata: Cow<'a, str>,
}

impl Conversion<'_> {
    /// What the conversion adds to the revenue of its visit.
    #[must_use]
    pub fn signed_revenue(&self) -> Money {
        if self.negative { self.revenue.negated() } else { self.revenue }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Personalization {
    pub personalization_id: u32,
    pub variation_id: u32,
}
