//! The plan of a day and its accounts.
//!
//! Duty: keep what was planned and count each request at the moment it is planned. Never looks at rendered bytes.
//! What must stay true: every line of every request ends in exactly one count: accepted (first or repeated) or
//! rejected; the lines of requests that do not count are in `lines_ignored`.

use super::case::{Case, Cases};
use super::model::{Defect, Form, Kind, Line, NO_VISIT, Request, Visit, Visitor, index};
use super::{DAY_MS, Options};
use crate::random::Random;

/// Counts of one site.
#[derive(Debug, Clone, Default)]
pub(super) struct SiteCounts {
    pub accepted: u64,
    pub distinct: u64,
    pub heartbeats: u64,
}

/// Counts of the whole day.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub requests_counted: u64,
    pub requests_ignored: u64,
    pub lines_accepted: u64,
    pub lines_rejected: u64,
    pub lines_ignored: u64,
    pub garbage: u64,
}

/// Everything that happens on the day.
#[derive(Debug)]
pub(super) struct Day {
    pub sites: Vec<String>,
    pub nodes: u16,
    pub start_ms: u64,
    pub bad_nonces: bool,
    pub visitors: Vec<Visitor>,
    pub lines: Vec<Line>,
    pub requests: Vec<Request>,
    pub visits: Vec<Visit>,
    pub cases: Cases,
    pub per_site: Vec<SiteCounts>,
    pub totals: Totals,
}

/// What the sender decides about a request; the rest follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending {
    pub at_ms: u64,
    pub node: u16,
    pub form: Form,
    pub status: u16,
}

impl Day {
    /// An empty day; the sites' codes follow from the seed.
    pub(super) fn new(options: &Options, random: &mut Random) -> Self {
        let mut letters = || char::from(*random.pick(b"abcdefghijklmnopqrstuvwxyz0123456789"));
        let mut sites: Vec<String> = Vec::new();
        while sites.len() < usize::from(options.sites) {
            let code: String = (0..10).map(|_| letters()).collect();
            if !sites.contains(&code) {
                sites.push(code);
            }
        }
        Self {
            per_site: vec![SiteCounts::default(); sites.len()],
            sites,
            nodes: options.nodes,
            start_ms: options.start_ms,
            bad_nonces: options.bad_nonces,
            visitors: Vec::new(),
            lines: Vec::new(),
            requests: Vec::new(),
            visits: Vec::new(),
            cases: Cases::default(),
            totals: Totals::default(),
        }
    }

    /// Distinct accepted lines so far.
    pub(super) fn distinct(&self) -> u64 {
        self.per_site.iter().map(|site| site.distinct).sum()
    }

    /// The first millisecond after the day.
    pub(super) fn end_ms(&self) -> u64 {
        self.start_ms + DAY_MS
    }

    /// A node for a request.
    pub(super) fn any_node(&self, random: &mut Random) -> u16 {
        u16::try_from(random.below(self.nodes.into())).unwrap_or(0)
    }

    /// Opens a visit that is known by construction.
    pub(super) fn open_visit(&mut self, visitor: u32) -> u32 {
        self.visits.push(Visit::new(visitor));
        index(self.visits.len() - 1)
    }

    /// Keeps the lines of a new body; returns where they stand.
    pub(super) fn keep(&mut self, lines: &[Line]) -> (u32, u16) {
        let first = index(self.lines.len());
        self.lines.extend_from_slice(lines);
        (first, u16::try_from(lines.len()).unwrap_or(u16::MAX))
    }

    /// Plans one request over kept lines, of which the first `repeated` were received before, and counts it.
    pub(super) fn send(
        &mut self,
        sending: Sending,
        (first_line, line_count): (u32, u16),
        repeated: u16,
    ) -> Request {
        let visitor = self.lines.get(first_line as usize).map_or(0, |line| line.visitor as usize);
        let request = Request {
            at_ms: sending.at_ms,
            sequence: index(self.requests.len()),
            first_line,
            line_count,
            repeated,
            site: self.visitors.get(visitor).map_or(0, |visitor| visitor.site),
            node: sending.node,
            status: sending.status,
            form: sending.form,
        };
        self.requests.push(request);
        self.count(&request);
        request
    }

    fn count(&mut self, request: &Request) {
        let lines = u64::from(request.line_count);
        if request.form == Form::NoSite {
            self.totals.requests_counted += 1;
            self.totals.lines_rejected += lines;
            return;
        }
        if matches!(request.form, Form::Garbage(_)) {
            self.totals.garbage += 1;
            return;
        }
        if !request.counts() {
            self.totals.requests_ignored += 1;
            self.totals.lines_ignored += lines;
            return;
        }
        self.totals.requests_counted += 1;
        for (position, at) in (0u16..).zip(request.lines()) {
            let line = self.lines[at];
            if line.defect != Defect::None {
                self.totals.lines_rejected += 1;
                continue;
            }
            self.totals.lines_accepted += 1;
            let site = &mut self.per_site[usize::from(request.site)];
            site.accepted += 1;
            if position < request.repeated {
                continue;
            }
            site.distinct += 1;
            if line.visit == NO_VISIT {
                site.heartbeats += 1;
            } else {
                self.visits[line.visit as usize].add(&line, request.at_ms, position);
            }
            self.note(&line);
        }
        self.note_form(request);
    }

    fn note(&mut self, line: &Line) {
        use super::model::{Agent, Naming};
        if line.kind == Kind::Conversion && line.negative {
            self.cases.count(Case::Negative);
        }
        if line.upper_case {
            self.cases.count(Case::Capitals);
        }
        if matches!(line.agent, Agent::Raw(_)) {
            self.cases.count(Case::RawAgent);
        }
        match line.naming {
            Naming::Code => {}
            Naming::RawCode => self.cases.count(Case::RawUtf8),
            Naming::Mapping => self.cases.count(Case::MappingValue),
            Naming::Cookie => self.cases.count(Case::CookieVisitor),
        }
        if !self.visitors[line.visitor as usize].code.is_ascii() {
            self.cases.count(Case::NonAsciiVisitor);
        }
    }

    fn note_form(&mut self, request: &Request) {
        match request.form {
            Form::Get => self.cases.count(Case::Get),
            Form::Gif => self.cases.count(Case::Gif),
            _ => return,
        }
        if request.overrules_cookie(&self.lines[request.first_line as usize]) {
            self.cases.count(Case::CookieOverruled);
        }
    }

    /// Puts requests into the order of time, and drops visits that never got an event.
    pub(super) fn sort(&mut self) {
        self.requests.sort_unstable_by_key(|request| (request.at_ms, request.sequence));
        let midnight = self.end_ms();
        for visit in &self.visits {
            if visit.started_at_ms < midnight && visit.last_event_at_ms >= midnight {
                self.cases.count(Case::CrossMidnight);
            }
        }
        self.visits.retain(|visit| visit.event_count > 0);
    }
}
