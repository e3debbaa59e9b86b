//! Small archive files of past days → larger ones, by whoever archives the partition.

use std::time::Duration;

use fanal_storage::archive::ArchiveError;

use crate::metrics;
use crate::progress::Stage;
use crate::role::sleep_or_stop;
use crate::workers::Assignment;

/// How often small files are looked for.
const INTERVAL: Duration = Duration::from_secs(600);

pub(crate) async fn run(work: Assignment) {
    let Some(policy) = work.etl.config.compaction else { return };
    while !sleep_or_stop(INTERVAL, &work.stop).await {
        let (partition, now_ms) = (work.partition, (work.etl.clock)());
        // What is not counted yet is left alone: its counts are read soon.
        let counted = work.etl.progress.reached(Stage::Ledger, partition);
        let go_on = || !work.stop.is_stopped();
        match work.etl.archive.compact(partition, &policy, now_ms, counted, go_on).await {
            Ok(done) => {
                metrics::compacted(done.removed);
                if !done.merged.is_empty() {
                    tracing::info!(
                        %partition, merged = done.merged.len(), removed = done.removed,
                        "small archive files merged"
                    );
                }
            }
            // Whoever has the partition now, or the next look, goes on.
            Err(error) => report(&work, &error),
        }
    }
}

fn report(work: &Assignment, error: &ArchiveError) {
    metrics::compaction_failed();
    tracing::warn!(partition = %work.partition, %error, "archive files not merged; it is tried again");
}
