//! What a run measured.

use super::{Method, Options};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies above this are recorded as this; an answer is given up earlier.
const LATENCY_MAX_US: u64 = 60_000_000;
const LATENCY_DIGITS: u8 = 3;

/// Counts and latencies of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub site: String,
    pub method: &'static str,
    pub connections: u32,
    pub lines_per_request: u32,
    /// Requests per second asked for; none is as fast as possible.
    pub rate: Option<f64>,
    pub elapsed_s: f64,
    pub requests_sent: u64,
    pub requests_acked: u64,
    pub lines_acked: u64,
    pub by_status: BTreeMap<u16, u64>,
    /// Connections that could not be made.
    pub connect_errors: u64,
    /// Connections lost with a request under way.
    pub broken: u64,
    pub timeouts: u64,
    pub retries: u64,
    /// Requests that the rate asked for while the server was away; they were never sent.
    pub slots_missed: u64,
    /// TLS handshakes, and how many of them went on from an earlier session.
    pub handshakes: u64,
    pub handshakes_resumed: u64,
    /// Idle connections that were still open at the end.
    pub idle_kept: u64,
    /// Why the list of acknowledged lines ended early; the run then failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked_error: Option<String>,
    pub requests_per_s: f64,
    pub lines_per_s: f64,
    /// From sending to the complete answer.
    pub latency_us: Latency,
    /// The same, of what was acknowledged alone.
    pub acked_latency_us: Latency,
    /// From when the rate wanted the request sent; at full speed the same.
    pub schedule_latency_us: Latency,
    #[serde(skip)]
    sent: Option<Histogram<u64>>,
    #[serde(skip)]
    acked: Option<Histogram<u64>>,
    #[serde(skip)]
    due: Option<Histogram<u64>>,
}

/// A distribution in microseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Report {
    /// Nothing sent yet.
    pub(super) fn new(options: &Options) -> Self {
        let histogram = || Histogram::new_with_max(LATENCY_MAX_US, LATENCY_DIGITS).ok();
        Self {
            site: options.site.clone(),
            method: match options.method {
                Method::Get => "get",
                Method::Post => "post",
            },
            connections: options.connections,
            lines_per_request: options.lines_per_request,
            rate: options.rate,
            elapsed_s: 0.0,
            requests_sent: 0,
            requests_acked: 0,
            lines_acked: 0,
            by_status: BTreeMap::new(),
            connect_errors: 0,
            broken: 0,
            timeouts: 0,
            retries: 0,
            slots_missed: 0,
            handshakes: 0,
            handshakes_resumed: 0,
            idle_kept: 0,
            acked_error: None,
            requests_per_s: 0.0,
            lines_per_s: 0.0,
            latency_us: Latency::default(),
            acked_latency_us: Latency::default(),
            schedule_latency_us: Latency::default(),
            sent: histogram(),
            acked: histogram(),
            due: histogram(),
        }
    }

    /// Counts an answer.
    pub(super) fn answer(&mut self, status: u16, since_sent: Duration, since_due: Duration) {
        *self.by_status.entry(status).or_default() += 1;
        let is_acked = (200..300).contains(&status);
        let acked = if is_acked { &mut self.acked } else { &mut None };
        for (histogram, latency) in
            [(&mut self.sent, since_sent), (acked, since_sent), (&mut self.due, since_due)]
        {
            if let Some(histogram) = histogram {
                histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US));
            }
        }
        if is_acked {
            self.requests_acked += 1;
            self.lines_acked += u64::from(self.lines_per_request);
        }
    }

    /// Computes rates and quantiles.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
    pub(super) fn finish(&mut self, elapsed: Duration) {
        self.elapsed_s = elapsed.as_secs_f64();
        self.requests_per_s = self.requests_acked as f64 / self.elapsed_s;
        self.lines_per_s = self.lines_acked as f64 / self.elapsed_s;
        self.latency_us = Latency::of(self.sent.as_ref());
        self.acked_latency_us = Latency::of(self.acked.as_ref());
        self.schedule_latency_us = Latency::of(self.due.as_ref());
    }
}

impl Latency {
    fn of(histogram: Option<&Histogram<u64>>) -> Self {
        let Some(histogram) = histogram.filter(|histogram| !histogram.is_empty()) else {
            return Self::default();
        };
        Self {
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}
