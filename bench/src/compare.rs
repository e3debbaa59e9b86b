//! Truth against what ClickHouse holds.
//!
//! Duty: walk two sorted lists of visits side by side, and count events per site. What must stay true: a row that is
//! missing, one too many and one that differs are three different findings, each shown with both rows; nothing of the
//! lists is held but the current rows.

use crate::clickhouse::{self, Lines};
use crate::day::{Truth, VISIT_COLUMNS};
use crate::tsv;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The columns that name a visit: site, visitor, start.
const KEY_COLUMNS: usize = 3;

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    ClickHouse(#[from] clickhouse::Error),
    #[error("cannot read {}: {source}; write the truth with fanal-bench day", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not what fanal-bench day writes: {what}; generate the day again", path.display())]
    Truth { path: PathBuf, what: String },
    #[error("ClickHouse gave a row of {0} columns; does the view have the documented columns?")]
    Columns(usize),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    pub visits_true: u64,
    pub visits_found: u64,
    pub missing: u64,
    pub unexpected: u64,
    pub different: u64,
    /// Sites whose number of events is wrong.
    pub events_different: u64,
    pub events_found: u64,
    /// The first differences, in words.
    pub shown: Vec<String>,
}

impl Findings {
    /// True where nothing differs.
    pub fn is_equal(&self) -> bool {
        self.missing + self.unexpected + self.different + self.events_different == 0
    }

    fn show(&mut self, limit: usize, text: impl FnOnce() -> String) {
        if self.shown.len() < limit {
            self.shown.push(text());
        }
    }
}

type Row = Vec<Vec<u8>>;

/// Compares a generated day with the database at `address`; keeps the first `limit` differences.
pub async fn compare(address: &str, folder: &Path, limit: usize) -> Result<Findings, Error> {
    let truth = read_truth(folder)?;
    let sites = truth.sites.keys().map(|site| quote(site)).collect::<Vec<_>>().join(", ");
    let mut findings = Findings::default();
    visits(address, folder, &sites, limit, &mut findings).await?;
    events(address, &truth, &sites, limit, &mut findings).await?;
    Ok(findings)
}

fn read_truth(folder: &Path) -> Result<Truth, Error> {
    let path = folder.join("truth.json");
    let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Truth { path, what: error.to_string() })
}

async fn visits(
    address: &str,
    folder: &Path,
    sites: &str,
    limit: usize,
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut expected = Expected::open(folder)?;
    let sql = format!(
        "SELECT site_code, visitor_code, toUnixTimestamp64Milli(started_at) AS started_at_ms, \
         toUnixTimestamp64Milli(last_event_at), event_count, page_view_count, conversion_count, \
         toDecimalString(revenue, 4), landing_url, exit_url FROM fanal.visits WHERE site_code IN ({sites}) \
         ORDER BY toString(site_code), visitor_code, started_at_ms FORMAT TabSeparated"
    );
    let mut found = clickhouse::query(address, &sql).await?;
    let mut want = expected.next()?;
    let mut have = next(&mut found).await?;
    findings.visits_true += u64::from(want.is_some());
    findings.visits_found += u64::from(have.is_some());
    while want.is_some() || have.is_some() {
        let order = match (&want, &have) {
            (Some(want), Some(have)) => key(want).cmp(&key(have)),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        let (show_want, show_have) = (order.is_le(), order.is_ge());
        let differs = want != have;
        if differs {
            let (name, count) = match order {
                std::cmp::Ordering::Less => ("missing visit", &mut findings.missing),
                std::cmp::Ordering::Greater => ("unexpected visit", &mut findings.unexpected),
                std::cmp::Ordering::Equal => ("different visit", &mut findings.different),
            };
            *count += 1;
            let rows = (want.as_ref().filter(|_| show_want), have.as_ref().filter(|_| show_have));
            findings.show(limit, || describe(name, rows.0, rows.1));
        }
        if show_want {
            want = expected.next()?;
            findings.visits_true += u64::from(want.is_some());
        }
        if show_have {
            have = next(&mut found).await?;
            findings.visits_found += u64::from(have.is_some());
        }
    }
    Ok(())
}

async fn events(
    address: &str,
    truth: &Truth,
    sites: &str,
    limit: usize,
    findings: &mut Findings,
) -> Result<(), Error> {
    let sql = format!(
        "SELECT toString(site_code) AS site, count() FROM fanal.events WHERE site_code IN ({sites}) \
         GROUP BY site FORMAT TabSeparated"
    );
    let mut lines = clickhouse::query(address, &sql).await?;
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(line) = lines.next().await? {
        let row = tsv::fields(&line);
        let [site, count] = row.as_slice() else {
            return Err(Error::Columns(row.len()));
        };
        let count = String::from_utf8_lossy(count).parse().map_err(|_| Error::Columns(row.len()))?;
        found.insert(String::from_utf8_lossy(site).into_owned(), count);
    }
    for (code, site) in &truth.sites {
        let have = found.get(code).copied().unwrap_or(0);
        findings.events_found += have;
        if have != site.events_distinct {
            findings.events_different += 1;
            let (want, beats) = (site.events_distinct, site.heartbeats);
            findings.show(limit, || {
                format!("events of site {code}: {have} found, {want} are true (of these, {beats} heartbeats)")
            });
        }
    }
    Ok(())
}

fn key(row: &Row) -> (&[u8], &[u8], u64) {
    let start = row.get(2).and_then(|start| std::str::from_utf8(start).ok()?.parse().ok());
    (&row[0], &row[1], start.unwrap_or(0))
}

/// Both rows of a difference, and the columns in which they differ.
fn describe(name: &str, want: Option<&Row>, have: Option<&Row>) -> String {
    let mut out = name.to_owned();
    if let (Some(want), Some(have)) = (want, have) {
        let columns: Vec<&str> = VISIT_COLUMNS
            .into_iter()
            .zip(want.iter().zip(have))
            .filter(|(_, (want, have))| want != have)
            .map(|(column, _)| column)
            .collect();
        // Writing to a String cannot fail.
        let _ = write!(out, " ({})", columns.join(", "));
    }
    for (side, row) in [("true", want), ("found", have)] {
        if let Some(row) = row {
            let row: Vec<_> = row.iter().map(|field| String::from_utf8_lossy(field)).collect();
            let _ = write!(out, "\n  {side:<5} {}", row.join(" | "));
        }
    }
    out
}

async fn next(lines: &mut Lines) -> Result<Option<Row>, Error> {
    let Some(line) = lines.next().await? else {
        return Ok(None);
    };
    let row = tsv::fields(&line);
    if row.len() == VISIT_COLUMNS.len() { Ok(Some(row)) } else { Err(Error::Columns(row.len())) }
}

/// A SQL string.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `visits.tsv`, row by row.
struct Expected {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Expected {
    fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("visits.tsv");
        let file = File::open(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let mut expected = Self { path, file: BufReader::new(file), line: Vec::new() };
        let header = expected.next()?.unwrap_or_default();
        if header.len() < KEY_COLUMNS || !header.iter().zip(VISIT_COLUMNS).all(|(a, b)| a == b.as_bytes()) {
            let what = "its first line does not name the columns".to_owned();
            return Err(Error::Truth { path: expected.path, what });
        }
        Ok(expected)
    }

    fn next(&mut self) -> Result<Option<Row>, Error> {
        self.line.clear();
        let read = self.file.read_until(b'\n', &mut self.line);
        let read = read.map_err(|source| Error::Read { path: self.path.clone(), source })?;
        if read == 0 {
            return Ok(None);
        }
        let row = tsv::fields(self.line.strip_suffix(b"\n").unwrap_or(&self.line));
        if row.len() == VISIT_COLUMNS.len() {
            return Ok(Some(row));
        }
        let what = format!("a row has {} columns", row.len());
        Err(Error::Truth { path: self.path.clone(), what })
    }
}
