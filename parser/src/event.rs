//! From the positions of a [`Line`] to a typed [`Event`].
//!
//! Cannot fail: what a kind needs was judged by [`crate::line::parse`]. An optional value
//! that cannot be read, and everything else that the kind has no field for, is
//! kept in `extra`.

use std::borrow::Cow;

use fanal_model::{
    Conversion, CustomData, Event, EventKind, Experiment, Geolocation, Money, Page, Personalization,
    StaticData, TargetingSegment,
};

use crate::decode::decode;
use crate::line::{Kind, Line, signed, whole};
use crate::name::{Name, Pair, Pairs};

/// `extra` holds at most this many parameters; the rest is in the raw line only.
/// A line of nothing but `&a&a` would else take fifty times its size in memory.
pub const EXTRA_MAX: usize = 1_000;

/// Names by `browserIndex`.
const BROWSERS: [&str; 6] = ["CHROME", "IE", "FIREFOX", "SAFARI", "OPERA", "OTHER"];

/// Names by `osIndex`.
const SYSTEMS: [&str; 6] = ["WINDOWS", "MAC", "IOS", "LINUX", "ANDROID", "WINDOWS_PHONE"];

impl<'a> Line<'a> {
    /// The event with its values, decoded. Borrows wherever nothing had to change.
    #[must_use]
    pub fn event(&self) -> Event<'a> {
        let mut fields = Fields { line: self, used: Fields::OF_EVERY_KIND };
        let kind = match self.kind {
            Kind::StaticData => EventKind::StaticData(fields.static_data()),
            Kind::Geolocation => EventKind::Geolocation(fields.geolocation()),
            Kind::CustomData => EventKind::CustomData(fields.custom_data()),
            Kind::Page => EventKind::Page(fields.page()),
            Kind::Experiment => EventKind::Experiment(fields.experiment()),
            Kind::TargetingSegment => EventKind::TargetingSegment(fields.targeting_segment()),
            Kind::Conversion => EventKind::Conversion(fields.conversion()),
            Kind::Activity => EventKind::Activity,
            Kind::Personalization => EventKind::Personalization(fields.personalization()),
            Kind::Other => EventKind::Other(fields.text(Name::Kind)),
        };
        Event { kind, nonce: self.nonce(), extra: self.extra(fields.used) }
    }

    /// What no field took, in the order of the line.
    fn extra(&self, used: u64) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        let mut extra = Vec::new();
        if !self.has_strangers && self.seen & !used == 0 {
            return extra;
        }
        let mut met = 0_u64;
        for Pair { name, value, .. } in Pairs::of_line(self.bytes) {
            let taken = match Name::of(name) {
                None => false,
                Some(known) if value.is_empty() || known.is_of_the_request() => true,
                Some(known) => {
                    let first = met & known.bit() == 0;
                    met |= known.bit();
                    first && used & known.bit() != 0
                }
            };
            if !taken && extra.len() < EXTRA_MAX {
                extra.push((String::from_utf8_lossy(name), decode(value)));
            }
        }
        extra
    }
}

/// Reads values and remembers which ones found a field.
struct Fields<'l, 'a> {
    line: &'l Line<'a>,
    used: u64,
}

impl<'a> Fields<'_, 'a> {
    const OF_EVERY_KIND: u64 = Name::Kind.bit()
        | Name::Nonce.bit()
        | Name::VisitorCode.bit()
        | Name::MappingValue.bit()
        | Name::UserAgent.bit();

    fn static_data(&mut self) -> StaticData<'a> {
        let browser = self.named(Name::Browser, Name::BrowserIndex, &BROWSERS);
        let os = self.named(Name::Os, Name::OsIndex, &SYSTEMS);
        StaticData {
            device_type: self.optional_text(Name::DeviceType).map(upper_case),
            browser,
            browser_version: self.optional_text(Name::BrowserVersion),
            os,
            visit_number: self.read(Name::VisitNumber, whole),
            since_previous_ms: self.read(Name::TimeSincePreviousVisit, signed),
        }
    }

    fn geolocation(&mut self) -> Geolocation<'a> {
        Geolocation {
            country: self.text(Name::Country),
            region: self.text(Name::Region),
            city: self.text(Name::City),
            postal_code: self.text(Name::PostalCode),
            latitude: self.read(Name::Latitude, degrees),
            longitude: self.read(Name::Longitude, degrees),
        }
    }

    fn custom_data(&mut self) -> CustomData<'a> {
        let index = self.read(Name::Index, |raw| i32::try_from(signed(raw)?).ok());
        CustomData {
            index: index.unwrap_or_default(),
            values_count_map: self.text(Name::ValuesCountMap),
            overwrite: self.flag(Name::Overwrite),
            mapping_identifier: self.flag(Name::MappingIdentifier),
        }
    }

    fn page(&mut self) -> Page<'a> {
        Page {
            href: self.text(Name::Href),
            title: self.text(Name::Title),
            referrers_indices: self.text(Name::ReferrersIndices),
        }
    }

    fn experiment(&mut self) -> Experiment {
        Experiment { experiment_id: self.whole(Name::Id), variation_id: self.whole(Name::VariationId) }
    }

    fn targeting_segment(&mut self) -> TargetingSegment {
        TargetingSegment { segment_id: self.whole(Name::Id) }
    }

    fn conversion(&mut self) -> Conversion<'a> {
        Conversion {
            goal_id: self.whole(Name::GoalId),
            revenue: self.read(Name::Revenue, |raw| Money::parse(&decode(raw))).unwrap_or_default(),
            negative: self.flag(Name::Negative),
            metadata: self.text(Name::Metadata),
        }
    }

    fn personalization(&mut self) -> Personalization {
        Personalization {
            personalization_id: self.whole(Name::Id),
            variation_id: self.whole(Name::VariationId),
        }
    }

    /// A value that `read` understands; any other stays for `extra`.
    fn read<T>(&mut self, name: Name, read: impl Fn(&'a [u8]) -> Option<T>) -> Option<T> {
        let value = read(self.line.raw(name)?)?;
        self.used |= name.bit();
        Some(value)
    }

    fn optional_text(&mut self, name: Name) -> Option<Cow<'a, str>> {
        self.read(name, |raw| Some(decode(raw)))
    }

    fn text(&mut self, name: Name) -> Cow<'a, str> {
        self.optional_text(name).unwrap_or_default()
    }

    /// A required number; the judge has seen that it is one.
    fn whole(&mut self, name: Name) -> u32 {
        self.read(name, whole).unwrap_or_default()
    }

    fn flag(&mut self, name: Name) -> bool {
        self.read(name, flag).unwrap_or_default()
    }

    /// The name as sent, else the one that the index stands for.
    fn named(&mut self, name: Name, index: Name, names: &[&'static str]) -> Option<Cow<'a, str>> {
        let by_index = self.read(index, |raw| names.get(usize::try_from(whole(raw)?).ok()?).copied());
        self.optional_text(name).or(by_index.map(Cow::Borrowed))
    }
}

fn degrees(raw: &[u8]) -> Option<f64> {
    decode(raw).parse::<f64>().ok().filter(|n| n.is_finite())
}

fn flag(raw: &[u8]) -> Option<bool> {
    match &*decode(raw) {
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn upper_case(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_lowercase()) { Cow::Owned(text.to_ascii_uppercase()) } else { text }
}
