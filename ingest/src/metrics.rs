//! What the collector counts, once per request or batch.

use fanal_parser::Counts;
use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::labels::Labels;

const REQUESTS: &str = "ingest_requests_total";
const REQUEST_BYTES: &str = "ingest_request_bytes_total";
const LINES: &str = "ingest_lines_total";
const STAGE_SECONDS: &str = "ingest_stage_duration_seconds";
const UNACCOUNTED: &str = "ingest_lines_unaccounted_total";
const COOKIES: &str = "ingest_visitor_cookies_total";
const QUOTA_REFUSED: &str = "ingest_quota_refused_total";
const RULE_REFUSED: &str = "ingest_rule_refused_total";
const RULES_STALE: &str = "ingest_rules_stale";

/// Names and meanings; call once after the recorder is installed.
pub fn describe() {
    describe_counter!(
        REQUESTS,
        "Tracking requests that were answered. By `result`: `accepted` (counted when their lines are durable), or the code of the problem that the answer names."
    );
    describe_counter!(REQUEST_BYTES, "Bytes of tracking lines in bodies, after decoding, and in queries.");
    describe_counter!(LINES, "Tracking lines received. By `outcome`: `accepted`, `rejected`.");
    describe_counter!(
        UNACCOUNTED,
        "Tracking lines that were received but neither accepted nor rejected: a bug of ours."
    );
    describe_histogram!(
        STAGE_SECONDS,
        "Where time goes. By `stage`: `parse` (of one request; one in 32 is timed), `queue` (of a batch of requests, since its first came), `append` (of a batch, until the event log confirmed it durable)."
    );
    describe_counter!(
        COOKIES,
        "Visitor cookies in answers. By `action`: `set` (a new visitor), `refreshed`."
    );
    describe_counter!(
        QUOTA_REFUSED,
        "Requests refused because their site had used its quota. By `site`: at most 1000, the others are `(other)`."
    );
    describe_counter!(
        RULE_REFUSED,
        "What a rule of the operator refused. By `rule`: its name; at most 1000, the others are `(other)`. By `what`: `request`, `line`."
    );
    describe_gauge!(
        RULES_STALE,
        "1 while the file of rules cannot be used and the rules before it are in force, else 0."
    );
    crate::sites::describe();
    crate::spool::metrics::describe();
}

/// Requests of a site that are refused.
pub(crate) fn refused_by_quota(site_code: &str) -> Counter {
    static SITES: Labels = Labels::new();
    counter!(QUOTA_REFUSED, "site" => SITES.bounded(site_code))
}

/// `what` is `request` or `line`.
pub(crate) fn refused_by_rule(rule: &str, what: &'static str) -> Counter {
    static RULES: Labels = Labels::new();
    counter!(RULE_REFUSED, "rule" => RULES.bounded(rule), "what" => what)
}

pub(crate) fn rules_are_stale(are_stale: bool) {
    gauge!(RULES_STALE).set(f64::from(u8::from(are_stale)));
}

/// `result` is `accepted` or the code of a problem: both come from closed sets.
pub(crate) fn request(result: &'static str) {
    counter!(REQUESTS, "result" => result).increment(1);
}

/// Requests of which every line is durable.
pub(crate) fn requests_accepted() -> Counter {
    counter!(REQUESTS, "result" => "accepted")
}

/// Counters of every request, looked up once.
pub(crate) struct Counters {
    bytes: Counter,
    accepted: Counter,
    rejected: Counter,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            bytes: counter!(REQUEST_BYTES),
            accepted: counter!(LINES, "outcome" => "accepted"),
            rejected: counter!(LINES, "outcome" => "rejected"),
        }
    }

    pub(crate) fn lines(&self, bytes: usize, counts: Counts) {
        self.bytes.increment(bytes as u64);
        self.accepted.increment(counts.accepted);
        self.rejected.increment(counts.rejected);
        if !counts.is_balanced() {
            let Counts { received, accepted, rejected } = counts;
            // Receipt and metric make it visible; the lines that have an outcome are kept.
            tracing::error!(received, accepted, rejected, "lines of a request have no outcome");
            counter!(UNACCOUNTED).increment(received.abs_diff(accepted + rejected));
        }
    }
}

/// Where the time of a batch goes.
pub(crate) struct Stages {
    pub(crate) parse: Histogram,
    pub(crate) queue: Histogram,
    pub(crate) append: Histogram,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self {
            parse: histogram!(STAGE_SECONDS, "stage" => "parse"),
            queue: histogram!(STAGE_SECONDS, "stage" => "queue"),
            append: histogram!(STAGE_SECONDS, "stage" => "append"),
        }
    }
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
        let counters = Counters::new();
        counters.lines(10, Counts { received: 4, accepted: 3, rejected: 1 });
        assert!(!recorder.render().contains(UNACCOUNTED));
        counters.lines(10, Counts { received: 5, accepted: 1, rejected: 1 });
        let text = recorder.render();
        assert!(text.contains("ingest_lines_unaccounted_total 3\n"), "{text}");
    }
}
