//! One tracking line, split and judged.
//!
//! [`parse`] finds every parameter in one walk and decides whether the line can
//! be accepted; it keeps positions, decodes nothing and allocates nothing.
//! [`Line::event`] decodes what the kind of event holds.
//!
//! Rules that the protocol leaves open:
//! - an empty value is as good as none: `visitorCode=` names no visitor;
//! - of a repeated parameter the first value that is not empty counts, the later
//!   ones are kept in `extra`;
//! - the first fault decides the reason, in this order: length, NUL, kind,
//!   visitor, then the required parameters of the kind as the kind lists them.

use std::borrow::Cow;

use fanal_model::RejectReason;

use crate::Limits;
use crate::decode::{Decoded, decode, is_longer_than_a_visitor};
use crate::name::{Name, Pair, Pairs};

/// An accepted tracking line. Borrows the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) kind: Kind,
    /// Bits of the names that have a value.
    pub(crate) seen: u64,
    /// Something stands in the line that no name holds: an unknown or repeated parameter.
    pub(crate) has_strangers: bool,
    /// Start and end of each value in `bytes`; both 0 when the line has none.
    spans: [(u32, u32); Name::COUNT],
}

/// The kind of event, without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    StaticData,
    Geolocation,
    CustomData,
    Page,
    Experiment,
    TargetingSegment,
    Conversion,
    Activity,
    Personalization,
    /// A kind that this version does not know.
    Other,
}

/// The visitor that a line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity<'a> {
    /// `visitorCode`, as it stands in the line.
    Code(&'a [u8]),
    /// `mappingValue`, as it stands in the line.
    Mapping(&'a [u8]),
}

impl<'a> Identity<'a> {
    /// As it stands in the line.
    #[must_use]
    pub fn raw(self) -> &'a [u8] {
        match self {
            Self::Code(raw) | Self::Mapping(raw) => raw,
        }
    }

    #[must_use]
    pub fn decode(self) -> Cow<'a, str> {
        decode(self.raw())
    }
}

/// Reads one line of any length. A line that was accepted once is accepted here
/// whatever the limits are today.
#[inline]
pub fn parse(line: &[u8]) -> Result<Line<'_>, RejectReason> {
    let bytes = line.strip_suffix(b"\r").unwrap_or(line);
    if u32::try_from(bytes.len()).is_err() {
        return Err(RejectReason::LineTooLong);
    }
    if memchr::memchr(0, bytes).is_some() {
        return Err(RejectReason::Binary);
    }
    let mut line =
        Line { bytes, kind: Kind::Other, seen: 0, has_strangers: false, spans: [(0, 0); Name::COUNT] };
    line.split();
    line.judge()?;
    Ok(line)
}

/// Reads one line from outside, which may not be longer than the limit.
pub fn parse_limited<'a>(line: &'a [u8], limits: &Limits) -> Result<Line<'a>, RejectReason> {
    if line.len() > limits.line_bytes_max {
        return Err(RejectReason::LineTooLong);
    }
    parse(line)
}

impl<'a> Line<'a> {
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Who did it: the visitor code if the line has one, else the mapping value.
    #[must_use]
    pub fn visitor(&self) -> Option<Identity<'a>> {
        let code = self.visitor_code().map(Identity::Code);
        code.or_else(|| self.mapping_value().map(Identity::Mapping))
    }

    /// `visitorCode` as it stands in the line.
    #[must_use]
    pub fn visitor_code(&self) -> Option<&'a [u8]> {
        self.raw(Name::VisitorCode)
    }

    /// `mappingValue` as it stands in the line.
    #[must_use]
    pub fn mapping_value(&self) -> Option<&'a [u8]> {
        self.raw(Name::MappingValue)
    }

    /// `nonce`, decoded; empty when the line has none.
    #[must_use]
    pub fn nonce(&self) -> Cow<'a, str> {
        decode(self.raw(Name::Nonce).unwrap_or_default())
    }

    /// `userAgent` as it stands in the line, to the end of the line.
    #[must_use]
    pub fn user_agent(&self) -> Option<&'a [u8]> {
        self.raw(Name::UserAgent)
    }

    /// The value of `name` as it stands in the line; never empty.
    pub(crate) fn raw(&self, name: Name) -> Option<&'a [u8]> {
        let (start, end) = self.spans[name as usize];
        if end == 0 { None } else { Some(&self.bytes[start as usize..end as usize]) }
    }

    fn split(&mut self) {
        for Pair { name, value, start } in Pairs::of_line(self.bytes) {
            match Name::of(name) {
                None => self.has_strangers = true,
                Some(name) if value.is_empty() || name.is_of_the_request() => {}
                Some(name) if self.seen & name.bit() != 0 => self.has_strangers = true,
                Some(name) => {
                    self.seen |= name.bit();
                    self.spans[name as usize] = (position(start), position(start + value.len()));
                }
            }
        }
    }

    fn judge(&mut self) -> Result<(), RejectReason> {
        let kind = self.raw(Name::Kind).ok_or(RejectReason::MissingEventType)?;
        self.kind = Kind::of(kind);
        for visitor in [self.visitor_code(), self.mapping_value()].into_iter().flatten() {
            if is_longer_than_a_visitor(visitor) {
                return Err(RejectReason::VisitorTooLong);
            }
        }
        for (name, shape) in self.kind.required() {
            let raw = self.raw(*name).ok_or(RejectReason::MissingParameter)?;
            let fits = match shape {
                Shape::Whole => whole(raw).is_some(),
                Shape::Signed => signed(raw).and_then(|n| i32::try_from(n).ok()).is_some(),
                Shape::Text => true,
            };
            if !fits {
                return Err(RejectReason::InvalidParameter);
            }
        }
        Ok(())
    }
}

/// What a required parameter must look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// 0 to 4294967295.
    Whole,
    /// A signed 32-bit number.
    Signed,
    Text,
}

impl Kind {
    /// The kind that `eventType` names. SDKs write `customData`, the published
    /// interface `CUSTOM_DATA`: neither case nor underscores make a difference.
    #[must_use]
    pub fn of(raw: &[u8]) -> Self {
        const KINDS: [(&[u8], Kind); 9] = [
            (b"staticData", Kind::StaticData),
            (b"page", Kind::Page),
            (b"experiment", Kind::Experiment),
            (b"conversion", Kind::Conversion),
            (b"customData", Kind::CustomData),
            (b"activity", Kind::Activity),
            (b"geolocation", Kind::Geolocation),
            (b"targetingSegment", Kind::TargetingSegment),
            (b"personalization", Kind::Personalization),
        ];
        if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == raw) {
            return *kind;
        }
        let plain = || Decoded(raw).filter(|b| *b != b'_').map(|b| b.to_ascii_lowercase());
        let same = |name: &[u8]| plain().eq(name.iter().map(u8::to_ascii_lowercase));
        KINDS.iter().find(|(name, _)| same(name)).map_or(Self::Other, |(_, kind)| *kind)
    }

    /// The parameters without which an event of this kind means nothing.
    pub(crate) fn required(self) -> &'static [(Name, Shape)] {
        match self {
            Self::Experiment | Self::Personalization => {
                &[(Name::Id, Shape::Whole), (Name::VariationId, Shape::Whole)]
            }
            Self::Conversion => &[(Name::GoalId, Shape::Whole)],
            Self::CustomData => &[(Name::Index, Shape::Signed)],
            Self::TargetingSegment => &[(Name::Id, Shape::Whole)],
            Self::Page => &[(Name::Href, Shape::Text)],
            Self::StaticData | Self::Geolocation | Self::Activity | Self::Other => &[],
        }
    }
}

/// A whole number from 0 to 4294967295: digits and nothing else.
pub(crate) fn whole(raw: &[u8]) -> Option<u32> {
    digits(Decoded(raw)).and_then(|n| u32::try_from(n).ok())
}

/// A whole number that may start with `-`.
pub(crate) fn signed(raw: &[u8]) -> Option<i64> {
    let mut bytes = Decoded(raw);
    if bytes.clone().next() != Some(b'-') {
        return digits(bytes).and_then(|n| i64::try_from(n).ok());
    }
    bytes.next();
    digits(bytes).and_then(|n| 0_i64.checked_sub_unsigned(n))
}

fn digits(bytes: Decoded<'_>) -> Option<u64> {
    let mut value = None;
    for byte in bytes {
        let digit = byte.checked_sub(b'0').filter(|d| *d <= 9)?;
        value = Some(value.unwrap_or(0_u64).checked_mul(10)?.checked_add(u64::from(digit))?);
    }
    value
}

#[expect(clippy::cast_possible_truncation, reason = "parse refuses lines whose length is no u32")]
fn position(at: usize) -> u32 {
    at as u32
}
