//! The left fold over a visitor's events in their total order.

use fanal_model::{EndReason, Visit};
use serde::{Deserialize, Serialize};

use super::accumulate::Accumulator;
use super::event::VisitorEvent;
use super::policy::VisitPolicy;

/// What is known of one visitor of one site after a prefix of the total order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Nonces first received less than the horizon ago, oldest first.
    nonces: Vec<FirstReceipt>,
    open: Option<Box<Accumulator>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FirstReceipt {
    nonce_key: u64,
    at_ms: u64,
}

/// Where one event ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its nonce was received before, within the horizon: it is in no visit.
    pub is_duplicate: bool,
    /// The visit it belongs to; 0 for a duplicate and for a heartbeat outside
    /// of any visit.
    pub visit_id: u64,
    /// The visit that ended because this event did not belong to it any more.
    pub closed: Option<Box<Accumulator>>,
}

impl Scan {
    /// Takes the next event of the total order.
    pub fn push(&mut self, event: &VisitorEvent<'_>, policy: &VisitPolicy) -> Placement {
        let at_ms = event.at_ms();
        if !self.first_receipt(event.nonce_key, at_ms, policy.dedupe_horizon_ms) {
            return Placement { is_duplicate: true, visit_id: 0, closed: None };
        }
        let end = self.open.as_ref().and_then(|visit| visit.ends_before(at_ms, policy));
        if event.is_heartbeat() {
            let open = self.open.as_mut().filter(|_| end.is_none());
            let visit_id = open.map_or(0, |visit| {
                visit.heartbeat(event, policy);
                visit.visit_id()
            });
            return Placement { is_duplicate: false, visit_id, closed: None };
        }
        let closed = end.and_then(|reason| {
            self.open.take().map(|mut visit| {
                visit.close(reason);
                visit
            })
        });
        let visit = self.open.get_or_insert_with(|| Box::new(Accumulator::start(event)));
        visit.add(event);
        Placement { is_duplicate: false, visit_id: visit.visit_id(), closed }
    }

    /// The visit that may still go on, as it stands at `now_ms` of event time.
    #[must_use]
    pub fn open_visit(&self, now_ms: u64, policy: &VisitPolicy) -> Option<Visit> {
        let open = self.open.as_deref()?;
        let mut visit = open.visit();
        visit.end_reason = open.ends_before(now_ms, policy).unwrap_or(EndReason::StillOpen);
        Some(visit)
    }

    /// Id and first instant of the open visit.
    #[must_use]
    pub fn open_visit_id(&self) -> Option<(u64, u64)> {
        self.open.as_ref().map(|visit| (visit.visit_id(), visit.started_at_ms()))
    }

    /// Forgets what no event at or after `now_ms` can touch. Returns the visit
    /// that ended by time.
    pub fn settle(&mut self, now_ms: u64, policy: &VisitPolicy) -> Option<Visit> {
        self.forget_nonces(now_ms, policy.dedupe_horizon_ms);
        let ended =
            self.open_visit(now_ms, policy).filter(|visit| visit.end_reason != EndReason::StillOpen)?;
        self.open = None;
        Some(ended)
    }

    /// The first instant at which [`Scan::settle`] has something to do.
    #[must_use]
    pub fn settles_at_ms(&self, policy: &VisitPolicy) -> Option<u64> {
        let visit = self.open.as_ref().map(|visit| visit.deadline_ms(policy));
        let nonce = self.nonces.last().map(|last| last.at_ms + policy.dedupe_horizon_ms);
        // A visit first, then the nonces once all of them are past.
        visit.or(nonce)
    }

    /// Whether nothing is remembered any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nonces.is_empty() && self.open.is_none()
    }

    fn first_receipt(&mut self, nonce_key: u64, at_ms: u64, horizon_ms: u64) -> bool {
        let seen = self.nonces.iter().rev().find(|first| first.nonce_key == nonce_key);
        if seen.is_some_and(|first| at_ms - first.at_ms < horizon_ms) {
            return false;
        }
        // Bounded work: forgetting shifts the list, so wait until half of it is past.
        if self.nonces.len() >= 16 && self.nonces[self.nonces.len() / 2].at_ms + horizon_ms <= at_ms {
            self.forget_nonces(at_ms, horizon_ms);
        }
        self.nonces.push(FirstReceipt { nonce_key, at_ms });
        true
    }

    fn forget_nonces(&mut self, now_ms: u64, horizon_ms: u64) {
        let past = self.nonces.partition_point(|first| first.at_ms + horizon_ms <= now_ms);
        self.nonces.drain(..past);
    }
}
