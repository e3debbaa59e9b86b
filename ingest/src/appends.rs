//! What appends say about the event log: readiness and latency.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ::metrics::Counter;
use fanal_service::health::Health;
use fanal_storage::log::{AppendError, Batch};

use crate::lane::Observer;
use crate::metrics::{self, Stages};
use crate::sites::{Pending as OfSites, Sites};

/// The part of readiness that this role reports.
const HEALTH_PART: &str = "event_log";

/// Hears of the appends of all lanes.
pub(crate) struct Appends {
    health: Health,
    /// Whether the log took the last append.
    taking: AtomicBool,
    pub(crate) stages: Stages,
    requests_accepted: Counter,
    sites: Sites,
}

/// What becomes known of a batch when it is appended.
pub(crate) struct Pending {
    requests: u64,
    of_sites: OfSites,
}

impl Appends {
    pub(crate) fn new(health: Health) -> Self {
        health.ok(HEALTH_PART);
        Self {
            health,
            taking: AtomicBool::new(true),
            stages: Stages::new(),
            requests_accepted: metrics::requests_accepted(),
            sites: Sites::default(),
        }
    }

    pub(crate) fn are_taken(&self) -> bool {
        self.taking.load(Ordering::Acquire)
    }

    /// Tells readiness what an append came to.
    pub(crate) fn report(&self, result: &Result<(), AppendError>) {
        match result {
            Ok(()) => {
                if !self.are_taken() {
                    self.taking.store(true, Ordering::Release);
                    self.health.ok(HEALTH_PART);
                }
            }
            // These say nothing about the next request.
            Err(AppendError::TooLarge { .. } | AppendError::Overloaded) => {}
            Err(error) => {
                self.taking.store(false, Ordering::Release);
                self.health.not_ready(HEALTH_PART, error.to_string());
            }
        }
    }
}

impl Observer for Appends {
    type Pending = Pending;

    fn leaves(&self, batch: &Batch, requests: u64) -> Pending {
        Pending { requests, of_sites: self.sites.pending(batch) }
    }

    fn appended(&self, pending: Pending, queued: Instant, sent: Instant, result: &Result<(), AppendError>) {
        pending.of_sites.end(result.is_ok());
        if result.is_ok() {
            self.requests_accepted.increment(pending.requests);
        }
        self.stages.queue.record((sent - queued).as_secs_f64());
        self.stages.append.record(sent.elapsed().as_secs_f64());
        self.report(result);
    }
}
