//! What is true of the day, as files beside its logs.
//!
//! Duty: `visits.tsv`, one row per visit, and `truth.json`, sums and counts. Never reads a log.

use super::account::Day;
use super::model::{PageAt, Visit};
use super::values::{origin, path};
use super::write::Written;
use super::{Error, Options};
use crate::tsv;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;

/// The columns of `visits.tsv`.
pub const VISIT_COLUMNS: [&str; 10] = [
    "site_code",
    "visitor",
    "started_at_ms",
    "last_event_at_ms",
    "event_count",
    "page_view_count",
    "conversion_count",
    "revenue",
    "landing_url",
    "exit_url",
];

/// Sums of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteTruth {
    pub visits: u64,
    pub visitors_with_visits: u64,
    /// Good lines received with a 2xx, repeats and heartbeats included.
    pub events_accepted: u64,
    /// The same without repeats: rows of `events`.
    pub events_distinct: u64,
    /// Of those, heartbeats; the rest are the visits' events.
    pub heartbeats: u64,
    pub page_views: u64,
    pub conversions: u64,
    /// Four places.
    pub revenue: String,
    /// Whole seconds of each visit, added up.
    pub duration_s: u64,
    pub duration_ms: u64,
}

/// `truth.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub seed: u64,
    pub start_ms: u64,
    pub first_date: String,
    pub last_date: String,
    pub session_timeout_ms: u64,
    pub dedupe_horizon_ms: u64,
    /// File names with their nodes' names at the start.
    pub files: Vec<String>,
    pub bytes: u64,
    pub log_lines: u64,
    /// Log lines that are no log lines.
    pub garbage: u64,
    pub requests_counted: u64,
    pub requests_ignored: u64,
    pub lines_accepted: u64,
    pub lines_rejected: u64,
    /// Lines of requests that do not count.
    pub lines_ignored: u64,
    pub events_distinct: u64,
    pub heartbeats: u64,
    pub visits: u64,
    pub sites: BTreeMap<String, SiteTruth>,
    pub cases: BTreeMap<String, u64>,
}

/// Writes both files.
pub(super) fn write(day: &Day, options: &Options, written: &Written) -> Result<Truth, Error> {
    let truth = sum(day, options, written);
    let save = |name: &str, bytes: &[u8]| {
        let path = options.out.join(name);
        std::fs::write(&path, bytes).map_err(|source| Error::Write { path, source })
    };
    save("visits.tsv", &visits_tsv(day))?;
    let mut json = serde_json::to_vec_pretty(&truth)?;
    json.push(b'\n');
    save("truth.json", &json)?;
    Ok(truth)
}

/// The rows of `visits.tsv`, sorted by site, visitor and start.
pub(super) fn visits_tsv(day: &Day) -> Vec<u8> {
    let mut order: Vec<&Visit> = day.visits.iter().collect();
    let key = |visit: &Visit| {
        let visitor = &day.visitors[visit.visitor as usize];
        (day.sites[usize::from(visitor.site)].as_str(), &*visitor.code, visit.started_at_ms)
    };
    order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    let mut out = VISIT_COLUMNS.join("\t").into_bytes();
    out.push(b'\n');
    for visit in order {
        row(day, visit, &mut out);
    }
    out
}

fn row(day: &Day, visit: &Visit, out: &mut Vec<u8>) {
    let visitor = &day.visitors[visit.visitor as usize];
    let site = &day.sites[usize::from(visitor.site)];
    let url = |page: Option<PageAt>| {
        page.map_or_else(String::new, |page| {
            let mut url = origin(site);
            path(page.attribute, &mut url);
            url
        })
    };
    tsv::push(site, out);
    out.push(b'\t');
    tsv::push(&visitor.code, out);
    // Writing to a Vec cannot fail.
    drop(write!(
        out,
        "\t{}\t{}\t{}\t{}\t{}\t{}\t",
        visit.started_at_ms,
        visit.last_event_at_ms,
        visit.event_count,
        visit.page_view_count,
        visit.conversion_count,
        decimal(visit.revenue),
    ));
    tsv::push(&url(visit.landing), out);
    out.push(b'\t');
    tsv::push(&url(visit.exit), out);
    out.push(b'\n');
}

fn sum(day: &Day, options: &Options, written: &Written) -> Truth {
    let mut sites: Vec<SiteTruth> = Vec::new();
    for counts in &day.per_site {
        sites.push(SiteTruth {
            events_accepted: counts.accepted,
            events_distinct: counts.distinct,
            heartbeats: counts.heartbeats,
            ..SiteTruth::default()
        });
    }
    let mut revenue = vec![0i64; sites.len()];
    let mut seen = vec![false; day.visitors.len()];
    for visit in &day.visits {
        let at = usize::from(day.visitors[visit.visitor as usize].site);
        let site = &mut sites[at];
        site.visits += 1;
        site.page_views += u64::from(visit.page_view_count);
        site.conversions += u64::from(visit.conversion_count);
        site.duration_ms += visit.last_event_at_ms - visit.started_at_ms;
        site.duration_s += (visit.last_event_at_ms - visit.started_at_ms) / 1000;
        revenue[at] += visit.revenue;
        if !std::mem::replace(&mut seen[visit.visitor as usize], true) {
            site.visitors_with_visits += 1;
        }
    }
    for (site, amount) in sites.iter_mut().zip(revenue) {
        site.revenue = decimal(amount);
    }
    let last_ms = day.requests.last().map_or(day.start_ms, |request| request.at_ms);
    let name = |path: &std::path::PathBuf| {
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    Truth {
        seed: options.seed,
        start_ms: day.start_ms,
        first_date: date(day.requests.first().map_or(day.start_ms, |request| request.at_ms)),
        last_date: date(last_ms),
        session_timeout_ms: super::SESSION_TIMEOUT_MS,
        dedupe_horizon_ms: super::DEDUPE_HORIZON_MS,
        files: written.files.iter().map(name).collect(),
        bytes: written.bytes,
        log_lines: written.log_lines,
        garbage: day.totals.garbage + written.torn_ends,
        requests_counted: day.totals.requests_counted,
        requests_ignored: day.totals.requests_ignored,
        lines_accepted: day.totals.lines_accepted,
        lines_rejected: day.totals.lines_rejected,
        lines_ignored: day.totals.lines_ignored,
        events_distinct: sites.iter().map(|site| site.events_distinct).sum(),
        heartbeats: sites.iter().map(|site| site.heartbeats).sum(),
        visits: day.visits.len() as u64,
        sites: day.sites.iter().cloned().zip(sites).collect(),
        cases: day.cases.by_name().into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    }
}

/// An amount in 1/10,000 with its four places.
pub(super) fn decimal(amount: i64) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let amount = amount.unsigned_abs();
    format!("{sign}{}.{:04}", amount / 10_000, amount % 10_000)
}

/// The UTC date of an instant.
pub(super) fn date(at_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at_ms).unwrap_or(i64::MAX)).unwrap_or_default();
    at.strftime("%Y-%m-%d").to_string()
}
