//! What the collector counts, once per request or batch.

use fanal_parser::Counts;
use metrics::{counter, describe_counter, describe_histogram, histogram};

const REQUESTS: &str = "ingest_requests_total";
const REQUEST_BYTES: &str = "ingest_request_bytes_total";
const LINES: &str = "ingest_lines_total";
const APPEND_SECONDS: &str = "ingest_append_duration_seconds";
const UNACCOUNTED: &str = "ingest_lines_unaccounted_total";
const COOKIES: &str = "ingest_visitor_cookies_total";

/// Names and meanings; call once after the recorder is installed.
pub fn describe() {
    describe_counter!(REQUESTS, "Tracking requests by result: accepted, or the code of the problem.");
    describe_counter!(REQUEST_BYTES, "Bytes of tracking bodies after decoding.");
    describe_counter!(LINES, "Tracking lines by outcome: accepted or rejected.");
    describe_counter!(
        UNACCOUNTED,
        "Tracking lines that were received but neither accepted nor rejected: a bug of ours."
    );
    describe_histogram!(APPEND_SECONDS, "Time until the event log confirmed a request durable.");
    describe_counter!(COOKIES, "Visitor cookies by action: set or refreshed.");
    crate::spool::metrics::describe();
}

/// `result` is `accepted` or the code of a problem: both come from closed sets.
pub(crate) fn request(result: &'static str) {
    counter!(REQUESTS, "result" => result).increment(1);
}

pub(crate) fn lines(bytes: usize, counts: Counts) {
    counter!(REQUEST_BYTES).increment(bytes as u64);
    counter!(LINES, "outcome" => "accepted").increment(counts.accepted);
    counter!(LINES, "outcome" => "rejected").increment(counts.rejected);
    if !counts.is_balanced() {
        let Counts { received, accepted, rejected } = counts;
        // Receipt and metric make it visible; the lines that have an outcome are kept.
        tracing::error!(received, accepted, rejected, "lines of a request have no outcome");
        counter!(UNACCOUNTED).increment(received.abs_diff(accepted + rejected));
    }
}

pub(crate) fn append(seconds: f64) {
    histogram!(APPEND_SECONDS).record(seconds);
}

pub(crate) fn cookie(action: &'static str) {
    counter!(COOKIES, "action" => action).increment(1);
}

#[cfg(test)]
mod tests {
    use fanal_service::metrics::Metrics;

    use super::*;

    #[test]
    fn lines_without_an_outcome_are_counted() {
        let recorder = Metrics::install().unwrap();
        lines(10, Counts { received: 4, accepted: 3, rejected: 1 });
        assert!(!recorder.render().contains(UNACCOUNTED));
        lines(10, Counts { received: 5, accepted: 1, rejected: 1 });
        let text = recorder.render();
        assert!(text.contains("ingest_lines_unaccounted_total 3\n"), "{text}");
    }
}
