//! What a format's plan is, and what it makes of a line, for people.
//!
//! Never decides anything: it says what [`super::plan`] and [`super::line`] decided.

use fanal_model::RejectReason;
use serde::Serialize;

use super::error::shown_bytes;
use super::search::Search;
use super::shape::{MethodForm, Slot, TargetForm};
use super::time::TimeForm;
use super::{Escape, LogFormat, LogOutcome, Scratch, without_end};

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub escape: &'static str,
    /// The values can be told apart only as nginx writes since 1.21.1, which refuses
    /// blanks in URIs and hosts.
    pub is_recent: bool,
    /// Literals and variables in their order.
    pub parts: Vec<Part>,
    /// What beacons need, and where it comes from.
    pub uses: Vec<ExplainedUse>,
    /// What is worth knowing of this format.
    pub notes: Vec<&'static str>,
}

/// A piece of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    Literal {
        text: String,
    },
    Variable {
        name: String,
        /// Bytes before it in the text of the format.
        offset: usize,
        used_for: Option<&'static str>,
        /// `None` behind the last value that is needed: nobody looks there.
        search: Option<Search>,
    },
}

/// A need of beacons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedUse {
    pub name: &'static str,
    /// `None` when the format has no variable for it.
    pub variable: Option<String>,
    /// What is done with it, or what is lost without it.
    pub meaning: &'static str,
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedLine {
    pub fields: Vec<ExplainedField>,
    /// `request`, the reason why the line is ignored, or the reason why it is rejected.
    pub outcome: &'static str,
    /// Why, where the outcome alone does not say it.
    pub why: Option<String>,
    /// Of a request.
    pub site_code: Option<String>,
    pub received_at_ms: Option<u64>,
    pub client_address: Option<String>,
    pub cookie_visitor: Option<String>,
    /// Lines of a body, or one for the query of a GET.
    pub tracking_lines: Option<u64>,
}

/// One value of a line, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    pub variable: &'a str,
    pub used_for: Option<&'static str>,
    pub raw: &'a [u8],
    escape: Escape,
}

impl Field<'_> {
    /// What it stands for; empty for no value, `None` where nginx cannot have written it.
    #[must_use]
    pub fn decoded(&self) -> Option<Vec<u8>> {
        let mut decoded = Vec::new();
        let text = if self.raw == self.escape.absent() { &[] } else { self.raw };
        self.escape.decode(text, &mut decoded).map(|()| decoded)
    }
}

/// One value of a line, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedField {
    pub variable: String,
    pub used_for: Option<&'static str>,
    /// As it stands in the line.
    pub raw: String,
    /// `None` where it is no text of nginx's.
    pub decoded: Option<String>,
}

impl LogFormat {
    /// The plan.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        let plan = &self.plan;
        let literal = |bytes: &[u8]| Part::Literal { text: String::from_utf8_lossy(bytes).into_owned() };
        let mut parts = Vec::new();
        if !plan.prefix.is_empty() {
            parts.push(literal(&plan.prefix));
        }
        for (at, (named, behind)) in plan.variables.iter().enumerate() {
            let step = plan.steps.get(at);
            parts.push(Part::Variable {
                name: named.name.clone(),
                offset: named.offset,
                used_for: step.and_then(|step| step.slot.name()),
                search: step.map(|step| Search::of(step.find, at)),
            });
            if !behind.is_empty() {
                parts.push(literal(behind));
            }
        }
        let uses = SLOTS.iter().filter_map(|slot| self.explained_use(*slot)).collect();
        let (escape, is_recent) = (plan.escape.name(), plan.is_recent);
        Explanation { escape, is_recent, parts, uses, notes: self.notes() }
    }

    fn variable_of(&self, slot: Slot) -> Option<String> {
        let at = self.plan.steps.iter().position(|step| step.slot == slot)?;
        Some(self.plan.variables.get(at)?.0.name.clone())
    }

    fn explained_use(&self, slot: Slot) -> Option<ExplainedUse> {
        let of_target = slot == Slot::Method && self.plan.shape.method == MethodForm::OfTarget;
        let variable = self.variable_of(if of_target { Slot::Target } else { slot });
        let meaning = match variable {
            Some(_) => self.meaning(slot),
            None => loss(slot)?,
        };
        Some(ExplainedUse { name: slot.name()?, variable, meaning })
    }

    fn meaning(&self, slot: Slot) -> &'static str {
        let shape = &self.plan.shape;
        match slot {
            Slot::Time if shape.time == TimeForm::Msec => "event time",
            Slot::Time => "event time, to the second",
            Slot::Status => "200 to 299 counts",
            Slot::Method => "GET and POST count",
            Slot::Target if shape.target == TargetForm::Path => "the path",
            Slot::Target => "path and query; the query names the site, and is the event of a GET",
            Slot::Query => "names the site, and is the event of a GET",
            Slot::Address if shape.address_is_list => "the client's address: the last one of the list",
            Slot::Address => "the client's address",
            Slot::UserAgent => "user agent where a line has none",
            Slot::Referer => "kept with the event",
            Slot::Cookie => "its kameleoonVisitorCode names the visitor where neither query nor line does",
            Slot::Visitor => "names the visitor where neither query nor line does",
            Slot::Body => "the lines of a POST",
            Slot::Unneeded => "",
        }
    }

    fn notes(&self) -> Vec<&'static str> {
        let plan = &self.plan;
        let mut notes = Vec::new();
        if plan.is_recent {
            notes.push(
                "can be told apart only as nginx writes since 1.21.1, which refuses blanks in URIs and hosts",
            );
        }
        if plan.shape.target == TargetForm::Path || plan.shape.target == TargetForm::Folded {
            notes
                .push("`$uri` is the path after rewriting: a tracking path that nginx rewrites is not found");
        }
        if plan.steps.len() < plan.variables.len() {
            notes.push("what stands behind the last value that is needed is not looked at");
        }
        notes
    }

    /// The values of a line in their order; the position of the variable, of all that
    /// are searched, at which the line turned out to be of another format.
    #[must_use]
    pub fn fields<'a>(&'a self, line: &'a [u8]) -> (Vec<Field<'a>>, Option<usize>) {
        let plan = &self.plan;
        let mut found: Vec<(usize, Field<'a>)> = Vec::new();
        let located = plan.locate(without_end(line), |at, slot, raw| {
            let variable = &plan.variables[at].0.name;
            found.push((at, Field { variable, used_for: slot.name(), raw, escape: plan.escape }));
        });
        found.sort_by_key(|(at, _)| *at);
        (found.into_iter().map(|(_, field)| field).collect(), located.err().map(|misfit| misfit.0))
    }

    /// What becomes of one line.
    #[must_use]
    pub fn explain(&self, line: &[u8]) -> ExplainedLine {
        let line = without_end(line);
        let (fields, misfit) = self.fields(line);
        let fields = fields.iter().map(|field| ExplainedField {
            variable: field.variable.to_owned(),
            used_for: field.used_for,
            raw: String::from_utf8_lossy(field.raw).into_owned(),
            decoded: field.decoded().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        });
        let mut explained = ExplainedLine {
            fields: fields.collect(),
            outcome: RejectReason::MalformedLogLine.name(),
            why: None,
            site_code: None,
            received_at_ms: None,
            client_address: None,
            cookie_visitor: None,
            tracking_lines: None,
        };
        match misfit {
            Some(at) => explained.why = Some(self.misfit(at, line)),
            None => self.judge(line, &mut explained),
        }
        explained
    }

    fn misfit(&self, at: usize, line: &[u8]) -> String {
        if !line.starts_with(&self.plan.prefix) {
            return format!("does not begin with {}", shown_bytes(&self.plan.prefix));
        }
        let Some((named, literal)) = self.plan.variables.get(at) else { return String::new() };
        match literal.is_empty() {
            true => format!("`${}` does not end with the line, or holds a separator", named.name),
            false => format!("no {} behind `${}` where the format has it", shown_bytes(literal), named.name),
        }
    }

    fn judge(&self, line: &[u8], explained: &mut ExplainedLine) {
        let Ok(read) = self.read(line) else {
            let why = "the time or the status is none: a time is of the years 2000 to 2099, a status has three digits";
            explained.why = Some(why.to_owned());
            return;
        };
        explained.received_at_ms = Some(read.received_at_ms);
        let mut scratch = Scratch::default();
        match read.outcome(&mut scratch) {
            Ok(LogOutcome::Ignored(reason)) => explained.outcome = reason.name(),
            Ok(LogOutcome::Request(request)) => {
                explained.outcome = "request";
                explained.site_code = Some(request.site_code.to_string());
                explained.client_address = request.client_address.map(|ip| ip.to_string());
                explained.cookie_visitor = request.cookie_visitor.map(|code| code.to_string());
                explained.tracking_lines = Some(request.body.map_or(1, crate::body::count));
            }
            Err(reason) => {
                explained.outcome = reason.name();
                let broken = explained.fields.iter().find(|field| field.decoded.is_none());
                explained.why = Some(match (reason, broken) {
                    (RejectReason::MalformedLogLine, Some(field)) => {
                        format!("`${}` has an escape that nginx does not write", field.variable)
                    }
                    (RejectReason::MalformedLogLine, None) => {
                        "a POST whose body is not in the log: its events are lost".to_owned()
                    }
                    _ => "the query has no `siteCode`".to_owned(),
                });
            }
        }
    }
}

/// All needs in the order in which people read them.
const SLOTS: [Slot; 11] = [
    Slot::Time,
    Slot::Status,
    Slot::Method,
    Slot::Target,
    Slot::Query,
    Slot::Body,
    Slot::Address,
    Slot::UserAgent,
    Slot::Referer,
    Slot::Cookie,
    Slot::Visitor,
];

/// What beacons lose without a variable. `None` where nothing is lost.
fn loss(slot: Slot) -> Option<&'static str> {
    Some(match slot {
        Slot::Method => {
            "without `$request_method` or `$request`: a request with a body counts as POST, one whose query has an `eventType` as GET, others are ignored"
        }
        Slot::Body => {
            "without `$request_body`: every POST is rejected as malformed_log_line, and SDKs send POST; only events in the query of a GET are read"
        }
        Slot::Address => "without `$remote_addr`: events have no client address",
        Slot::UserAgent => {
            "without `$http_user_agent`: lines without a user agent of their own have none, and robots are not known by it"
        }
        Slot::Referer => "without `$http_referer`: events have no referer",
        Slot::Cookie => {
            "without `$http_cookie` or `$cookie_kameleoonVisitorCode`: a line that names no visitor is rejected as missing_visitor"
        }
        _ => return None,
    })
}
