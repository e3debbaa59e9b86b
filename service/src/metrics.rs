//! The process's metrics as Prometheus text.
//!
//! Never decides what is measured: each crate counts with the `metrics` macros.
//! What must stay true: label values come from closed sets, so that the number
//! of series is bounded.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use thiserror::Error;

/// Buckets of every histogram of seconds: from a fast answer to a client's timeout.
const SECONDS_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// Why metrics cannot be collected.
#[derive(Debug, Error)]
#[error("cannot collect metrics: {0}; another recorder is installed in this process, which is a bug")]
pub struct MetricsError(String);

/// Renders what was counted.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Collects all metrics of this process from now on. Calling it again gives the same.
    pub fn install() -> Result<Self, MetricsError> {
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let handle = PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| MetricsError(error.to_string()))?;
        describe();
        Ok(INSTALLED.get_or_init(|| Self(handle)).clone())
    }

    /// The Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        // Histograms keep raw samples until someone moves them into their buckets.
        self.0.run_upkeep();
        self.0.render()
    }

    /// Must be called now and then where nobody scrapes, or samples pile up.
    pub fn tidy(&self) {
        self.0.run_upkeep();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// How many parts of the process are in trouble.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
pub(crate) fn set_parts(not_ready: usize, degraded: usize) {
    metrics::gauge!("health_parts_not_ready").set(not_ready as f64);
    metrics::gauge!("health_parts_degraded").set(degraded as f64);
}

fn describe() {
    metrics::describe_gauge!("http_connections", "Connections open now.");
    metrics::describe_counter!("http_connections_total", "Connections that were let in.");
    metrics::describe_counter!(
        "http_connections_refused_total",
        "Connections closed at once because their address had too many."
    );
    metrics::describe_counter!(
        "http_requests_total",
        "Requests that were begun. By `way`: `short` (they came whole and said nothing unusual, and were taken at once), `long` (all others)."
    );
    metrics::describe_counter!(
        "http_requests_refused_total",
        "Requests refused before they were looked at. By `reason`: `busy` (503, too many at once), `framing` (400, two lengths of a body)."
    );
    metrics::describe_counter!(
        "http_handler_panics_total",
        "Requests that ended in a bug of ours (answer 500)."
    );
    metrics::describe_gauge!(
        "http_requests_in_flight",
        "Requests being answered now, some milliseconds old. By `worker`: its number, below `http.workers`."
    );
    metrics::describe_counter!(
        "http_tls_handshakes_total",
        "TLS handshakes that were completed. By `kind`: `full`, `resumed`."
    );
    metrics::describe_counter!(
        "http_tls_handshakes_failed_total",
        "TLS handshakes that failed or took too long."
    );
    metrics::describe_counter!(
        "log_lines_dropped_total",
        "Log lines dropped because nobody read them in time."
    );
    metrics::describe_gauge!(
        "health_parts_not_ready",
        "Parts of this process that are not ready; above 0 `/health/ready` answers 503 with the reasons."
    );
    metrics::describe_gauge!(
        "health_parts_degraded",
        "Parts of this process that work, but that somebody should look at; `/health/ready` says why."
    );
}
