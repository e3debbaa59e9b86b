//! Counts in the footers of archive files → the ledger in ClickHouse.
//!
//! Apart from the archive itself: while ClickHouse is down the archive goes on.
//! A dropped database gets all counts again.

use std::time::Duration;

use fanal_storage::archive::{ArchiveError, FileInfo, Ledger};
use fanal_storage::clickhouse::{ArchiveCountRow, ClickHouse, ClickHouseError};
use fanal_storage::log::Partition;
use thiserror::Error;

use crate::log::{EventLogs, LogError};
use crate::progress::Stage;
use crate::role::{Backoff, Etl, STARTING};
use crate::workers::Assignment;

/// Files whose counts go into one insert.
const FILES_PER_INSERT: usize = 64;
/// Looks for new files at least this often.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    #[error(transparent)]
    Log(#[from] LogError),
}

pub(crate) async fn run(work: Assignment) {
    let Assignment { etl, partition, stop, .. } = &work;
    let part = etl.health_part(Stage::Ledger, *partition);
    etl.health.starting(&part, STARTING);
    let clickhouse = etl.clickhouse();
    let mut backoff = Backoff::new();
    let mut counted = None;
    let mut archived = etl.progress.watch(Stage::Archive);
    while !stop.is_stopped() {
        archived.borrow_and_update();
        match copy(etl, *partition, &clickhouse, &mut counted).await {
            Ok(()) => {
                etl.health.ok(&part);
                backoff = Backoff::new();
                tokio::select! {
                    _ = archived.changed() => {}
                    () = tokio::time::sleep(IDLE) => {}
                    () = stop.stopped() => {}
                }
            }
            Err(failure) => {
                etl.health.not_ready(&part, failure.to_string());
                backoff.wait(stop).await;
            }
        }
    }
    if let EventLogs::Kafka(_) = etl.log {
        etl.health.forget(&part);
        etl.progress.forget(Stage::Ledger, *partition);
    }
}

/// Copies what is missing; `counted` is the offset after the last copied file.
async fn copy(
    etl: &Etl,
    partition: Partition,
    clickhouse: &ClickHouse,
    counted: &mut Option<u64>,
) -> Result<(), Failure> {
    if *counted == Some(etl.progress.reached(Stage::Archive, partition)) {
        return Ok(());
    }
    let mut from = match counted {
        Some(offset) => *offset,
        None => last_counted(partition, clickhouse).await?,
    };
    let files = etl.archive.list(partition).await?;
    // By their last offsets: a merged file begins with what was counted before.
    let mut first = files.partition_point(|file| file.last_offset < from);
    if counted.is_none() {
        // The last step may be there in part: an insert goes to one part per month, and
        // what merged files replace is dropped after it.
        first = first.saturating_sub(FILES_PER_INSERT);
    }
    let counted_before = from;
    for some in files[first..].chunks(FILES_PER_INSERT) {
        let mut rows = Vec::new();
        for file in some {
            let ledger = etl.archive.open(file).await?.ledger()?;
            if ledger.lost_records > 0 {
                tracing::error!(file = file.path(), records = ledger.lost_records, "the log lost records");
            }
            rows.extend(count_rows(file, &ledger));
            from = file.last_offset + 1;
        }
        clickhouse.write_archive_counts(&rows).await?;
        let merged = some.iter().filter(|file| file.first_offset < counted_before);
        drop_replaced(clickhouse, partition, merged).await?;
    }
    if let EventLogs::Kafka(kafka) = &etl.log {
        // For whoever waits in another process.
        kafka.commit_marker(Stage::Ledger.group(), partition, from).await.map_err(LogError::from)?;
    }
    *counted = Some(from);
    etl.progress.note(Stage::Ledger, partition, from);
    Ok(())
}

/// Counts of the smaller files that these replace become 0: a file's counts stand
/// under its first offset.
async fn drop_replaced(
    clickhouse: &ClickHouse,
    partition: Partition,
    merged: impl Iterator<Item = &FileInfo>,
) -> Result<(), ClickHouseError> {
    let ranges: Vec<String> = merged
        .map(FileInfo::replaced_starts)
        .filter(|starts| !starts.is_empty())
        .map(|starts| format!("first_offset BETWEEN {} AND {}", starts.start(), starts.end()))
        .collect();
    if ranges.is_empty() {
        return Ok(());
    }
    let sql = format!(
        // Unqualified, `count` would be the new one.
        "INSERT INTO archive_file_counts SELECT * REPLACE (toUInt64(0) AS count) FROM archive_file_counts FINAL \
         WHERE log_partition = {} AND archive_file_counts.count > 0 AND ({})",
        partition.number(),
        ranges.join(" OR ")
    );
    clickhouse.execute("drop counts of files that were merged", &sql).await
}

async fn last_counted(partition: Partition, clickhouse: &ClickHouse) -> Result<u64, ClickHouseError> {
    let sql = format!(
        "SELECT if(count() = 0, 0, max(last_offset) + 1) FROM archive_file_counts WHERE log_partition = {}",
        partition.number()
    );
    clickhouse.fetch_one("read the ledger", &sql).await
}

fn count_rows(file: &FileInfo, ledger: &Ledger) -> Vec<ArchiveCountRow> {
    let mut rows = Vec::new();
    for (key, counts) in &ledger.counts {
        let mut add = |stage: &str, outcome: &str, count: u64| {
            if count > 0 {
                rows.push(ArchiveCountRow {
                    log_partition: file.partition.number(),
                    first_offset: file.first_offset,
                    last_offset: file.last_offset,
                    site_code: key.site.clone(),
                    minute: u32::try_from(key.minute_ms / 1000).unwrap_or(u32::MAX),
                    stage: stage.to_owned(),
                    outcome: outcome.to_owned(),
                    count,
                });
            }
        };
        add("receive", "received", counts.received);
        add("accept", "accepted", counts.accepted);
        for (reason, count) in &counts.rejected {
            add("accept", reason, *count);
        }
        add("archive", "archived", counts.archived);
    }
    rows
}
