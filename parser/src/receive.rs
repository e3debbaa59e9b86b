//! One request, from the collector or out of a log, becomes beacons and dead letters.
//!
//! Two walks over the body: the first judges every line and finds its visitor,
//! the second hands out records, because what a record says about its visitor
//! (user agent, number of lines) can depend on later lines.
//!
//! Never stores or sends anything: that is the [`Sink`]'s. What must stay true:
//! every line that [`crate::body::count`] counts is handed out exactly once, in
//! order; one bad line costs its neighbours nothing; no allocation per line once
//! the scratch has grown.

use std::hash::BuildHasher;
use std::ops::Range;

use fanal_model::{
    AgentOrigin, Beacon, DeadLetter, RULES_VERSION, RejectReason, RobotReason, Source, VISITOR_CODE_CHARS_MAX,
};
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use thiserror::Error;

use crate::decode::{decode_bytes, decode_text};
use crate::line::{Line, parse_limited};
use crate::query::{Query, parse_query};
use crate::{Limits, Robots, body};

/// One tracking request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub site_code: &'a str,
    pub received_at_ms: u64,
    /// The part of the URL behind `?`.
    pub query: &'a [u8],
    /// `None` for a GET: the query is the line.
    pub body: Option<&'a [u8]>,
    /// What [`crate::cookie_visitor`] found.
    pub cookie_visitor: Option<&'a str>,
    pub header_user_agent: &'a [u8],
    pub referer: &'a [u8],
    /// After the site's address policy.
    pub client_address: &'a str,
    pub source: Source,
    pub node: &'a str,
}

/// Where the records of a request go.
pub trait Sink {
    fn accepted(&mut self, beacon: &Beacon<'_>);
    fn rejected(&mut self, letter: &DeadLetter<'_>);
}

/// The lines of one request. `received` is counted apart from the parsing, by
/// line ends, so that it proves the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Counts {
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
}

impl Counts {
    /// Whether every received line had its end. Only a bug makes this false.
    #[must_use]
    pub fn is_balanced(self) -> bool {
        self.received == self.accepted + self.rejected
    }
}

/// Why a whole request is refused; nothing of it was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    #[error("the body has {lines} lines and one request may have {max}: send it in several requests")]
    TooManyLines { lines: u64, max: usize },
}

/// Turns requests into records. Keeps its working memory between requests.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    hasher: RandomState,
    verdicts: Vec<Result<Place, RejectReason>>,
    visitors: Vec<Visitor>,
    /// Positions in `visitors`, found by the visitor's decoded name.
    index: HashTable<usize>,
    /// Decoded visitor codes and mapping values.
    names: String,
    /// Decoded user agents.
    agents: Vec<u8>,
    robots: Robots,
    scratch: Vec<u8>,
}

/// An accepted line: where its decoded parts are.
#[derive(Debug, Clone)]
struct Place {
    visitor: usize,
    /// Both in `names`; empty when the line has none.
    code: Range<usize>,
    mapping: Range<usize>,
    /// When the line has a user agent of its own.
    agent: Option<Agent>,
}

/// A user agent out of a line.
#[derive(Debug, Clone)]
struct Agent {
    /// In `agents`.
    text: Range<usize>,
    robot: Option<RobotReason>,
}

/// A visitor of the request.
#[derive(Debug)]
struct Visitor {
    name: Range<usize>,
    lines: u32,
    /// The first user agent that a line of this visitor has.
    agent: Option<Agent>,
}

/// Working memory above this is given back after the request that needed it.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

impl Receiver {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            hasher: RandomState::default(),
            verdicts: Vec::new(),
            visitors: Vec::new(),
            index: HashTable::new(),
            names: String::new(),
            agents: Vec::new(),
            robots: Robots::default(),
            scratch: Vec::new(),
        }
    }

    /// Judges every line of the request and hands out its record.
    pub fn receive(&mut self, request: &Request<'_>, sink: &mut impl Sink) -> Result<Counts, RequestError> {
        // A GET's query is one line whatever bytes it holds, so that it is counted once.
        let (body, is_get) = request.body.map_or((request.query, true), |body| (body, false));
        let received = if is_get { u64::from(!body.is_empty()) } else { body::count(body) };
        if received > self.limits.lines_max as u64 {
            return Err(RequestError::TooManyLines { lines: received, max: self.limits.lines_max });
        }
        self.forget();
        let query = parse_query(request.query);
        let mut counts = Counts { received, ..Counts::default() };
        if is_get {
            let lines = std::iter::once(body).filter(|line| !line.is_empty());
            self.judge(lines.clone(), &query, request.cookie_visitor);
            self.hand_out(lines, &query, request, sink, &mut counts);
        } else {
            self.judge(body::lines(body), &query, request.cookie_visitor);
            self.hand_out(body::lines(body), &query, request, sink, &mut counts);
        }
        debug_assert!(counts.is_balanced(), "a line was lost or given twice: {counts:?}");
        Ok(counts)
    }

    fn judge<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>, query: &Query<'_>, cookie: Option<&str>) {
        let sdk_name = query.sdk_name.as_deref().unwrap_or_default();
        // Lines of one visitor stand together: the name of the last one is at hand.
        let mut last: Option<(Named<'_>, Place)> = None;
        for line in lines {
            let verdict = parse_limited(line, &self.limits).and_then(|line| {
                let named = Named::of(&line, query, cookie)?;
                let mut place = match &last {
                    Some((same, place)) if *same == named => place.clone(),
                    _ => self.place(&named),
                };
                last = Some((named, place.clone()));
                place.agent = line.user_agent().map(|raw| self.keep_agent(raw, sdk_name));
                let visitor = &mut self.visitors[place.visitor];
                visitor.lines += 1;
                if visitor.agent.is_none() {
                    visitor.agent = place.agent.clone();
                }
                Ok(place)
            });
            self.verdicts.push(verdict);
        }
    }

    fn hand_out<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a [u8]>,
        query: &Query<'_>,
        request: &Request<'_>,
        sink: &mut impl Sink,
        counts: &mut Counts,
    ) {
        let sdk_name = query.sdk_name.as_deref().unwrap_or_default();
        let of_header = if query.body_ua { None } else { self.robots.of_words(request.header_user_agent) };
        let of_header = of_header.filter(|reason| reason.holds(AgentOrigin::Header, sdk_name));
        for (line, (line_number, verdict)) in lines.zip((0_u32..).zip(&self.verdicts)) {
            match verdict {
                Ok(place) => {
                    let visitor = &self.visitors[place.visitor];
                    let in_body = if query.body_ua { &visitor.agent } else { &place.agent };
                    let (user_agent, robot) = match in_body {
                        Some(agent) => (&self.agents[agent.text.clone()], agent.robot),
                        None if query.body_ua => (&[][..], None),
                        None => (request.header_user_agent, of_header),
                    };
                    counts.accepted += 1;
                    sink.accepted(&Beacon {
                        received_at_ms: request.received_at_ms,
                        site_code: request.site_code,
                        visitor_code: &self.names[place.code.clone()],
                        mapping_value: &self.names[place.mapping.clone()],
                        client_address: request.client_address,
                        user_agent,
                        referer: request.referer,
                        source: request.source,
                        node: request.node,
                        line,
                        line_number,
                        visitor_lines: visitor.lines,
                        sdk_name,
                        sdk_version: query.sdk_version.as_deref().unwrap_or_default(),
                        robot: Some(robot.map_or("", RobotReason::name)),
                    });
                }
                Err(reason) => {
                    counts.rejected += 1;
                    sink.rejected(&DeadLetter {
                        received_at_ms: request.received_at_ms,
                        site_code: request.site_code,
                        reason: reason.name(),
                        rules_version: RULES_VERSION,
                        source: request.source,
                        node: request.node,
                        bytes: line,
                    });
                }
            }
        }
    }

    /// Decodes the names and finds the visitor, or makes it known.
    fn place(&mut self, named: &Named<'_>) -> Place {
        let code = self.keep_name(&named.code);
        let mapping = self.keep_name(&named.mapping);
        let name = if code.is_empty() { mapping.clone() } else { code.clone() };
        let (names, visitors, hasher) = (&self.names, &self.visitors, &self.hasher);
        let text = &names[name.clone()];
        let hash = hasher.hash_one(text);
        let known = self.index.find(hash, |at| names[visitors[*at].name.clone()] == *text).copied();
        let visitor = known.unwrap_or_else(|| {
            let at = visitors.len();
            self.index.insert_unique(hash, at, |at| hasher.hash_one(&names[visitors[*at].name.clone()]));
            at
        });
        if known.is_none() {
            self.visitors.push(Visitor { name, lines: 0, agent: None });
        }
        Place { visitor, code, mapping, agent: None }
    }

    fn keep_name(&mut self, name: &Text<'_>) -> Range<usize> {
        let start = self.names.len();
        match name {
            Text::Raw(raw) => decode_text(raw, &mut self.scratch, &mut self.names),
            Text::Decoded(text) => self.names.push_str(text),
        }
        start..self.names.len()
    }

    fn keep_agent(&mut self, raw: &[u8], sdk_name: &str) -> Agent {
        let start = self.agents.len();
        decode_bytes(raw, &mut self.agents);
        let text = start..self.agents.len();
        let robot = self.robots.of_words(&self.agents[text.clone()]);
        Agent { text, robot: robot.filter(|reason| reason.holds(AgentOrigin::Body, sdk_name)) }
    }

    fn forget(&mut self) {
        self.verdicts.clear();
        self.visitors.clear();
        self.index.clear();
        self.names.clear();
        self.agents.clear();
        self.scratch.clear();
        self.verdicts.shrink_to(SCRATCH_BYTES_KEPT / size_of::<Result<Place, RejectReason>>());
        self.visitors.shrink_to(SCRATCH_BYTES_KEPT / size_of::<Visitor>());
        if self.index.allocation_size() > SCRATCH_BYTES_KEPT {
            self.index = HashTable::new();
        }
        self.names.shrink_to(SCRATCH_BYTES_KEPT);
        self.agents.shrink_to(SCRATCH_BYTES_KEPT);
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
    }
}

/// A name that is still encoded, or one that came decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Text<'a> {
    Raw(&'a [u8]),
    Decoded(&'a str),
}

/// Whom a line belongs to, after query, line and cookie had their say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named<'a> {
    code: Text<'a>,
    mapping: Text<'a>,
}

impl<'a> Named<'a> {
    /// The query wins over the line, the line over the cookie.
    fn of(line: &Line<'a>, query: &'a Query<'_>, cookie: Option<&'a str>) -> Result<Self, RejectReason> {
        const NONE: Text<'static> = Text::Raw(&[]);
        let own = |raw: Option<&'a [u8]>| raw.map_or(NONE, Text::Raw);
        let (own_code, own_mapping) = (own(line.visitor_code()), own(line.mapping_value()));
        let from_query = |text: &'a Option<_>| text.as_deref().map(Text::Decoded);
        let named = match (from_query(&query.visitor_code), from_query(&query.mapping_value)) {
            (Some(code), mapping) => Self { code, mapping: mapping.unwrap_or(own_mapping) },
            (None, Some(mapping)) => Self { code: NONE, mapping },
            (None, None) if line.visitor().is_some() => Self { code: own_code, mapping: own_mapping },
            (None, None) => {
                let code = cookie.filter(|code| !code.is_empty()).ok_or(RejectReason::MissingVisitor)?;
                Self { code: Text::Decoded(code), mapping: NONE }
            }
        };
        if named.code.is_too_long() || named.mapping.is_too_long() {
            return Err(RejectReason::VisitorTooLong);
        }
        Ok(named)
    }
}

impl Text<'_> {
    /// Encoded names were measured with their line.
    fn is_too_long(&self) -> bool {
        match self {
            Self::Raw(_) => false,
            Self::Decoded(text) => {
                text.len() > VISITOR_CODE_CHARS_MAX && text.chars().count() > VISITOR_CODE_CHARS_MAX
            }
        }
    }
}
