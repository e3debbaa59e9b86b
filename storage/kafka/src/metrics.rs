//! What the Kafka clients count, once per batch or look.

use fanal_storage::log::Partition;
use metrics::{counter, describe_counter, describe_gauge, gauge};

const PRODUCED: &str = "kafka_records_produced_total";
const FAILED: &str = "kafka_records_failed_total";
const QUEUED_RECORDS: &str = "kafka_producer_queue_records";
const QUEUED_BYTES: &str = "kafka_producer_queue_bytes";
const OVERFLOW: &str = "kafka_records_overflow_total";
const HOT_KEYS: &str = "kafka_hot_keys";
const RENEWED: &str = "kafka_producer_renewals_total";
const LAG: &str = "kafka_consumer_lag_records";
const REBALANCES: &str = "kafka_group_changes_total";

/// Names and meanings; call once after the recorder is installed.
pub fn describe() {
    describe_counter!(PRODUCED, "Records that Kafka confirmed.");
    describe_counter!(FAILED, "Records that Kafka refused or did not confirm in time.");
    describe_gauge!(QUEUED_RECORDS, "Records that wait for Kafka's confirmation.");
    describe_gauge!(QUEUED_BYTES, "Bytes that wait for Kafka's confirmation.");
    describe_counter!(OVERFLOW, "Records of hot keys that went to the overflow topic.");
    describe_gauge!(HOT_KEYS, "Keys whose records go to the overflow topic now.");
    describe_counter!(RENEWED, "Producers that were replaced after an error that ends a producer.");
    describe_gauge!(
        LAG,
        "Records that a stage has not finished; every etl process tells it of all partitions. By `stage`: `archive`, `visits`, `ledger`. By `partition`: its number in `beacons`, with `dead-` or `overflow-` before it in the other topics."
    );
    describe_counter!(
        REBALANCES,
        "Changes of the partitions of this process. By `stage`: `archive`, `visits`. By `kind`: `assigned`, `revoked`, `lost`."
    );
}

pub(crate) fn produced(records: u64) {
    counter!(PRODUCED).increment(records);
}

pub(crate) fn failed(records: u64) {
    counter!(FAILED).increment(records);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn queued(records: usize, bytes: usize) {
    gauge!(QUEUED_RECORDS).increment(records as f64);
    gauge!(QUEUED_BYTES).increment(bytes as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn unqueued(records: usize, bytes: usize) {
    gauge!(QUEUED_RECORDS).decrement(records as f64);
    gauge!(QUEUED_BYTES).decrement(bytes as f64);
}

pub(crate) fn overflow(records: u64) {
    counter!(OVERFLOW).increment(records);
}

pub(crate) fn hot_keys(keys: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(HOT_KEYS).set(keys as f64);
}

pub(crate) fn renewed() {
    counter!(RENEWED).increment(1);
}

pub(crate) fn lag(stage: &'static str, partition: Partition, records: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(LAG, "stage" => stage, "partition" => partition.to_string()).set(records as f64);
}

/// `kind` is assigned, revoked or lost.
pub(crate) fn group_change(stage: &'static str, kind: &'static str) {
    counter!(REBALANCES, "stage" => stage, "kind" => kind).increment(1);
}
