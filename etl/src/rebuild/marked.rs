//! Days that late records marked are rebuilt by themselves.
//!
//! A mark is a `late` or `stale` row of `outcome_rows`; it goes when a rebuild
//! has loaded what it counts. So a crash at any moment leaves the mark, and the
//! work is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clickhouse::Row;
use fanal_service::stop::Stop;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseError, STATEMENT_SECONDS_MAX};
use fanal_storage::log::{Family, Partition};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::Instant;

use super::{RebuildError, Request, rebuild_in_turn};
use crate::day::Day;
use crate::log::LogError;
use crate::progress::{Offsets, Stage, Stuck};
use crate::role::{Backoff, Etl, sleep_or_stop};
use crate::rows::{rebuilt_version, streamed_version, version_by_partition};

const PART: &str = "rebuild";
/// Outcomes that ask for a rebuild at once.
const LATE: &str = "'late', 'stale'";
/// The outcome that asks for one once nothing can be under way any more.
const CUT_OFF: &str = "'cut_off'";
/// What a worker had sent when it was cut off is in the tables, or never will be, after this
/// time. The margin is for the server's own reckoning.
const UNDER_WAY_MAX: Duration = Duration::from_secs(STATEMENT_SECONDS_MAX + 30);
/// Looks for marks at least this often.
const IDLE: Duration = Duration::from_secs(30);
/// The longest that a comparison waits for marked days.
const CLEAR_WAIT_MAX: Duration = Duration::from_secs(600);
/// The longest pause between two rebuilds of marked days.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often the quiet is looked for.
const TICK: Duration = Duration::from_millis(250);

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

#[derive(Row, Deserialize)]
struct Mark {
    site_code: String,
    /// Days since the epoch.
    day: u16,
}

pub(crate) async fn run(etl: Etl, stop: Stop) {
    let clickhouse = etl.clickhouse();
    etl.health.ok(PART);
    let mut backoff = Backoff::new();
    let mut leads = etl.progress.leads.subscribe();
    let mut cut_off = CutOff::default();
    while !stop.is_stopped() {
        // One process of the installation does this, whoever has the first partition. What
        // kept a process from it is of no account any more once another one does it.
        if !*leads.borrow() {
            etl.health.ok(PART);
        }
        tokio::select! {
            leads = leads.wait_for(|leads| *leads) => drop(leads),
            () = stop.stopped() => break,
        }
        let began = Instant::now();
        let done = async {
            rebuild_marked(&etl, &clickhouse, &stop).await?;
            rebuild_cut_off(&etl, &clickhouse, &mut cut_off, &stop).await
        };
        match done.await {
            Ok(()) => {
                // Late records that trickle in take no more than half of the time.
                if sleep_or_stop(began.elapsed().min(PAUSE_MAX), &stop).await {
                    break;
                }
                etl.health.ok(PART);
                backoff = Backoff::new();
                tokio::select! {
                    () = etl.progress.marked.notified() => {}
                    () = tokio::time::sleep(IDLE) => {}
                    () = stop.stopped() => {}
                }
            }
            Err(failure) => {
                etl.health.not_ready(PART, failure.to_string());
                backoff.wait(&stop).await;
            }
        }
    }
}

async fn rebuild_marked(etl: &Etl, clickhouse: &ClickHouse, stop: &Stop) -> Result<(), Failure> {
    if marks(clickhouse, LATE, None).await?.is_empty() || quiet(etl, stop).await {
        return Ok(());
    }
    // The home partition of a hot visitor must have written what it knows, or it would
    // write that over what is rebuilt now.
    let ends = etl.ends().await?;
    tokio::select! {
        reached = etl.wait(Stage::Visits, &ends) => reached?,
        () = stop.stopped() => return Ok(()),
    }
    // Marks up to here are whole, and the archive will hold what they count.
    let visited = etl.all_reached(Stage::Visits).await?;
    work_off(etl, clickhouse, LATE, &visited, stop).await
}

/// Days on which a worker was cut off: what it had sent may arrive long after its
/// successor has asked the tables, as rows that nobody knows.
async fn rebuild_cut_off(
    etl: &Etl,
    clickhouse: &ClickHouse,
    cut_off: &mut CutOff,
    stop: &Stop,
) -> Result<(), Failure> {
    let is_marked = !marks(clickhouse, CUT_OFF, None).await?.is_empty();
    let visited = if is_marked { etl.all_reached(Stage::Visits).await? } else { Offsets::new() };
    let Some(seen) = cut_off.due(is_marked.then_some(visited), Instant::now()) else { return Ok(()) };
    work_off(etl, clickhouse, CUT_OFF, &seen, stop).await?;
    cut_off.0 = None;
    Ok(())
}

/// Since when marks of cut-off workers up to these offsets are known. It is not kept: who
/// leads next waits anew.
#[derive(Default)]
struct CutOff(Option<(Offsets, Instant)>);

impl CutOff {
    /// Marks up to the offsets that this returns may be worked off now. `marked`: how far
    /// the tables go, if there are marks.
    fn due(&mut self, marked: Option<Offsets>, now: Instant) -> Option<Offsets> {
        let Some(visited) = marked else {
            self.0 = None;
            return None;
        };
        let (seen, since) = self.0.get_or_insert((visited, now));
        (now.duration_since(*since) >= UNDER_WAY_MAX).then(|| seen.clone())
    }
}

/// Rebuilds the days that have such marks of records before these offsets, and takes the
/// marks away.
async fn work_off(
    etl: &Etl,
    clickhouse: &ClickHouse,
    outcomes: &str,
    visited: &Offsets,
    stop: &Stop,
) -> Result<(), Failure> {
    let wanted = to_seal(&marked_partitions(clickhouse, outcomes, visited).await?, visited);
    etl.seal(&wanted).await?;
    tokio::select! {
        archived = etl.wait(Stage::Archive, &wanted) => archived?,
        () = stop.stopped() => return Ok(()),
    }
    let marks = marks(clickhouse, outcomes, Some(visited)).await?;
    let mut sites_by_day: BTreeMap<Day, BTreeSet<String>> = BTreeMap::new();
    for mark in &marks {
        sites_by_day.entry(Day::from_number(u32::from(mark.day))).or_default().insert(mark.site_code.clone());
    }
    for request in requests(sites_by_day) {
        let Some(report) = rebuild_in_turn(etl, &request, stop).await? else { return Ok(()) };
        tracing::info!(
            from = %request.from, to = %request.to,
            events_added = report.events.added, visits_added = report.visits.added,
            visits_changed = report.visits.changed, visits_gone = report.visits.gone,
            "marked days rebuilt"
        );
        if stop.is_stopped() {
            return Ok(());
        }
    }
    Ok(clear(clickhouse, outcomes, &marks, visited).await?)
}

/// Waits until no mark of records before these offsets is left. Not for ever: where a
/// rebuild fails again and again, its reason is in the health of the part.
pub(crate) async fn wait_until_clear(etl: &Etl, ends: &Offsets) {
    let clickhouse = etl.clickhouse();
    let began = Instant::now();
    while began.elapsed() < CLEAR_WAIT_MAX {
        if marks(&clickhouse, LATE, Some(ends)).await.is_ok_and(|marks| marks.is_empty()) {
            return;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Waits until no late record came for a while; true if the stop came first.
async fn quiet(etl: &Etl, stop: &Stop) -> bool {
    let began = Instant::now();
    let mut last = Instant::now();
    while last.elapsed() < etl.config.rebuild_quiet && began.elapsed() < etl.config.rebuild_wait_max {
        tokio::select! {
            () = etl.progress.marked.notified() => last = Instant::now(),
            is_stopped = sleep_or_stop(TICK, stop) => if is_stopped { return true },
        }
    }
    false
}

/// The marked days; of records before these offsets, if any are given.
async fn marks(
    clickhouse: &ClickHouse,
    outcomes: &str,
    before: Option<&Offsets>,
) -> Result<Vec<Mark>, ClickHouseError> {
    let before = before
        .map_or_else(|| "1".to_owned(), |ends| format!("version <= {}", versions(ends, streamed_version)));
    let sql = format!(
        "SELECT site_code, toUInt16(toDate(minute)) AS day FROM outcome_rows FINAL \
         WHERE outcome IN ({outcomes}) AND {before} GROUP BY site_code, day ORDER BY day"
    );
    clickhouse.fetch_all("list marked days", &sql).await
}

/// The partitions that marks of records before these offsets stand in.
async fn marked_partitions(
    clickhouse: &ClickHouse,
    outcomes: &str,
    before: &Offsets,
) -> Result<BTreeSet<u32>, ClickHouseError> {
    let sql = format!(
        "SELECT DISTINCT log_partition FROM outcome_rows FINAL \
         WHERE outcome IN ({outcomes}) AND version <= {}",
        versions(before, streamed_version)
    );
    Ok(clickhouse.fetch_all::<u32>("list marked partitions", &sql).await?.into_iter().collect())
}

/// What has to be in the archive before the marks of these partitions are worked off: they
/// themselves, and of the overflow also the homes, which may be any. Others keep their
/// files open: a seal for each rebuild would leave them many small ones.
fn to_seal(marked: &BTreeSet<u32>, visited: &Offsets) -> Offsets {
    let is_overflow =
        |(p, _): &(&Partition, &u64)| p.family() == Family::Overflow && marked.contains(&p.number());
    let any_home = visited.iter().any(|entry| is_overflow(&entry));
    let wanted = |partition: &Partition| {
        marked.contains(&partition.number()) || (any_home && partition.family() == Family::Beacons)
    };
    visited.iter().filter(|(partition, _)| wanted(partition)).map(|(p, at)| (*p, *at)).collect()
}

/// A version for each partition, by the column `log_partition`; none for others.
fn versions(ends: &Offsets, version: fn(u64) -> u64) -> String {
    version_by_partition(ends.iter().map(|(p, end)| (p.number(), version(*end))))
}

/// One request for each run of days; neighbours are included, since a late event
/// near midnight moves the border of a visit of the day beside.
fn requests(sites_by_day: BTreeMap<Day, BTreeSet<String>>) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for (day, sites) in sites_by_day {
        match requests.last_mut() {
            Some(last) if day.previous() <= last.to => {
                last.to = day.following();
                if let Some(known) = &mut last.sites {
                    known.extend(sites);
                }
            }
            _ => requests.push(Request {
                sites: Some(sites),
                from: day.previous(),
                to: day.following(),
                is_dry_run: false,
                all_profiles: false,
            }),
        }
    }
    requests
}

async fn clear(
    clickhouse: &ClickHouse,
    outcomes: &str,
    marks: &[Mark],
    visited: &Offsets,
) -> Result<(), ClickHouseError> {
    if marks.is_empty() {
        return Ok(());
    }
    let pairs: Vec<String> =
        marks.iter().map(|mark| format!("('{}', {})", mark.site_code, mark.day)).collect();
    let sql = format!(
        // Unqualified, `version` would be the new one.
        "INSERT INTO outcome_rows SELECT * REPLACE ({} AS version, toUInt8(1) AS is_deleted) \
         FROM outcome_rows FINAL WHERE outcome IN ({outcomes}) AND outcome_rows.version <= {} \
         AND (site_code, toUInt16(toDate(minute))) IN ({})",
        versions(visited, rebuilt_version),
        versions(visited, streamed_version),
        pairs.join(",")
    );
    clickhouse.execute("clear marks", &sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_a_worker_that_was_cut_off_wait_until_nothing_can_be_under_way() {
        let (mut cut_off, began) = (CutOff::default(), Instant::now());
        let to = |offset| Offsets::from([(Partition::EMBEDDED, offset)]);
        assert_eq!(cut_off.due(None, began), None);
        assert_eq!(cut_off.due(Some(to(5)), began), None);
        assert_eq!(cut_off.due(Some(to(9)), began + UNDER_WAY_MAX - Duration::from_millis(1)), None);
        // Only what was there when the wait began.
        assert_eq!(cut_off.due(Some(to(9)), began + UNDER_WAY_MAX), Some(to(5)));
        assert_eq!(cut_off.due(None, began + UNDER_WAY_MAX), None);
        assert_eq!(cut_off.due(Some(to(9)), began + UNDER_WAY_MAX), None);
    }

    #[test]
    fn only_partitions_of_marked_records_and_their_homes_are_sealed() {
        let at = |family, index| Partition::new(family, index).unwrap();
        let (home, other) = (at(Family::Beacons, 0), at(Family::Beacons, 1));
        let (dead, hot, calm) = (at(Family::Dead, 0), at(Family::Overflow, 0), at(Family::Overflow, 1));
        let visited = Offsets::from([(home, 10), (other, 20), (dead, 30), (hot, 40), (calm, 50)]);
        let sealed = |marked: &[Partition]| -> Vec<Partition> {
            let marked = marked.iter().map(|partition| partition.number()).collect();
            to_seal(&marked, &visited).into_keys().collect()
        };
        assert_eq!(sealed(&[home]), [home]);
        assert_eq!(sealed(&[other]), [other]);
        assert_eq!(sealed(&[hot]), [home, other, hot]);
        assert!(sealed(&[]).is_empty());
    }

    #[test]
    fn neighbouring_marks_become_one_request() {
        let day = |text| Day::parse(text).unwrap();
        let sites = |site: &str| BTreeSet::from([site.to_owned()]);
        let marks = BTreeMap::from([
            (day("2026-10-01"), sites("a")),
            (day("2026-10-02"), sites("b")),
            (day("2026-10-09"), sites("a")),
        ]);
        let requests = requests(marks);
        let ranges: Vec<_> = requests.iter().map(|r| format!("{}..{}", r.from, r.to)).collect();
        assert_eq!(ranges, ["2026-09-30..2026-10-03", "2026-10-08..2026-10-10"]);
        assert_eq!(requests[0].sites, Some(BTreeSet::from(["a".to_owned(), "b".to_owned()])));
    }
}
