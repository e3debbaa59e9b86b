//! The role's metrics. Labels come from closed sets.

use http::StatusCode;

const REQUESTS: &str = "delivery_requests_total";
const STREAMS: &str = "delivery_sse_streams";
const EVENTS: &str = "delivery_sse_events_total";
const REFUSED: &str = "delivery_token_refusals_total";

pub(crate) fn describe() {
    metrics::describe_counter!(
        REQUESTS,
        "Requests that were answered. By `route`: `configuration`, `token`, `visitor`, `map`, `sse`, `unknown`. By `status`: `2xx`, `3xx`, `4xx`, `5xx`."
    );
    metrics::describe_gauge!(STREAMS, "Real-time streams open now.");
    metrics::describe_counter!(EVENTS, "Configuration updates sent to real-time streams.");
    metrics::describe_counter!(REFUSED, "Token requests with wrong credentials or too many of them.");
}

pub(crate) fn answered(route: &'static str, status: StatusCode) {
    let class = match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::counter!(REQUESTS, "route" => route, "status" => class).increment(1);
}

pub(crate) fn event_sent() {
    metrics::counter!(EVENTS).increment(1);
}

pub(crate) fn token_refused() {
    metrics::counter!(REFUSED).increment(1);
}

/// Counts one open stream as long as it lives.
pub(crate) struct OpenStream;

impl OpenStream {
    pub(crate) fn new() -> Self {
        metrics::gauge!(STREAMS).increment(1.0);
        Self
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        metrics::gauge!(STREAMS).decrement(1.0);
    }
}
