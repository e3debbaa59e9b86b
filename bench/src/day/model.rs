//! Nouns of a generated day: who visits, which lines they send, in which requests.
//!
//! Duty: plain data, compact (a day of millions of events stays in memory). Never renders and never decides.
//! What must stay true: a `Line` is one tracking line as a client made it; a repeated request points at the same
//! lines again, so that its bytes cannot differ from the first sending.

use crate::random::{low32, mix};

/// What a line reports. The static kinds are the partial `staticData` lines of the back-end SDKs and the combined one
/// of the browser SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Page,
    Experiment,
    Conversion,
    CustomData,
    StaticDevice,
    StaticBrowser,
    StaticOs,
    StaticVisit,
    StaticCombined,
    Geolocation,
    TargetingSegment,
    Activity,
    Personalization,
}

impl Kind {
    /// True for every line whose `eventType` is `staticData`.
    #[cfg(test)]
    pub(super) fn is_static(self) -> bool {
        matches!(
            self,
            Self::StaticDevice
                | Self::StaticBrowser
                | Self::StaticOs
                | Self::StaticVisit
                | Self::StaticCombined
        )
    }
}

/// Why a line must be rejected; `None` is a good line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    None,
    NoEventType,
    NoVisitor,
    EmptyVisitor,
    BadNonce,
    Junk,
}

/// How a line names its visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Code,
    /// The code's non-ASCII letters stand unencoded.
    RawCode,
    Mapping,
    /// Not at all: the request's cookie does.
    Cookie,
}

/// The user agent at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    None,
    Encoded(u8),
    Raw(u8),
}

/// One tracking line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub nonce: u64,
    pub visitor: u32,
    /// Decides every value of the line that its kind leaves open; for a conversion, the revenue in 1/10,000.
    pub attribute: u32,
    /// The visit that the line belongs to by construction; `NO_VISIT` for heartbeats and what never counts.
    pub visit: u32,
    pub kind: Kind,
    pub defect: Defect,
    pub naming: Naming,
    pub agent: Agent,
    pub negative: bool,
    pub upper_case: bool,
}

/// The mark of a line outside any visit.
pub(super) const NO_VISIT: u32 = u32::MAX;

/// How a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Get,
    Gif,
    Script,
    Python,
    /// A POST whose body was too large for the server's buffer, so that the log has `-`.
    BodyNotLogged,
    /// Good lines, but the query names no site.
    NoSite,
    /// A CORS preflight: 204, and nothing in it counts.
    Preflight,
    OtherPath,
    Garbage(Garbage),
}

/// Log lines that no server should have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Garbage {
    Binary,
    Truncated,
    Glued,
    TooFewColumns,
    TooManyColumns,
    BadTime,
    Empty,
    Huge,
}

/// Every kind of garbage, for tables and tests.
pub(super) const GARBAGE: [Garbage; 8] = [
    Garbage::Binary,
    Garbage::Truncated,
    Garbage::Glued,
    Garbage::TooFewColumns,
    Garbage::TooManyColumns,
    Garbage::BadTime,
    Garbage::Empty,
    Garbage::Huge,
];

/// One request as one node logged it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub at_ms: u64,
    /// Order of planning; breaks ties of the log's order.
    pub sequence: u32,
    pub first_line: u32,
    pub line_count: u16,
    /// How many of the first lines repeat an earlier, counted receipt.
    pub repeated: u16,
    pub site: u16,
    pub node: u16,
    pub status: u16,
    pub form: Form,
}

impl Request {
    /// True where the lines count: a tracking request that was answered with 2xx.
    pub(super) fn counts(&self) -> bool {
        (200..300).contains(&self.status)
            && matches!(self.form, Form::Get | Form::Gif | Form::Script | Form::Python)
    }

    /// True where the request carries a cookie of somebody else than the line names: the line wins.
    pub(super) fn overrules_cookie(&self, line: &Line) -> bool {
        matches!(self.form, Form::Get | Form::Gif)
            && line.naming != Naming::Cookie
            && mix(self.sequence.into()).is_multiple_of(10)
    }

    /// Where the request's lines stand.
    pub(super) fn lines(&self) -> std::ops::Range<usize> {
        let first = self.first_line as usize;
        first..first + usize::from(self.line_count)
    }
}

/// A visitor of one site.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub site: u16,
    pub code: Box<str>,
    /// The code is a user id that lines may also give as `mappingValue`.
    pub is_mapping: bool,
    /// The code could stand in a cookie as it is.
    pub is_plain: bool,
    /// The code was taken over from a visitor of another site.
    pub is_borrowed: bool,
}

/// A key of the total order of events: time, position in the request, nonce; and what the page was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PageAt {
    pub at_ms: u64,
    pub position: u16,
    pub nonce: u64,
    pub attribute: u32,
}

/// What is true of one visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit {
    pub visitor: u32,
    pub started_at_ms: u64,
    pub last_event_at_ms: u64,
    pub event_count: u32,
    pub page_view_count: u32,
    pub conversion_count: u32,
    /// In 1/10,000 of the site's currency.
    pub revenue: i64,
    pub landing: Option<PageAt>,
    pub exit: Option<PageAt>,
}

impl Visit {
    /// A visit of which nothing is known but its visitor.
    pub(super) fn new(visitor: u32) -> Self {
        Self {
            visitor,
            started_at_ms: u64::MAX,
            last_event_at_ms: 0,
            event_count: 0,
            page_view_count: 0,
            conversion_count: 0,
            revenue: 0,
            landing: None,
            exit: None,
        }
    }

    /// Counts one event of the visit.
    pub(super) fn add(&mut self, line: &Line, at_ms: u64, position: u16) {
        self.started_at_ms = self.started_at_ms.min(at_ms);
        self.last_event_at_ms = self.last_event_at_ms.max(at_ms);
        self.event_count += 1;
        match line.kind {
            Kind::Page => {
                self.page_view_count += 1;
                let page = PageAt { at_ms, position, nonce: line.nonce, attribute: line.attribute };
                self.landing = Some(self.landing.map_or(page, |known| known.min(page)));
                self.exit = Some(self.exit.map_or(page, |known| known.max(page)));
            }
            Kind::Conversion => {
                self.conversion_count += 1;
                let amount = i64::from(line.attribute);
                self.revenue += if line.negative { -amount } else { amount };
            }
            _ => {}
        }
    }
}

/// An index into one of a day's tables. `EVENTS_MAX` keeps every table below 2³² entries.
pub(super) fn index(length: usize) -> u32 {
    low32(length as u64)
}

/// The most events that one day may ask for.
pub const EVENTS_MAX: u64 = 200_000_000;
