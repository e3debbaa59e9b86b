//! What the spool counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const STATE: &str = "ingest_spool_state";
const BYTES: &str = "ingest_spool_bytes";
const WAITING: &str = "ingest_spool_records_waiting";
const OLDEST: &str = "ingest_spool_oldest_seconds";
const ENGAGED: &str = "ingest_spool_engaged_total";
const SPOOLED: &str = "ingest_spool_spooled_records_total";
const DRAINED: &str = "ingest_spool_drained_records_total";
const FAILURES: &str = "ingest_spool_drain_failures_total";
const REFUSED: &str = "ingest_spool_refused_batches_total";

/// Names and meanings; called with those of the collector.
pub(crate) fn describe() {
    describe_gauge!(
        STATE,
        "Where requests go. 0: to the event log. 1: to the spool. 2: the spool takes nothing, so they are refused."
    );
    describe_gauge!(
        BYTES,
        "Bytes that the spool takes on disk, drained files included until they are deleted."
    );
    describe_gauge!(WAITING, "Records in the spool that the event log has not confirmed.");
    describe_gauge!(OLDEST, "Age of the oldest record that waits in the spool; 0 if none waits.");
    describe_counter!(ENGAGED, "Times that requests began to go to the spool.");
    describe_counter!(SPOOLED, "Records that were acknowledged because the spool has them.");
    describe_counter!(DRAINED, "Records out of the spool that the event log confirmed.");
    describe_counter!(FAILURES, "Batches out of the spool, and probes, that the event log did not confirm.");
    describe_counter!(
        REFUSED,
        "Batches that the spool refused. By `reason`: `bytes_max`, `free_bytes_min` (the settings of these names), `failed` (its disk)."
    );
}

pub(super) fn engaged() {
    counter!(ENGAGED).increment(1);
}

pub(super) fn spooled(records: u32) {
    counter!(SPOOLED).increment(u64::from(records));
}

pub(super) fn drained(records: u32) {
    counter!(DRAINED).increment(u64::from(records));
}

pub(super) fn drain_failed() {
    counter!(FAILURES).increment(1);
}

pub(super) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

/// How the spool stands; a fraction of a second and of a large count do not matter.
pub(super) fn stand(state: u32, bytes: u64, waiting: u64, oldest_ms: u64) {
    gauge!(STATE).set(f64::from(state));
    gauge!(BYTES).set(bytes as f64);
    gauge!(WAITING).set(waiting as f64);
    gauge!(OLDEST).set(oldest_ms as f64 / 1000.0);
}
