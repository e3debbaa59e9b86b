//! Which parts of this process are ready.
//!
//! Never probes anything: each part reports its own state. A part that was
//! never reported is not there; one that reports not ready makes the process
//! not ready.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The state of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Ok,
    /// Ready, but somebody should look: why, and what to do about it if anything.
    Degraded(String),
    /// Why, and what to do about it if anything.
    NotReady(String),
}

impl State {
    /// Whether the part does its work, if only just.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !matches!(self, Self::NotReady(_))
    }
}

/// The states of all parts. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<RwLock<BTreeMap<String, State>>>);

impl Health {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports a state; logs the change.
    pub fn set(&self, part: &str, state: State) {
        if self.replace(part, &state) {
            match state {
                State::Ok => tracing::info!(part, "ready"),
                State::Degraded(reason) => tracing::warn!(part, reason, "ready, but degraded"),
                State::NotReady(reason) => tracing::warn!(part, reason, "not ready"),
            }
        }
    }

    /// Whether the state is another one than before.
    fn replace(&self, part: &str, state: &State) -> bool {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part.to_owned(), state.clone()).as_ref() != Some(state)
    }

    /// Reports a part that is not ready because it has only begun, and says soon how it is:
    /// nothing that anybody should look after, unlike other reasons.
    pub fn starting(&self, part: &str, reason: impl Into<String>) {
        let reason = reason.into();
        if self.replace(part, &State::NotReady(reason.clone())) {
            tracing::info!(part, reason, "starting");
        }
    }

    pub fn ok(&self, part: &str) {
        self.set(part, State::Ok);
    }

    pub fn not_ready(&self, part: &str, reason: impl Into<String>) {
        self.set(part, State::NotReady(reason.into()));
    }

    pub fn degraded(&self, part: &str, reason: impl Into<String>) {
        self.set(part, State::Degraded(reason.into()));
    }

    /// The part ended; it no longer counts.
    pub fn forget(&self, part: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().all(State::is_ready)
    }

    /// All parts with their states, by name.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_is_not_ready_makes_the_process_not_ready() {
        let health = Health::new();
        health.ok("ingest");
        health.starting("visits", "it is starting");
        assert!(!health.is_ready(), "a part that starts is not ready yet");
        health.ok("visits");
        health.not_ready("event_log", "disk full");
        assert!(!health.is_ready());
        health.ok("event_log");
        assert!(health.is_ready());
        health.not_ready("event_log", "disk full");
        health.forget("event_log");
        assert!(health.is_ready());
        health.degraded("spool", "the event log is away");
        assert!(health.is_ready(), "a degraded part does its work");
    }
}
