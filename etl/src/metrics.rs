//! Every metric of the role. Counted per batch, never per event.

use std::time::Duration;

use fanal_storage::archive::FileInfo;
use fanal_storage::clickhouse::Flush;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const ARCHIVE_FILES: &str = "etl_archive_files_total";
const ARCHIVE_BYTES: &str = "etl_archive_bytes_total";
const ROWS: &str = "etl_rows_written_total";
const FLUSH_SECONDS: &str = "etl_flush_seconds";
const VISITORS: &str = "etl_visitors_in_memory";
const LAG: &str = "etl_lag_records";
const UNREADABLE: &str = "etl_unreadable_records_total";
const STAMPED_AHEAD: &str = "etl_records_stamped_ahead_total";
const REBUILT: &str = "etl_rebuilt_events_total";
const REBUILD_SECONDS: &str = "etl_rebuild_seconds";
const COMPACTED: &str = "etl_compacted_files_total";
const COMPACTION_FAILURES: &str = "etl_compaction_failures_total";

/// Names and meanings; call once after the recorder is installed.
pub fn describe() {
    describe_counter!(ARCHIVE_FILES, "Files that were added to the raw archive.");
    describe_counter!(ARCHIVE_BYTES, "Bytes of the files that were added to the raw archive.");
    describe_counter!(
        ROWS,
        "Rows that streaming wrote to ClickHouse. By `table`: `events`, `visits`, `outcomes`."
    );
    describe_histogram!(FLUSH_SECONDS, "Time of one write of streaming to ClickHouse and the profile store.");
    describe_gauge!(
        VISITORS,
        "Visitors whose visits streaming holds, in the partition that was written last."
    );
    describe_gauge!(
        LAG,
        "Records of the embedded event log still to be read; `kafka_consumer_lag_records` is the same for Kafka. By `part`: `archive` (set when a file ends), `visits`."
    );
    describe_counter!(
        UNREADABLE,
        "Records of the event log that are no beacon: kept among the dead letters, and a bug of whoever wrote them."
    );
    describe_counter!(
        STAMPED_AHEAD,
        "Records whose log says that they were appended in the future: a topic without `LogAppendTime`, or a clock that is wrong."
    );
    describe_counter!(REBUILT, "Beacons that rebuilds read from the raw archive.");
    describe_histogram!(REBUILD_SECONDS, "Time of one rebuild of days.");
    describe_counter!(COMPACTED, "Small files of the raw archive that larger ones replaced.");
    describe_counter!(
        COMPACTION_FAILURES,
        "Times that small files of the raw archive were not merged; it is tried again."
    );
}

pub(crate) fn archived(files: &[FileInfo]) {
    counter!(ARCHIVE_FILES).increment(files.len() as u64);
    counter!(ARCHIVE_BYTES).increment(files.iter().map(|file| file.bytes).sum());
}

pub(crate) fn flushed(flush: &Flush, took: Duration) {
    counter!(ROWS, "table" => "events").increment(flush.events.len() as u64);
    counter!(ROWS, "table" => "visits").increment(flush.visits.len() as u64);
    counter!(ROWS, "table" => "outcomes").increment(flush.outcomes.len() as u64);
    histogram!(FLUSH_SECONDS).record(took.as_secs_f64());
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
pub(crate) fn visitors(count: usize) {
    gauge!(VISITORS).set(count as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
pub(crate) fn lag_records(part: &'static str, records: u64) {
    gauge!(LAG, "part" => part).set(records as f64);
}

pub(crate) fn unreadable_record() {
    counter!(UNREADABLE).increment(1);
}

/// Records whose log says that they were appended in the future.
pub(crate) fn stamped_ahead(records: u64) {
    counter!(STAMPED_AHEAD).increment(records);
}

pub(crate) fn rebuilt(events: u64, took: Duration) {
    counter!(REBUILT).increment(events);
    histogram!(REBUILD_SECONDS).record(took.as_secs_f64());
}

pub(crate) fn compacted(removed_files: u64) {
    counter!(COMPACTED).increment(removed_files);
}

pub(crate) fn compaction_failed() {
    counter!(COMPACTION_FAILURES).increment(1);
}
