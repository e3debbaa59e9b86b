//! Sorted events of a shard → visits, through the fold that streaming uses.

use std::collections::HashMap;

use fanal_model::{Beacon, Visit};

use super::load::{Loaded, RecordPlace};
use crate::visit::{Scan, VisitPolicy, VisitorEvent};

/// Instants in milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The range that is rebuilt.
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// The range that is read.
    pub(super) read_from_ms: u64,
    pub(super) read_to_ms: u64,
    /// Nothing lies before `read_from_ms`.
    pub(super) is_all_history: bool,
    /// Visits that time has ended by now are over.
    pub(super) now_ms: u64,
}

/// Takes what a shard is made of, in range only.
pub(super) trait Rebuilt {
    fn event(&mut self, event: &VisitorEvent<'_>, visit_id: u64);
    fn duplicate(&mut self, event: &VisitorEvent<'_>, place: RecordPlace);
    fn visit(&mut self, visit: &Visit);
}

/// What could not be decided.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unsure {
    pub(super) visitors: u64,
    pub(super) unreadable: u64,
}

pub(super) fn build(
    loaded: &Loaded,
    window: &Window,
    policy: impl Fn(&str) -> VisitPolicy,
    rebuilt: &mut impl Rebuilt,
) -> Unsure {
    let mut unsure = Unsure::default();
    for run in loaded.visitors() {
        let mut events: Vec<(RecordPlace, VisitorEvent<'_>)> = Vec::new();
        for (place, bytes) in run {
            let read = Beacon::decode(bytes).ok().and_then(|beacon| VisitorEvent::read(beacon).ok());
            match read {
                Some(event) => events.push((place, event)),
                None => unsure.unreadable += 1,
            }
        }
        // Equal receipts in the order of the log, as streaming met them.
        events.sort_by(|(a_place, a), (b_place, b)| {
            let key = |e: &VisitorEvent<'_>| (e.beacon.site_code.to_owned(), e.beacon.visitor().to_owned());
            let same = a.beacon.site_code == b.beacon.site_code && a.beacon.visitor() == b.beacon.visitor();
            let by_visitor = if same { std::cmp::Ordering::Equal } else { key(a).cmp(&key(b)) };
            by_visitor.then_with(|| a.order_key().cmp(&b.order_key())).then(a_place.cmp(b_place))
        });
        let same_visitor = |a: &VisitorEvent<'_>, b: &VisitorEvent<'_>| {
            a.beacon.site_code == b.beacon.site_code && a.beacon.visitor() == b.beacon.visitor()
        };
        for visitor in events.chunk_by(|(_, a), (_, b)| same_visitor(a, b)) {
            let policy = policy(visitor[0].1.beacon.site_code);
            if !scan(visitor, window, &policy, rebuilt) {
                unsure.visitors += 1;
            }
        }
    }
    unsure
}

/// Scans one visitor; false if the beginning of its activity was not read.
fn scan(
    events: &[(RecordPlace, VisitorEvent<'_>)],
    window: &Window,
    policy: &VisitPolicy,
    rebuilt: &mut impl Rebuilt,
) -> bool {
    let mut scan = Scan::default();
    let mut beginning = Beginning::new(window, policy);
    let in_range = |at_ms: u64| (window.from_ms..window.to_ms).contains(&at_ms);
    for (place, event) in events {
        beginning.see(event, policy);
        let placement = scan.push(event, policy);
        if let Some(closed) = placement.closed.filter(|visit| in_range(visit.started_at_ms())) {
            rebuilt.visit(&closed.visit());
        }
        if in_range(event.at_ms()) {
            if placement.is_duplicate {
                rebuilt.duplicate(event, *place);
            } else {
                rebuilt.event(event, placement.visit_id);
            }
        }
    }
    if let Some(visit) = scan.open_visit(window.now_ms, policy).filter(|visit| in_range(visit.started_at_ms))
    {
        rebuilt.visit(&visit);
    }
    beginning.is_sure
}

/// Whether something before the window could change what is in the range: a
/// visit without a pause, or a nonce repeated without a pause, from the
/// window's beginning on.
struct Beginning {
    from_ms: u64,
    /// The last event of an unbroken run from the window's beginning.
    unbroken_ms: Option<u64>,
    /// Nonces of the window's first stretch, with their last receipt.
    nonces: HashMap<u64, u64>,
    nonces_until_ms: u64,
    is_sure: bool,
}

impl Beginning {
    fn new(window: &Window, policy: &VisitPolicy) -> Self {
        let is_open = !window.is_all_history;
        Self {
            from_ms: window.from_ms,
            unbroken_ms: is_open.then_some(window.read_from_ms),
            nonces: HashMap::new(),
            nonces_until_ms: if is_open { window.read_from_ms + policy.dedupe_horizon_ms } else { 0 },
            is_sure: true,
        }
    }

    fn see(&mut self, event: &VisitorEvent<'_>, policy: &VisitPolicy) {
        let at_ms = event.at_ms();
        if let Some(last) = self.unbroken_ms
            && !event.is_heartbeat()
        {
            let goes_on = at_ms < last + policy.session_timeout_ms;
            self.unbroken_ms = goes_on.then_some(at_ms);
            self.is_sure &= !(goes_on && at_ms >= self.from_ms);
        }
        if at_ms < self.nonces_until_ms {
            self.nonces.insert(event.nonce_key, at_ms);
        } else if let Some(last) = self.nonces.get_mut(&event.nonce_key) {
            if at_ms < *last + policy.dedupe_horizon_ms {
                *last = at_ms;
                self.is_sure &= at_ms < self.from_ms;
            } else {
                self.nonces.remove(&event.nonce_key);
            }
        }
    }
}
