//! What operators refuse while everything runs: quotas of sites, and kill rules.
//!
//! The rules stand in a file of their own, which is read again when it changes. They are
//! asked twice: before the body is read, about what the head of a request says, and for
//! each line, about what only the line says. Never touches what was accepted, and never
//! answers 2xx to a request of which nothing was kept. What must stay true: without rules
//! a request pays for one load of a pointer; refusing costs less than accepting.

mod file;
mod pattern;
mod quota;
mod typed;
mod watch;

use std::collections::HashMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fanal_model::Beacon;
use fanal_parser::line::{self, Kind};
use fanal_service::config::Networks;
use metrics::Counter;
use siphasher::sip::SipHasher13;

pub use file::RulesError;
use pattern::Pattern;
use quota::Quotas;

/// The rules in force. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RulesHandle(Arc<ArcSwap<Rules>>);

impl RulesHandle {
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.0.load()
    }
}

/// What a file of rules holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulesCount {
    pub quotas: usize,
    pub kill_rules: usize,
}

/// One version of the file.
#[derive(Debug)]
pub(crate) struct Rules {
    started: Instant,
    quotas: Quotas,
    /// Rules for one site, by its code, and those for all sites.
    of_site: HashMap<Box<str>, Vec<Rule>>,
    of_all: Vec<Rule>,
}

impl Default for Rules {
    fn default() -> Self {
        let (of_site, of_all) = (HashMap::new(), Vec::new());
        Self { started: Instant::now(), quotas: Quotas::default(), of_site, of_all }
    }
}

/// All conditions that are there must hold.
#[derive(Debug)]
struct Rule {
    addresses: Option<Networks>,
    user_agent: Option<Pattern>,
    event: Option<Kind>,
    /// Visitors whose hash is below this are kept; 0: nobody is.
    kept_below: u64,
    refused_requests: Counter,
    refused_lines: Counter,
}

/// What is known of a request before its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'r> {
    pub(crate) site_code: &'r str,
    pub(crate) address: Option<IpAddr>,
    pub(crate) header_user_agent: &'r [u8],
    /// The visitor's user agent is in the body.
    pub(crate) body_ua: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The site has used what it may use until then.
    Quota {
        free_in: Duration,
    },
    Rule,
}

impl Rules {
    pub(crate) fn is_empty(&self) -> bool {
        self.quotas.is_empty() && self.of_all.is_empty() && self.of_site.is_empty()
    }

    fn count(&self) -> RulesCount {
        let of_site: usize = self.of_site.values().map(Vec::len).sum();
        RulesCount { quotas: self.quotas.len(), kill_rules: of_site + self.of_all.len() }
    }

    fn of<'s>(&'s self, site_code: &str) -> impl Iterator<Item = &'s Rule> + Clone + use<'s> {
        let of_site = if self.of_site.is_empty() { None } else { self.of_site.get(site_code) };
        of_site.into_iter().flatten().chain(&self.of_all)
    }

    /// Whether a request may go on, by its head.
    pub(crate) fn request(&self, subject: &Subject<'_>) -> Result<(), Refused> {
        self.quotas.admit(subject.site_code, self.now_ns())?;
        let refusing = self.of(subject.site_code).find(|rule| rule.refuses_request(subject));
        refusing.map_or(Ok(()), |rule| {
            rule.refused_requests.increment(1);
            Err(Refused::Rule)
        })
    }

    /// The rules that must see each line of this request.
    pub(crate) fn lines<'r>(&'r self, subject: &'r Subject<'r>) -> Option<LineRules<'r>> {
        let mut asked = self.of(subject.site_code).filter(|rule| rule.needs_line(subject));
        asked.next().is_some().then_some(LineRules { rules: self, subject })
    }

    /// Puts the lines of a request on its site's bill.
    pub(crate) fn charge(&self, site_code: &str, lines: u64) {
        self.quotas.charge(site_code, lines, self.now_ns());
    }

    /// Goes on where these rules end.
    fn go_on_from(&mut self, before: &Self) {
        self.started = before.started;
        self.quotas.go_on_from(&before.quotas);
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Rule {
    fn is_about(&self, subject: &Subject<'_>) -> bool {
        let Some(networks) = &self.addresses else { return true };
        subject.address.is_some_and(|address| networks.contains(address))
    }

    /// The head says it all.
    fn needs_head_alone(&self, subject: &Subject<'_>) -> bool {
        let knows_agent = self.user_agent.is_none() || !subject.body_ua;
        self.event.is_none() && self.kept_below == 0 && knows_agent
    }

    fn refuses_request(&self, subject: &Subject<'_>) -> bool {
        let is_agent = |pattern: &Pattern| pattern.matches(subject.header_user_agent);
        self.needs_head_alone(subject)
            && self.is_about(subject)
            && self.user_agent.as_ref().is_none_or(is_agent)
    }

    fn needs_line(&self, subject: &Subject<'_>) -> bool {
        !self.needs_head_alone(subject) && self.is_about(subject)
    }

    fn refuses_line(&self, line: &Seen<'_>) -> bool {
        self.event.is_none_or(|event| line.kind == Some(event))
            && (self.kept_below == 0 || line.place >= self.kept_below)
            && self.user_agent.as_ref().is_none_or(|pattern| pattern.matches(line.user_agent))
    }
}

/// What rules look at in a line.
struct Seen<'l> {
    kind: Option<Kind>,
    place: u64,
    user_agent: &'l [u8],
}

/// Where a visitor stands among all: the same in every process and for every rule, so
/// that a sample has whole visits, and a smaller sample is part of a larger one.
fn place_of(beacon: &Beacon<'_>) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(beacon.site_code.as_bytes());
    hasher.write_u8(0);
    hasher.write(beacon.visitor().as_bytes());
    hasher.finish()
}

/// Rules that look at lines.
pub(crate) struct LineRules<'r> {
    rules: &'r Rules,
    subject: &'r Subject<'r>,
}

impl LineRules<'_> {
    /// Whether the line is refused; counted if it is.
    pub(crate) fn refuse(&self, beacon: &Beacon<'_>) -> bool {
        let seen = Seen {
            kind: line::parse(beacon.line).ok().map(|line| line.kind()),
            place: place_of(beacon),
            // As in the head, a line of its own cannot take another one.
            user_agent: match self.subject.body_ua {
                true => beacon.user_agent,
                false => self.subject.header_user_agent,
            },
        };
        let mut asked = self.rules.of(self.subject.site_code).filter(|rule| rule.needs_line(self.subject));
        let refusing = asked.find(|rule| rule.refuses_line(&seen));
        if let Some(rule) = refusing {
            rule.refused_lines.increment(1);
        }
        refusing.is_some()
    }
}

#[cfg(test)]
mod tests;
