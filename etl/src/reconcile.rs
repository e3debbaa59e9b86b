//! Proof of conservation from stored counts.
//!
//! Per minute and site: received = accepted + rejected; accepted = archived;
//! archived = loaded + duplicates + late + dead letters. The caller lets the
//! pipeline catch up first, so that nothing is in flight.

use clickhouse::Row;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseError};
use serde::{Deserialize, Serialize};

use crate::day::Day;

/// Which part of the ledger is compared.
#[derive(Debug, Clone, Default)]
pub struct Range {
    pub site: Option<String>,
    pub from: Option<Day>,
    /// The last day, included.
    pub to: Option<Day>,
}

/// The sum of one stage and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct StageSum {
    pub stage: String,
    pub outcome: String,
    pub count: u64,
}

/// A minute of a site where a law does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct Broken {
    /// Such as `2026-10-01 12:34:00`, UTC.
    pub minute: String,
    /// Whether the minute was over when the comparison began.
    #[serde(skip_serializing)]
    pub is_settled: bool,
    pub site_code: String,
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub archived: u64,
    pub loaded: u64,
    pub duplicate: u64,
    pub late: u64,
    pub dead_letter: u64,
}

impl Broken {
    /// The first law that does not hold, in words.
    #[must_use]
    pub fn law(&self) -> String {
        let Self { received, accepted, rejected, archived, loaded, duplicate, late, dead_letter, .. } = self;
        if *received != accepted + rejected {
            format!("received {received} is not accepted {accepted} + rejected {rejected}")
        } else if accepted != archived {
            format!("accepted {accepted} is not archived {archived}")
        } else {
            format!(
                "archived {archived} is not loaded {loaded} + duplicates {duplicate} + late {late} + dead letters {dead_letter}"
            )
        }
    }
}

/// The whole comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// One row per stage and outcome.
    pub stages: Vec<StageSum>,
    /// Minutes of sites that were compared.
    pub compared: u64,
    /// The first differences, in order of time.
    pub broken: Vec<Broken>,
    /// Minutes of sites that differ and were still under way when the comparison
    /// began: what arrives during it is in some stages and not yet in others.
    pub in_flight: u64,
}

impl Reconciliation {
    /// Whether a minute differs that was not over when the comparison began.
    #[must_use]
    pub fn differs_under_way(&self) -> bool {
        self.broken.iter().any(|minute| !minute.is_settled)
    }

    /// For a caller who saw traffic go on: minutes under way are no verdict.
    pub fn set_aside_under_way(&mut self) {
        let differing = self.broken.len();
        self.broken.retain(|minute| minute.is_settled);
        self.in_flight = (differing - self.broken.len()) as u64;
    }
}

/// Differences that are reported; the first one is what matters.
const BROKEN_MAX: u32 = 20;

/// Compares all stages. `began_ms` is when the caller began to let the pipeline
/// catch up: minutes from then on cannot be judged while traffic goes on; without
/// traffic they can.
pub async fn reconcile(
    clickhouse: &ClickHouse,
    range: &Range,
    began_ms: u64,
) -> Result<Reconciliation, ClickHouseError> {
    const WHAT: &str = "add up the ledger";
    let condition = condition(range);
    let stages = clickhouse
        .fetch_all(
            WHAT,
            &format!(
                "SELECT stage, outcome, sum(count) AS count FROM ledger WHERE {condition} GROUP BY stage, outcome \
                 ORDER BY indexOf(['receive', 'accept', 'archive', 'load'], stage), count DESC"
            ),
        )
        .await?;
    let compared = clickhouse
        .fetch_one(WHAT, &format!("SELECT uniqExact(minute, site_code) FROM ledger WHERE {condition}"))
        .await?;
    let sum = |name: &str, test: &str| format!("sumIf(count, {test}) AS {name}");
    let sums = [
        sum("received", "stage = 'receive'"),
        sum("accepted", "stage = 'accept' AND outcome = 'accepted'"),
        sum("rejected", "stage = 'accept' AND outcome != 'accepted'"),
        sum("archived", "stage = 'archive'"),
        sum("loaded", "stage = 'load' AND outcome = 'loaded'"),
        sum("duplicate", "stage = 'load' AND outcome = 'duplicate'"),
        sum("late", "stage = 'load' AND outcome = 'late'"),
        sum("dead_letter", "stage = 'load' AND outcome = 'dead_letter'"),
    ]
    .join(", ");
    let broken: Vec<Broken> = clickhouse
        .fetch_all(
            WHAT,
            &format!(
                "SELECT toString(minute) AS minute, toUnixTimestamp(ledger.minute) < {} AS is_settled, site_code, \
                 {sums} FROM ledger WHERE {condition} GROUP BY ledger.minute, site_code \
                 HAVING received != accepted + rejected OR accepted != archived \
                 OR archived != loaded + duplicate + late + dead_letter \
                 ORDER BY is_settled DESC, minute, site_code LIMIT {BROKEN_MAX}",
                began_ms / 60_000 * 60
            ),
        )
        .await?;
    Ok(Reconciliation { stages, compared, broken, in_flight: 0 })
}

/// Site codes hold no quote, so that they need no escape.
fn condition(range: &Range) -> String {
    let mut conditions = vec!["1".to_owned()];
    conditions.extend(range.site.as_ref().map(|site| format!("site_code = '{site}'")));
    conditions.extend(range.from.map(|day| format!("minute >= '{day} 00:00:00'")));
    conditions.extend(range.to.map(|day| format!("minute < '{} 00:00:00'", day.following())));
    conditions.join(" AND ")
}
