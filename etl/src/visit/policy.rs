//! The numbers that decide where a visit starts and ends.

use serde::{Deserialize, Serialize};

/// Rules of one site. A change holds for events that are scanned after it; a
/// rebuild applies it to the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitPolicy {
    /// A pause of this length or more, in milliseconds, starts a new visit.
    pub session_timeout_ms: u64,
    /// A visit that reaches this length, in milliseconds, is cut.
    pub visit_ms_max: u64,
    /// A visit that holds this many events is cut: bounds the state of a robot.
    pub visit_events_max: u32,
    /// A nonce seen again less than this after its first receipt, in
    /// milliseconds, is the same event.
    pub dedupe_horizon_ms: u64,
    /// Whether a heartbeat postpones the timeout, as an event does.
    pub heartbeat_extends: bool,
}

impl Default for VisitPolicy {
    fn default() -> Self {
        Self {
            session_timeout_ms: 30 * 60 * 1000,
            visit_ms_max: 24 * 60 * 60 * 1000,
            visit_events_max: 10_000,
            dedupe_horizon_ms: 2 * 60 * 60 * 1000,
            heartbeat_extends: false,
        }
    }
}
