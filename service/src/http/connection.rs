//! What one connection is doing: how many requests are in flight, since when none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::HttpLimits;

/// Shared by a connection's task and the requests on it.
#[derive(Debug)]
pub(super) struct Activity {
    started: Instant,
    in_flight: AtomicU32,
    served_any: AtomicBool,
    /// Milliseconds after `started` when the last request ended.
    idle_since_ms: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            in_flight: AtomicU32::new(0),
            served_any: AtomicBool::new(false),
            idle_since_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.served_any.store(true, Ordering::Release);
        InFlight(Arc::clone(self))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    /// When the connection has been without a request for too long, unless one comes.
    pub(super) fn deadline(&self, limits: &HttpLimits) -> Instant {
        if !self.is_idle() {
            // Looked at again then; a request's own limits end it earlier.
            return Instant::now() + limits.idle_timeout;
        }
        if self.served_any.load(Ordering::Acquire) {
            let idle_since = Duration::from_millis(self.idle_since_ms.load(Ordering::Acquire));
            self.started + idle_since + limits.idle_timeout
        } else {
            self.started + limits.header_timeout
        }
    }
}

/// One request in flight; dropped when its answer is sent.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let ms = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.idle_since_ms.store(ms, Ordering::Release);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
