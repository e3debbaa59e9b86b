//! Raw archive → `events` and `visits` of a range of days, made anew.
//!
//! Compares what the archive says with what the tables hold and writes only the
//! differences, each with the archive's end offset in the visitor's partition as its version: rows that
//! streaming wrote from later records win, so a rebuild may run beside it. What
//! must stay true: the result is a function of the archive alone; a rebuild that
//! was interrupted or is repeated ends in the same tables.

mod alone;
mod build;
mod compare;
mod load;
pub(crate) mod marked;

use std::collections::BTreeSet;
use std::time::Instant;

use fanal_profiles::ProfileError;
use fanal_service::stop::Stop;
use fanal_storage::archive::{ArchiveError, FileInfo};
use fanal_storage::clickhouse::ClickHouseError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::millis;
use crate::day::Day;
use crate::log::EventLogs;
use crate::metrics;
use crate::progress::Offsets;
use crate::role::Etl;
use crate::visit::VisitPolicy;
use alone::Alone;
use build::Window;

const DAY_MS: u64 = 86_400_000;
/// How often the archive is listed anew because files were merged meanwhile.
const LISTINGS_MAX: usize = 5;

/// How many days before the range are read at the most to find where visits and
/// repeated nonces begin.
const LOOK_BACK_DAYS_MAX: u64 = 31;

/// What to rebuild.
#[derive(Debug, Clone)]
pub struct Request {
    /// `None`: all sites.
    pub sites: Option<BTreeSet<String>>,
    pub from: Day,
    /// The last day, included.
    pub to: Day,
    /// Count the differences and write nothing.
    pub is_dry_run: bool,
    /// Give the profile store every visit and link of these days, not only those that
    /// the tables had otherwise: it may have lost them.
    pub all_profiles: bool,
}

/// Rows of one table that a rebuild found different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// In the archive and not in the table.
    pub added: u64,
    /// In both, with other values.
    pub changed: u64,
    /// In the table and not in the archive.
    pub gone: u64,
    /// In both, equal.
    pub same: u64,
}

impl Difference {
    #[must_use]
    pub fn is_none(&self) -> bool {
        (self.added, self.changed, self.gone) == (0, 0, 0)
    }
}

/// What a rebuild did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub events: Difference,
    pub visits: Difference,
    pub duplicates: Difference,
    /// Beacons read from the archive, those around the range included.
    pub beacons_read: u64,
    /// Lines that today's rules cannot read; they stay in the archive.
    pub unreadable: u64,
    /// The archive held everything before these offsets.
    pub end_offsets: Offsets,
    /// Visitors whose activity has no beginning within the days that may be read:
    /// their first visit in the range may begin too early.
    pub unsure_visitors: u64,
}

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub files_done: usize,
    pub files: usize,
    pub shard: u64,
    pub shards: u64,
}

/// Why a rebuild ended early. What it wrote stays; run it again.
#[derive(Debug, Error)]
pub enum RebuildError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    #[error(transparent)]
    Profiles(#[from] ProfileError),
    #[error("the lease on rebuilding cannot be had: {0}; check the archive store's space and permissions")]
    Lease(#[from] object_store::Error),
    #[error("the range ends ({to}) before it begins ({from}); swap --from and --to")]
    EmptyRange { from: Day, to: Day },
}

/// Rebuilds what `request` names. One runs at a time in the installation.
pub async fn rebuild(
    etl: &Etl,
    request: &Request,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Report, RebuildError> {
    if request.to < request.from {
        return Err(RebuildError::EmptyRange { from: request.from, to: request.to });
    }
    let _alone_here = etl.progress.rebuilding.lock().await;
    let alone = lease(etl, request).await?;
    holding(alone, etl, request, progress).await
}

/// As `rebuild`, of a range that is not empty; `None` if the stop comes before its turn.
pub(crate) async fn rebuild_in_turn(
    etl: &Etl,
    request: &Request,
    stop: &Stop,
) -> Result<Option<Report>, RebuildError> {
    let turn = async {
        let here = etl.progress.rebuilding.lock().await;
        lease(etl, request).await.map(|alone| (here, alone))
    };
    let (_alone_here, alone) = tokio::select! {
        turn = turn => turn?,
        () = stop.stopped() => return Ok(None),
    };
    holding(alone, etl, request, &mut |_| {}).await.map(Some)
}

/// Waits until no other process rebuilds.
async fn lease(etl: &Etl, request: &Request) -> Result<Option<Alone>, RebuildError> {
    match &etl.log {
        EventLogs::Kafka(_) if !request.is_dry_run => Ok(Some(Alone::wait(&etl.checkpoints).await?)),
        // The embedded log has one process; a dry run writes nothing.
        _ => Ok(None),
    }
}

async fn holding(
    alone: Option<Alone>,
    etl: &Etl,
    request: &Request,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Report, RebuildError> {
    let done = from_listings(etl, request, progress).await;
    if let Some(alone) = alone
        && let Err(error) = alone.release().await
    {
        tracing::warn!(%error, "the lease on rebuilding is left to expire");
    }
    done
}

async fn from_listings(
    etl: &Etl,
    request: &Request,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Report, RebuildError> {
    for _ in 1..LISTINGS_MAX {
        match from_listing(etl, request, progress).await {
            // Merged since it was listed: nothing is lost, the new listing has it.
            Err(RebuildError::Archive(error)) if error.is_gone() => {}
            done => return done,
        }
    }
    from_listing(etl, request, progress).await
}

async fn from_listing(
    etl: &Etl,
    request: &Request,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Report, RebuildError> {
    let began = Instant::now();
    let mut files = Vec::new();
    for partition in etl.archive.partitions().await? {
        files.extend(etl.archive.list(partition).await?);
    }
    let mut ends = Offsets::new();
    for file in &files {
        let end = ends.entry(file.partition).or_default();
        *end = (file.last_offset + 1).max(*end);
    }
    let mut look_back_days = 1;
    loop {
        let window = window(etl, request, look_back_days, &files);
        let job = Job { etl, request, files: &files, ends: &ends, window };
        let report = job.run(progress).await?;
        if report.unsure_visitors == 0 || look_back_days >= LOOK_BACK_DAYS_MAX {
            metrics::rebuilt(report.beacons_read, began.elapsed());
            return Ok(report);
        }
        look_back_days = (look_back_days * 4).min(LOOK_BACK_DAYS_MAX);
    }
}

fn window(etl: &Etl, request: &Request, look_back_days: u64, files: &[FileInfo]) -> Window {
    let rules = VisitPolicy::default();
    let margin_ms = millis(etl.config.dedupe_horizon).max(rules.session_timeout_ms);
    let read_from_ms = request.from.start_ms().saturating_sub(look_back_days * DAY_MS + margin_ms);
    Window {
        from_ms: request.from.start_ms(),
        to_ms: request.to.end_ms(),
        read_from_ms,
        // A visit that begins on the last day ends at the latest a day later, and
        // nothing after that has a say in why it ended.
        read_to_ms: request.to.end_ms() + rules.visit_ms_max,
        is_all_history: files.iter().all(|file| file.min_received_ms >= read_from_ms),
        now_ms: (etl.clock)().saturating_sub(millis(etl.config.allowed_lateness)),
    }
}

/// One pass over the archive.
struct Job<'j> {
    etl: &'j Etl,
    request: &'j Request,
    files: &'j [FileInfo],
    ends: &'j Offsets,
    window: Window,
}

impl Job<'_> {
    async fn run(&self, progress: &mut (dyn FnMut(Step) + Send)) -> Result<Report, RebuildError> {
        let wanted: Vec<&FileInfo> = self
            .files
            .iter()
            .filter(|file| file.overlaps(self.window.read_from_ms, self.window.read_to_ms))
            .collect();
        let records: u64 = wanted.iter().map(|file| file.last_offset - file.first_offset + 1).sum();
        let shards = records.div_ceil(self.etl.config.rebuild_events_max.max(1)).max(1);
        let clickhouse = self.etl.clickhouse();
        let mut report = Report { end_offsets: self.ends.clone(), ..Report::default() };
        let versions = compare::Versions::new(&self.etl.log, self.ends);
        let mut duplicates = compare::Duplicates::fetch(&clickhouse, self.request, versions).await?;
        for shard in 0..shards {
            let part = load::Part { shard, shards, sites: self.request.sites.as_ref() };
            let loaded = load::load(&self.etl.archive, &wanted, &part, &self.window, |files_done| {
                progress(Step { files_done, files: wanted.len(), shard, shards });
            })
            .await?;
            report.beacons_read += loaded.len() as u64;
            let mut compared =
                compare::Compared::fetch(&clickhouse, &part, self.request, &mut duplicates).await?;
            let unsure = build::build(&loaded, &self.window, |site| self.etl.policy(site), &mut compared);
            report.unsure_visitors += unsure.visitors;
            report.unreadable += unsure.unreadable;
            if report.unsure_visitors > 0 && !self.may_stay_unsure() {
                return Ok(report);
            }
            compared.finish(&clickhouse, &self.etl.profiles, self.request, &mut report).await?;
        }
        duplicates.finish(&clickhouse, self.request, &mut report).await?;
        Ok(report)
    }

    /// Whether reading further back is no more allowed.
    fn may_stay_unsure(&self) -> bool {
        self.window.from_ms - self.window.read_from_ms >= LOOK_BACK_DAYS_MAX * DAY_MS
    }
}
