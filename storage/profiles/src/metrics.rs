//! Every metric of the store. Labels come from closed sets.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};

use crate::error::ProfileError;

const WRITTEN: &str = "profiles_written_total";
const WRITE_SECONDS: &str = "profiles_write_seconds";
const READ_SECONDS: &str = "profiles_read_seconds";
const ERRORS: &str = "profiles_errors_total";
const SKIPPED: &str = "profiles_skipped_total";
const SHORTENED: &str = "profiles_shortened_visits_total";
const RETRIES: &str = "profiles_retries_total";
const SWEPT: &str = "profiles_swept_total";

/// Gives every metric its HELP text.
pub fn describe() {
    describe_counter!(
        WRITTEN,
        "What the profile store took. By `kind`: `visits` (removals too), `links` (of user ids to visitors)."
    );
    describe_histogram!(WRITE_SECONDS, "Time to write one batch to the profile store.");
    describe_histogram!(
        READ_SECONDS,
        "Time of one read from the profile store. By `operation`: `visitor`, `linked`, `links_of`."
    );
    describe_counter!(
        ERRORS,
        "Operations that the profile store failed, after retries. By `operation`: `write`, `visitor`, `linked`, `links_of`."
    );
    describe_counter!(
        SKIPPED,
        "Changes that are not stored. By `reason`: `expired` (older than the retention), `code_length` (a code is empty or too long)."
    );
    describe_counter!(SHORTENED, "Visits too large for a profile, stored without their custom data.");
    describe_counter!(RETRIES, "Requests that were sent to Cassandra again.");
    describe_counter!(SWEPT, "Expired entries removed from the embedded profile store.");
}

pub(crate) fn written(slots: usize, links: usize, took: Duration, result: &Result<(), ProfileError>) {
    if result.is_err() {
        counter!(ERRORS, "operation" => "write").increment(1);
        return;
    }
    counter!(WRITTEN, "kind" => "visits").increment(slots as u64);
    counter!(WRITTEN, "kind" => "links").increment(links as u64);
    histogram!(WRITE_SECONDS).record(took.as_secs_f64());
}

pub(crate) fn read<T>(operation: &'static str, took: Duration, result: &Result<T, ProfileError>) {
    match result {
        Ok(_) => histogram!(READ_SECONDS, "operation" => operation).record(took.as_secs_f64()),
        Err(_) => counter!(ERRORS, "operation" => operation).increment(1),
    }
}

pub(crate) fn skipped(reason: &'static str) {
    counter!(SKIPPED, "reason" => reason).increment(1);
}

pub(crate) fn shortened() {
    counter!(SHORTENED).increment(1);
}

pub(crate) fn retried() {
    counter!(RETRIES).increment(1);
}

pub(crate) fn swept(removed: u64) {
    counter!(SWEPT).increment(removed);
}
