//! What the tables hold beside what the archive says.

use std::collections::{BTreeMap, HashMap};

use clickhouse::Row;
use fanal_model::Visit;
use fanal_profiles::{GoneVisit, ProfileBatch, ProfileError, ProfileVisit, Profiles};
use fanal_storage::clickhouse::{ClickHouse, ClickHouseError, Flush, OutcomeRow};
use fanal_storage::log::Partition;
use serde::Deserialize;

use super::build::Rebuilt;
use super::load::{Part, RecordPlace};
use super::{Difference, RebuildError, Report, Request};
use crate::log::EventLogs;
use crate::progress::Offsets;
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
    log_partition: u32,
    version: u64,
}

#[derive(Row, Deserialize)]
struct KnownDuplicate {
    log_partition: u32,
    first_offset: u64,
    site_code: String,
    minute: u32,
    version: u64,
}

/// The version of the rows that a rebuild writes, by the partition that they belong to.
#[derive(Clone)]
pub(super) struct Versions {
    log: EventLogs,
    by_partition: BTreeMap<u32, u64>,
}

impl Versions {
    pub(super) fn new(log: &EventLogs, ends: &Offsets) -> Self {
        let by_partition = ends.iter().map(|(p, end)| (p.number(), rows::rebuilt_version(*end))).collect();
        Self { log: log.clone(), by_partition }
    }

    /// A partition without files has not been read: nothing of it is judged.
    fn of(&self, partition: u32) -> u64 {
        self.by_partition.get(&partition).copied().unwrap_or(0)
    }

    /// A higher version comes from records that the archive does not have yet.
    fn may_judge(&self, partition: u32, version: u64) -> bool {
        version <= self.of(partition)
    }

    /// The partition and version of a visitor's rows.
    fn of_visitor(&self, site_code: &str, visitor: &str) -> (Partition, u64) {
        let mut key = Vec::with_capacity(site_code.len() + 1 + visitor.len());
        fanal_model::record_key(&mut key, site_code, visitor);
        let home = self.log.home(&key);
        (home, self.of(home.number()))
    }

    /// The same for SQL: the version by the column `log_partition`.
    fn sql(&self) -> String {
        rows::version_by_partition(self.by_partition.iter().map(|(p, version)| (*p, *version)))
    }
}

const WHAT: &str = "say what it holds of these days";

/// Duplicates that the table holds and no shard has met yet. Their rows name no
/// visitor, so that only all shards together know which of them are gone.
pub(super) struct Duplicates {
    versions: Versions,
    known: HashMap<(u32, u64), KnownDuplicate>,
}

impl Duplicates {
    pub(super) async fn fetch(
        clickhouse: &ClickHouse,
        request: &Request,
        versions: Versions,
    ) -> Result<Self, ClickHouseError> {
        let (from, to, sites) = (request.from, request.to, sites_condition(request));
        let sql = format!(
            "SELECT log_partition, first_offset, site_code, toUnixTimestamp(minute) AS minute, version \
             FROM outcome_rows FINAL WHERE outcome = 'duplicate' AND toDate(minute) BETWEEN '{from}' AND '{to}'{sites}"
        );
        let rows: Vec<KnownDuplicate> = clickhouse.fetch_all(WHAT, &sql).await?;
        let known = rows.into_iter().map(|row| ((row.log_partition, row.first_offset), row)).collect();
        Ok(Self { versions, known })
    }

    /// Removes what no shard has met.
    pub(super) async fn finish(
        self,
        clickhouse: &ClickHouse,
        request: &Request,
        report: &mut Report,
    ) -> Result<(), ClickHouseError> {
        let gone: Vec<OutcomeRow> = self
            .known
            .values()
            .filter(|known| self.versions.may_judge(known.log_partition, known.version))
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
            log_partition: known.log_partition,
            first_offset: known.first_offset,
            site_code: known.site_code.clone(),
            minute: known.minute,
            outcome: "duplicate".to_owned(),
            count: 1,
            version: self.versions.of(known.log_partition),
            is_deleted: 1,
        }
    }
}

/// One shard: what the tables hold and is not yet met again, and what differs.
pub(super) struct Compared<'d> {
    versions: Versions,
    events: HashMap<u64, Known>,
    visits: HashMap<u64, Known>,
    duplicates: &'d mut Duplicates,
    different: Flush,
    profiles: ProfileBatch,
    all_profiles: bool,
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
                    "SELECT event_id AS id, visit_id AS value, log_partition, version FROM event_rows FINAL WHERE {}{shard}",
                    days("event_date")
                ),
            )
            .await?;
        let visits: Vec<Known> = clickhouse
            .fetch_all(
                WHAT,
                &format!(
                    "SELECT visit_id AS id, row_hash AS value, log_partition, version FROM visit_rows FINAL WHERE {}{shard}",
                    days("visit_date")
                ),
            )
            .await?;
        let by_id = |rows: Vec<Known>| rows.into_iter().map(|row| (row.id, row)).collect();
        Ok(Self {
            versions: duplicates.versions.clone(),
            events: by_id(events),
            visits: by_id(visits),
            duplicates,
            different: Flush::default(),
            profiles: ProfileBatch::default(),
            all_profiles: request.all_profiles,
            event_difference: Difference::default(),
            visit_difference: Difference::default(),
            duplicate_difference: Difference::default(),
        })
    }

    /// Writes what differs and removes what the archive does not know.
    pub(super) async fn finish(
        mut self,
        clickhouse: &ClickHouse,
        profiles: &Profiles,
        request: &Request,
        report: &mut Report,
    ) -> Result<(), RebuildError> {
        let left = |known: &HashMap<u64, Known>| -> Vec<u64> {
            let judged = known.values().filter(|k| self.versions.may_judge(k.log_partition, k.version));
            judged.map(|known| known.id).collect()
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
        let version = self.versions.sql();
        let gone = gone_profiles(clickhouse, &self.versions, &gone_visits).await?;
        write_in_parts(clickhouse, self.different).await?;
        write_profiles(profiles, self.profiles, gone).await?;
        let (from, to) = (request.from, request.to);
        let range = |column: &str| format!("{column} BETWEEN '{from}' AND '{to}'");
        remove(clickhouse, "event_rows", "event_id", &range("event_date"), &gone_events, &version).await?;
        remove(clickhouse, "visit_rows", "visit_id", &range("visit_date"), &gone_visits, &version).await?;
        Ok(())
    }
}

impl Rebuilt for Compared<'_> {
    fn event(&mut self, event: &VisitorEvent<'_>, visit_id: u64) {
        let known = self.events.remove(&event.event_id).map(|known| known.value);
        let is_different = note(&mut self.event_difference, known, visit_id);
        let link = (is_different || self.all_profiles).then(|| rows::link_row(event)).flatten();
        self.profiles.links.extend(link.as_ref().map(rows::profile_link));
        if is_different {
            let (home, version) = self.versions.of_visitor(event.beacon.site_code, event.beacon.visitor());
            self.different.events.push(rows::event_row(event, visit_id, home, version));
            self.different.links.extend(link);
        }
    }

    fn duplicate(&mut self, event: &VisitorEvent<'_>, (partition, offset): RecordPlace) {
        let known = self.duplicates.known.remove(&(partition.number(), offset)).map(|_| 0);
        if note(&mut self.duplicate_difference, known, 0) {
            let version = self.versions.of(partition.number());
            let row = rows::duplicate_row(partition, offset, &event.beacon, version, false);
            self.different.outcomes.push(row);
        }
    }

    fn visit(&mut self, visit: &Visit) {
        let known = self.visits.remove(&visit.visit_id).map(|known| known.value);
        let is_different = note(&mut self.visit_difference, known, rows::visit_hash(visit));
        let (home, version) = self.versions.of_visitor(&visit.site_code, &visit.visitor_code);
        if is_different || self.all_profiles {
            self.profiles.visits.push(ProfileVisit { visit: visit.clone(), version });
        }
        if is_different {
            self.different.visits.push(rows::visit_row(visit, home, version));
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

#[derive(Row, Deserialize)]
struct GoneRow {
    site_code: String,
    visitor_code: String,
    visit_id: u64,
    started_at_ms: i64,
    log_partition: u32,
}

/// What the profile store must know of visits that are to be removed.
async fn gone_profiles(
    clickhouse: &ClickHouse,
    versions: &Versions,
    ids: &[u64],
) -> Result<Vec<GoneVisit>, ClickHouseError> {
    let mut gone = Vec::new();
    for some in ids.chunks(IDS_PER_STATEMENT) {
        let ids: Vec<String> = some.iter().map(u64::to_string).collect();
        let sql = format!(
            "SELECT site_code, visitor_code, visit_id, toUnixTimestamp64Milli(started_at) AS started_at_ms, \
             log_partition FROM visit_rows FINAL WHERE visit_id IN ({})",
            ids.join(",")
        );
        let rows: Vec<GoneRow> = clickhouse.fetch_all(WHAT, &sql).await?;
        gone.extend(rows.into_iter().map(|row| GoneVisit {
            version: versions.of(row.log_partition),
            started_at_ms: u64::try_from(row.started_at_ms).unwrap_or(0),
            site_code: row.site_code,
            visitor_code: row.visitor_code,
            visit_id: row.visit_id,
        }));
    }
    Ok(gone)
}

/// In parts of a bounded size; each may be written again.
async fn write_profiles(
    profiles: &Profiles,
    changed: ProfileBatch,
    gone: Vec<GoneVisit>,
) -> Result<(), ProfileError> {
    let ProfileBatch { mut visits, mut links, .. } = changed;
    profiles.write(&ProfileBatch { gone, ..ProfileBatch::default() }).await?;
    while !visits.is_empty() || !links.is_empty() {
        let (visits, links) = (take(&mut visits), take(&mut links));
        profiles.write(&ProfileBatch { visits, links, ..ProfileBatch::default() }).await?;
    }
    Ok(())
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
    version: &str,
) -> Result<(), ClickHouseError> {
    for some in ids.chunks(IDS_PER_STATEMENT) {
        let ids: Vec<String> = some.iter().map(u64::to_string).collect();
        let sql = format!(
            "INSERT INTO {table} SELECT * REPLACE ({version} AS version, toUInt8(1) AS is_deleted) \
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
