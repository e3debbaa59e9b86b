//! Every metric of the role. Counted per batch, never per event.

use std::time::Duration;

use fanal_storage::archive::FileInfo;
use fanal_storage::clickhouse::Flush;
use metrics::{counter, gauge, histogram};

pub(crate) fn archived(files: &[FileInfo]) {
    counter!("etl_archive_files_total").increment(files.len() as u64);
    counter!("etl_archive_bytes_total").increment(files.iter().map(|file| file.bytes).sum());
}

pub(crate) fn flushed(flush: &Flush, took: Duration) {
    counter!("etl_rows_written_total", "table" => "events").increment(flush.events.len() as u64);
    counter!("etl_rows_written_total", "table" => "visits").increment(flush.visits.len() as u64);
    counter!("etl_rows_written_total", "table" => "outcomes").increment(flush.outcomes.len() as u64);
    histogram!("etl_flush_seconds").record(took.as_secs_f64());
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
pub(crate) fn visitors(count: usize) {
    gauge!("etl_visitors_in_memory").set(count as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
pub(crate) fn lag_records(part: &'static str, records: u64) {
    gauge!("etl_lag_records", "part" => part).set(records as f64);
}

pub(crate) fn unreadable_record() {
    counter!("etl_unreadable_records_total").increment(1);
}

/// Records whose log says that they were appended in the future.
pub(crate) fn stamped_ahead(records: u64) {
    counter!("etl_records_stamped_ahead_total").increment(records);
}

pub(crate) fn rebuilt(events: u64, took: Duration) {
    counter!("etl_rebuilt_events_total").increment(events);
    histogram!("etl_rebuild_seconds").record(took.as_secs_f64());
}
