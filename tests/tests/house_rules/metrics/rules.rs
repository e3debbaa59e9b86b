//! What a metric must be: described once, used, well named, with labels that its sentence bounds.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Description, Kind, Sources, Use};
use crate::Breach;

/// The crates that count: folder, beginnings of their names, and which processes have them.
pub(super) const CRATES: &[(&str, &[&str], &str)] = &[
    ("service", &["http_", "log_", "health_"], "Every process"),
    ("ingest", &["ingest_"], "Processes with `[ingest]`; those of the spool where the event log is on Kafka"),
    ("storage/kafka", &["kafka_"], "Processes whose event log is on Kafka"),
    ("etl", &["etl_"], "Processes with `[etl]`"),
    ("storage/profiles", &["profiles_"], "Processes with `[etl]`: they write the profile store"),
    ("delivery", &["delivery_"], "Processes with `[delivery]`"),
];

/// Units that are written as `_seconds` and `_bytes` everywhere.
const OTHER_UNITS: &[&str] = &[
    "ns",
    "nanos",
    "us",
    "micros",
    "ms",
    "millis",
    "milliseconds",
    "s",
    "secs",
    "minutes",
    "hours",
    "days",
    "kb",
    "mb",
    "gb",
    "kib",
    "mib",
    "gib",
    "kilobytes",
    "megabytes",
    "percent",
];

/// A description taken apart: `What it is. By `label`: its values. By `other`: its values.`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sentence<'t> {
    pub(super) meaning: &'t str,
    /// Labels with what is said of their values, in the sentence's order.
    pub(super) labels: Vec<(&'t str, &'t str)>,
}

impl<'t> Sentence<'t> {
    pub(super) fn of(text: &'t str) -> Result<Self, String> {
        if !text.ends_with('.') || text.contains('\n') {
            return Err("the description is one line that ends with a full stop".to_owned());
        }
        let mut parts = text.split(" By `");
        let meaning = parts.next().unwrap_or_default();
        if !meaning.ends_with('.') || meaning.len() < 12 {
            return Err("say first what is measured, in a sentence of its own".to_owned());
        }
        let labels = parts.map(|part| part.trim_end_matches('.').split_once("`: ")).collect::<Option<_>>();
        let labels =
            labels.ok_or("name a label and its values as in: By `result`: `accepted`, `refused`.")?;
        Ok(Self { meaning, labels })
    }
}

/// Words in backticks.
pub(super) fn marked(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// All breaches of the rules, those of reading included.
pub(super) fn breaches(sources: &Sources) -> Vec<Breach> {
    let mut found = sources.breaches.clone();
    let mut described: BTreeMap<&str, &Description> = BTreeMap::new();
    for description in &sources.descriptions {
        let name = description.name.as_str();
        let mut wrong = |what: String| found.push((description.place.clone(), format!("{name}: {what}")));
        if let Some(first) = described.insert(name, description) {
            wrong(format!("described at {} as well; keep one", first.place));
        }
        for what in misnamed(description) {
            wrong(what);
        }
        let uses: Vec<&Use> = sources.uses.iter().filter(|a_use| a_use.name == name).collect();
        if uses.is_empty() {
            wrong("described and never counted; remove it".to_owned());
        }
        match Sentence::of(&description.text) {
            Ok(sentence) => unbounded(&sentence, &uses).into_iter().for_each(wrong),
            Err(what) => wrong(what),
        }
    }
    for a_use in &sources.uses {
        let mut wrong = |what: String| found.push((a_use.place.clone(), format!("{}: {what}", a_use.name)));
        match described.get(a_use.name.as_str()) {
            None => wrong("has no description; add it to `describe` in the crate's metrics.rs".to_owned()),
            Some(description) if description.kind != a_use.kind => {
                wrong(format!("a {} here, described as a {}", a_use.kind.name(), description.kind.name()));
            }
            Some(_) => {}
        }
    }
    found
}

fn misnamed(description: &Description) -> Vec<String> {
    let (name, kind) = (description.name.as_str(), description.kind);
    let mut wrong = Vec::new();
    let words: Vec<&str> = name.split('_').collect();
    let is_plain = |word: &&str| !word.is_empty() && word.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'));
    if !words.iter().all(is_plain) || words.len() < 2 {
        wrong.push("write the name in snake_case".to_owned());
    }
    match CRATES.iter().find(|(folder, ..)| *folder == description.folder) {
        None => wrong.push(format!("say in CRATES which processes have {}", description.folder)),
        Some((_, beginnings, _)) if !beginnings.iter().any(|beginning| name.starts_with(beginning)) => {
            wrong.push(format!("names of this crate begin with {}", beginnings.join(" or ")));
        }
        Some(_) => {}
    }
    if (kind == Kind::Counter) != name.ends_with("_total") {
        wrong.push("counters, and only they, end in `_total`".to_owned());
    }
    if kind == Kind::Histogram && !name.ends_with("_seconds") {
        wrong.push(
            "buckets are of seconds (service/src/metrics.rs): a histogram ends in `_seconds`".to_owned(),
        );
    }
    let quantity = name.strip_suffix("_total").unwrap_or(name);
    for unit in ["seconds", "bytes"] {
        if words.contains(&unit) && !quantity.ends_with(unit) {
            wrong.push(format!("`_{unit}` stands at the end, before `_total`"));
        }
    }
    if let Some(unit) = words.iter().find(|word| OTHER_UNITS.contains(word)) {
        wrong.push(format!("`_{unit}`: units are `_seconds` and `_bytes`"));
    }
    wrong
}

/// Labels that the code and the sentence do not agree on.
fn unbounded(sentence: &Sentence, uses: &[&Use]) -> Vec<String> {
    let mut wrong = Vec::new();
    let said: BTreeMap<&str, &str> = sentence.labels.iter().copied().collect();
    if said.len() != sentence.labels.len() {
        wrong.push("the description names a label twice".to_owned());
    }
    for a_use in uses {
        let used: BTreeSet<&str> = a_use.labels.keys().map(String::as_str).collect();
        for label in used.iter().filter(|label| !said.contains_key(**label)) {
            wrong.push(format!(
                "{} has the label `{label}`; say what bounds it, as in: By `{label}`: `a`, `b`.",
                a_use.place
            ));
        }
        for label in said.keys().filter(|label| !used.contains(**label)) {
            wrong.push(format!("{} lacks the label `{label}` that the description names", a_use.place));
        }
    }
    for (label, values) in &sentence.labels {
        let counted: Vec<&Option<String>> =
            uses.iter().filter_map(|a_use| a_use.labels.get(*label)).collect();
        let texts: BTreeSet<&str> = counted.iter().filter_map(|value| value.as_deref()).collect();
        let (listed, all_known) = (marked(values), counted.iter().all(|value| value.is_some()));
        for value in texts.difference(&listed) {
            wrong.push(format!("`{label}` is counted as `{value}`, which the description does not list"));
        }
        for value in listed.difference(&texts).filter(|_| all_known) {
            wrong.push(format!("the description lists `{value}` for `{label}`, which is never counted"));
        }
    }
    wrong
}
