//! The rules as a person writes them.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read};
use std::path::Path;

use fanal_parser::line::Kind;
use fanal_service::config::Networks;
use serde::Deserialize;
use thiserror::Error;

use super::pattern::Pattern;
use super::quota::{Quotas, Rate};
use super::{Rule, Rules, typed};
use crate::metrics;

const FILE_BYTES_MAX: u64 = 1 << 20;
const RULES_MAX: usize = 1000;
const QUOTAS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 256;
const LINES_PER_S_MAX: f64 = 1e9;
const BURST_S_MAX: f64 = 3600.0;
const NANOS: f64 = 1e9;

/// What is wrong with the file. The rules before it stay in force.
#[derive(Debug, Error)]
pub enum RulesError {
    #[error("cannot read {path}: {source}; make it readable for this user, or remove it for no rules")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not there; give the path of a file of rules")]
    Missing { path: String },
    #[error("{path} has more than {FILE_BYTES_MAX} bytes; write fewer rules")]
    TooLong { path: String },
    #[error("{path}: {message}")]
    Wrong { path: String, message: String },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "typed::entries")]
    quota: Vec<QuotaEntry>,
    #[serde(default, deserialize_with = "typed::entries")]
    rule: Vec<RuleEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaEntry {
    /// `*` for each site that has none of its own.
    #[serde(deserialize_with = "typed::text")]
    site: String,
    #[serde(deserialize_with = "typed::number")]
    lines_per_s: f64,
    #[serde(default = "burst_s", deserialize_with = "typed::number")]
    burst_s: f64,
}

fn burst_s() -> f64 {
    2.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    #[serde(deserialize_with = "typed::text")]
    name: String,
    #[serde(default, deserialize_with = "typed::optional_text")]
    site: Option<String>,
    addresses: Option<Networks>,
    #[serde(default, deserialize_with = "typed::optional_text")]
    user_agent: Option<String>,
    #[serde(default, deserialize_with = "typed::optional_text")]
    event: Option<String>,
    #[serde(default, deserialize_with = "typed::number")]
    keep: f64,
}

impl Rules {
    /// Reads the file, if it is there.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, RulesError> {
        let shown = || path.display().to_string();
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(RulesError::Read { path: shown(), source }),
        };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|source| RulesError::Read { path: shown(), source })?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(RulesError::TooLong { path: shown() });
        }
        match Self::parse(&text) {
            Ok(rules) => Ok(Some(rules)),
            Err(message) => Err(RulesError::Wrong { path: shown(), message }),
        }
    }

    /// The rules of a file's text, or what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: File = typed::read(text)?;
        if file.rule.len() > RULES_MAX || file.quota.len() > QUOTAS_MAX {
            return Err(format!("at most {RULES_MAX} rules and {QUOTAS_MAX} quotas are possible"));
        }
        let quotas = quotas_of(&file.quota)?;
        let mut names = HashSet::new();
        let mut of_site: HashMap<Box<str>, Vec<Rule>> = HashMap::new();
        let mut of_all = Vec::new();
        for entry in &file.rule {
            let rule = entry.rule().map_err(|problem| format!("rule `{}`: {problem}", entry.name))?;
            if !names.insert(&entry.name) {
                return Err(format!("rule `{}` is there twice; give each a name of its own", entry.name));
            }
            match &entry.site {
                Some(site) => of_site.entry(site.as_str().into()).or_default().push(rule),
                None => of_all.push(rule),
            }
        }
        Ok(Self { quotas, of_site, of_all, ..Self::default() })
    }
}

fn quotas_of(entries: &[QuotaEntry]) -> Result<Quotas, String> {
    let mut quotas = Quotas::default();
    let mut sites = HashSet::new();
    for entry in entries {
        let QuotaEntry { site, lines_per_s, burst_s } = entry;
        if !sites.insert(site) {
            return Err(format!("site `{site}` has two quotas; leave one"));
        }
        // Written so that a NaN is refused, too.
        if !(*lines_per_s > 0.0 && *lines_per_s <= LINES_PER_S_MAX) {
            return Err(format!(
                "quota of site `{site}`: lines_per_s must be above 0; to refuse all, write a rule"
            ));
        }
        if !(*burst_s > 0.0 && *burst_s <= BURST_S_MAX) {
            return Err(format!("quota of site `{site}`: burst_s must be above 0 and at most {BURST_S_MAX}"));
        }
        let rate = Rate { line_ns: whole(NANOS / lines_per_s).max(1), burst_ns: whole(burst_s * NANOS) };
        match site.as_str() {
            "*" => quotas.every(rate),
            site => quotas.name(site, rate),
        }
    }
    Ok(quotas)
}

impl RuleEntry {
    fn rule(&self) -> Result<Rule, String> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(format!("its name must have 1 to {NAME_BYTES_MAX} bytes"));
        }
        if !(0.0..1.0).contains(&self.keep) {
            return Err("keep is the share of visitors that stays: from 0 up to, not including, 1".to_owned());
        }
        if self.user_agent.as_ref().is_some_and(|pattern| pattern.len() > PATTERN_BYTES_MAX) {
            return Err(format!("user_agent may have {PATTERN_BYTES_MAX} bytes"));
        }
        if let Some(event) = &self.event
            && Kind::of(event.as_bytes()) == Kind::Other
        {
            return Err(format!("`{event}` is no event type; write it as eventType does, such as `page`"));
        }
        let has_no_condition = self.site.is_none()
            && self.addresses.is_none()
            && self.user_agent.is_none()
            && self.event.is_none();
        if has_no_condition {
            return Err(
                "it has no condition and would hit everything; add site, addresses, user_agent or event"
                    .to_owned(),
            );
        }
        Ok(Rule {
            addresses: self.addresses.clone(),
            user_agent: self.user_agent.as_deref().map(Pattern::new),
            event: self.event.as_ref().map(|event| Kind::of(event.as_bytes())),
            kept_below: whole(self.keep * u64::MAX as f64),
            refused_requests: metrics::refused_by_rule(&self.name, "request"),
            refused_lines: metrics::refused_by_rule(&self.name, "line"),
        })
    }
}

/// The whole part of what is known not to be negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion of floats saturates"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
