//! What the tables hold beside what the archive says.

use std::collections::HashMap;

use clickhouse::Row;
use fanal_model::Visit;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseError, Flush, OutcomeRow};
use serde::Deserialize;

use super::build::Rebuilt;
use super::load::Part;
use super::{Difference, Report, Request};
use crate::rows;
use crate::visit::VisitorEvent;

/// Rows of one insert.
const ROWS_PER_INSERT: usize = 50_000;
/// Ids named in one statement.
const IDS_PER_STATEMENT: usize = 10_000;

#[derive(Row, Deserialize)]
struct Known {
    id: u64,
    /// Visit id of an event, row hash of a visit.
    value: u64,
    version: u64,
}

#[derive(Row, Deserialize)]
struct KnownDuplicate {
    first_offset: u64,
    site_code: String,
    minute: u32,
    version: u64,
}

const WHAT: &str = "say what it holds of these days";

/// Duplicates that the table holds and no shard has met yet. Their rows name no
/// visitor, so that only all shards together know which of them are gone.
pub(super) struct Duplicates {
    version: u64,
    partition: u32,
    known: HashMap<u64, KnownDuplicate>,
}

impl Duplicates {
    pub(super) async fn fetch(
        clickhouse: &ClickHouse,
        request: &Request,
        partition: u32,
        version: u64,
    ) -> Result<Self, ClickHouseError> {
        let (from, to, sites) = (request.from, request.to, sites_condition(request));
        let sql = format!(
            "SELECT first_offset, site_code, toUnixTimestamp(minute) AS minute, version \
             FROM outcome_rows FINAL WHERE outcome = 'duplicate' AND log_partition = {partition} \
             AND toDate(minute) BETWEEN '{from}' AND '{to}'{sites}"
        );
        let rows: Vec<KnownDuplicate> = clickhouse.fetch_all(WHAT, &sql).await?;
        let known = rows.into_iter().map(|row| (row.first_offset, row)).collect();
        Ok(Self { version, partition, known })
    }

    /// Removes what no shard has met.
    pub(super) async fn finish(
        self,
        clickhouse: &ClickHouse,
        request: &Request,
        report: &mut Report,
    ) -> Result<(), ClickHouseError> {
        // A higher version comes from records that the archive does not have yet.
        let gone: Vec<OutcomeRow> = self
            .known
            .values()
            .filter(|known| known.version <= self.version)
            .map(|known| self.gone(known))
            .collect();
        report.duplicates.gone += gone.len() as u64;
        if request.is_dry_run {
            return Ok(());
        }
        write_in_parts(clickhouse, Flush { outcomes: gone, ..Flush::default() }).await
    }

    fn gone(&self, known: &KnownDuplicate) -> OutcomeRow {
        OutcomeRow {
            log_partition: self.partition,
            first_offset: known.first_offset,
            site_code: known.site_code.clone(),
            minute: known.minute,
            outcome: "duplicate".to_owned(),
            count: 1,
            version: self.version,
            is_deleted: 1,
        }
    }
}

/// One shard: what the tables hold and is not yet met again, and what differs.
pub(super) struct Compared<'d> {
    version: u64,
    events: HashMap<u64, (u64, u64)>,
    visits: HashMap<u64, (u64, u64)>,
    duplicates: &'d mut Duplicates,
    different: Flush,
    event_difference: Difference,
    visit_difference: Difference,
    duplicate_difference: Difference,
}

impl<'d> Compared<'d> {
    pub(super) async fn fetch(
        clickhouse: &ClickHouse,
        part: &Part<'_>,
        request: &Request,
        duplicates: &'d mut Duplicates,
    ) -> Result<Self, ClickHouseError> {
        let shard = if part.shards > 1 {
            format!(" AND xxh3(visitor_code) % {} = {}", part.shards, part.shard)
        } else {
            String::new()
        };
        let (from, to, sites) = (request.from, request.to, sites_condition(request));
        let days = |column: &str| format!("{column} BETWEEN '{from}' AND '{to}'{sites}");
        let events: Vec<Known> = clickhouse
            .fetch_all(
                WHAT,
                &format!(
                    "SELECT event_id AS id, visit_id AS value, version FROM event_rows FINAL WHERE {}{shard}",
                    days("event_date")
                ),
            )
            .await?;
        let visits: Vec<Known> = clickhouse
            .fetch_all(
                WHAT,
                &format!(
                    "SELECT visit_id AS id, row_hash AS value, version FROM visit_rows FINAL WHERE {}{shard}",
                    days("visit_date")
                ),
            )
            .await?;
        let by_id =
            |rows: Vec<Known>| rows.into_iter().map(|row| (row.id, (row.value, row.version))).collect();
        Ok(Self {
            version: duplicates.version,
            events: by_id(events),
            visits: by_id(visits),
            duplicates,
            different: Flush::default(),
            event_difference: Difference::default(),
            visit_difference: Difference::default(),
            duplicate_difference: Difference::default(),
        })
    }

    /// Writes what differs and removes what the archive does not know.
    pub(super) async fn finish(
        mut self,
        clickhouse: &ClickHouse,
        request: &Request,
        report: &mut Report,
    ) -> Result<(), ClickHouseError> {
        // A higher version comes from records that the archive does not have yet.
        let version = self.version;
        let left = |known: &HashMap<u64, (u64, u64)>| -> Vec<u64> {
            known.iter().filter(|(_, (_, v))| *v <= version).map(|(id, _)| *id).collect()
        };
        let (gone_events, gone_visits) = (left(&self.events), left(&self.visits));
        self.event_difference.gone = gone_events.len() as u64;
        self.visit_difference.gone = gone_visits.len() as u64;
        add(&mut report.events, self.event_difference);
        add(&mut report.visits, self.visit_difference);
        add(&mut report.duplicates, self.duplicate_difference);
        if request.is_dry_run {
            return Ok(());
        }
        write_in_parts(clickhouse, self.different).await?;
        let (from, to) = (request.from, request.to);
        let range = |column: &str| format!("{column} BETWEEN '{from}' AND '{to}'");
        remove(clickhouse, "event_rows", "event_id", &range("event_date"), &gone_events, version).await?;
        remove(clickhouse, "visit_rows", "visit_id", &range("visit_date"), &gone_visits, version).await
    }
}

impl Rebuilt for Compared<'_> {
    fn event(&mut self, event: &VisitorEvent<'_>, visit_id: u64) {
        let known = self.events.remove(&event.event_id).map(|(value, _)| value);
        if note(&mut self.event_difference, known, visit_id) {
            self.different.events.push(rows::event_row(event, visit_id, self.version));
            self.different.links.extend(rows::link_row(event));
        }
    }

    fn duplicate(&mut self, event: &VisitorEvent<'_>, offset: u64) {
        let known = self.duplicates.known.remove(&offset).map(|_| 0);
        if note(&mut self.duplicate_difference, known, 0) {
            let partition = self.duplicates.partition;
            let row = rows::duplicate_row(partition, offset, &event.beacon, self.version, false);
            self.different.outcomes.push(row);
        }
    }

    fn visit(&mut self, visit: &Visit) {
        let known = self.visits.remove(&visit.visit_id).map(|(value, _)| value);
        if note(&mut self.visit_difference, known, rows::visit_hash(visit)) {
            self.different.visits.push(rows::visit_row(visit, self.version));
        }
    }
}

/// Counts one row; true if it has to be written.
fn note(difference: &mut Difference, known: Option<u64>, value: u64) -> bool {
    match known {
        Some(same) if same == value => difference.same += 1,
        Some(_) => difference.changed += 1,
        None => difference.added += 1,
    }
    known != Some(value)
}

fn add(sum: &mut Difference, more: Difference) {
    sum.added += more.added;
    sum.changed += more.changed;
    sum.gone += more.gone;
    sum.same += more.same;
}

async fn write_in_parts(clickhouse: &ClickHouse, mut different: Flush) -> Result<(), ClickHouseError> {
    while !different.is_empty() {
        let part = Flush {
            events: take(&mut different.events),
            visits: take(&mut different.visits),
            outcomes: take(&mut different.outcomes),
            links: take(&mut different.links),
        };
        clickhouse.write(&part).await?;
    }
    Ok(())
}

fn take<T>(rows: &mut Vec<T>) -> Vec<T> {
    rows.split_off(rows.len().saturating_sub(ROWS_PER_INSERT))
}

async fn remove(
    clickhouse: &ClickHouse,
    table: &str,
    id_column: &str,
    range: &str,
    ids: &[u64],
    version: u64,
) -> Result<(), ClickHouseError> {
    for some in ids.chunks(IDS_PER_STATEMENT) {
        let ids: Vec<String> = some.iter().map(u64::to_string).collect();
        let sql = format!(
            "INSERT INTO {table} SELECT * REPLACE (toUInt64({version}) AS version, toUInt8(1) AS is_deleted) \
             FROM {table} FINAL WHERE {range} AND {id_column} IN ({})",
            ids.join(",")
        );
        clickhouse.execute("remove rows that the archive does not know", &sql).await?;
    }
    Ok(())
}

/// Site codes hold no quote, so that they need no escape.
pub(super) fn sites_condition(request: &Request) -> String {
    match &request.sites {
        None => String::new(),
        Some(sites) => {
            let quoted: Vec<String> = sites.iter().map(|site| format!("'{site}'")).collect();
            format!(" AND site_code IN ({})", quoted.join(","))
        }
    }
}
