//! One visitor's state: what is settled, what may still be reordered, and what
//! the tables hold of it.

use fanal_model::{Beacon, Visit};
use serde::{Deserialize, Serialize};

use crate::rows::visit_hash;
use crate::visit::{OrderKey, Scan, VisitPolicy, VisitorEvent};

/// A visitor of one site while events of it may still arrive.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct VisitorState {
    /// All events before the horizon, folded.
    base: Scan,
    /// Events from the horizon on, in their total order: an earlier one may
    /// still arrive between them.
    tail: Vec<TailEvent>,
    /// Visits of this state as the table has them.
    written: Vec<WrittenVisit>,
    /// Late events that this state does not know: it may place what follows them
    /// otherwise than a rebuild does.
    missed: Option<Missed>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Missed {
    first_ms: u64,
    last_ms: u64,
    /// Noted since the state was last looked at.
    is_new: bool,
    /// Nothing more is to be asked for when their visit is over by time.
    is_told: bool,
}

/// Rebuilds are asked for in steps of this many milliseconds, so that an import
/// of many late visitors asks for a few and not for one each.
const MISSED_STEP_MS: u64 = 600_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TailEvent {
    at_ms: u64,
    line_number: u32,
    nonce: Box<str>,
    event_id: u64,
    offset: u64,
    beacon: Box<[u8]>,
    /// What the tables say of it; `None` before its first flush.
    placed: Option<Placed>,
    /// After a restart the tables may say more than the checkpoint knew: it is
    /// written again, whatever `placed` says.
    #[serde(skip)]
    is_unconfirmed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Placed {
    Duplicate,
    InVisit(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WrittenVisit {
    pub(super) visit_id: u64,
    pub(super) started_at_ms: u64,
    /// Hash of the row; 0 where what the table holds is not known.
    row_hash: u64,
}

/// What changed for the tables.
pub(super) trait Changes {
    /// `event` is now `placed`; the tables say `before`.
    fn event(&mut self, event: &VisitorEvent<'_>, offset: u64, before: Option<Placed>, placed: Placed);
    /// The row of this visit is new or different.
    fn visit(&mut self, visit: &Visit);
    /// This visit exists no longer.
    fn visit_gone(&mut self, gone: WrittenVisit);
    /// What the tables hold from `at_ms` on may miss a late event.
    fn stale(&mut self, at_ms: u64);
}

impl TailEvent {
    fn order_key(&self) -> OrderKey<'_> {
        (self.at_ms, self.line_number, &self.nonce, self.event_id)
    }
}

impl VisitorState {
    /// Takes an event at or after the horizon. Returns false when this very
    /// event is there already: the same receipt, read twice from the log.
    pub(super) fn insert(&mut self, event: &VisitorEvent<'_>, offset: u64, beacon: &[u8]) -> bool {
        let key = event.order_key();
        match self.tail.binary_search_by(|known| known.order_key().cmp(&key)) {
            Ok(_) => false,
            Err(at) => {
                let added = TailEvent {
                    at_ms: event.at_ms(),
                    line_number: event.beacon.line_number,
                    nonce: event.event.nonce.as_ref().into(),
                    event_id: event.event_id,
                    offset,
                    beacon: beacon.into(),
                    placed: None,
                    is_unconfirmed: false,
                };
                self.tail.insert(at, added);
                true
            }
        }
    }

    /// Notes an event that came too late to be placed here.
    pub(super) fn miss(&mut self, at_ms: u64) {
        let none = Missed { first_ms: at_ms, last_ms: at_ms, is_new: true, is_told: false };
        let known = self.missed.unwrap_or(none);
        let (first_ms, last_ms) = (known.first_ms.min(at_ms), known.last_ms.max(at_ms));
        self.missed = Some(Missed { first_ms, last_ms, ..none });
    }

    /// Remembers a visit that the table has although this state does not know it.
    pub(super) fn found_in_table(&mut self, visit_id: u64, started_at_ms: u64) {
        self.written.retain(|known| known.visit_id != visit_id);
        self.written.push(WrittenVisit { visit_id, started_at_ms, row_hash: 0 });
    }

    /// Reports what differs from the tables, then folds what lies before
    /// `horizon_ms`, since no event can arrive there any more.
    pub(super) fn settle(&mut self, horizon_ms: u64, policy: &VisitPolicy, changes: &mut impl Changes) {
        let knew_events = self.has_events();
        let mut scan = self.base.clone();
        let mut visits = Vec::new();
        let mut folded = 0;
        let mut placement_of = Vec::with_capacity(self.tail.len());
        for (i, known) in self.tail.iter().enumerate() {
            if known.at_ms < horizon_ms {
                folded = i + 1;
            }
            let Some(event) = known.read() else { continue };
            let placement = scan.push(&event, policy);
            visits.extend(placement.closed.map(|closed| closed.visit()));
            let placed =
                if placement.is_duplicate { Placed::Duplicate } else { Placed::InVisit(placement.visit_id) };
            if known.placed != Some(placed) || known.is_unconfirmed {
                changes.event(&event, known.offset, known.placed, placed);
            }
            placement_of.push((i, placed));
        }
        for (i, placed) in placement_of {
            self.tail[i].placed = Some(placed);
            self.tail[i].is_unconfirmed = false;
        }
        visits.extend(scan.open_visit(horizon_ms, policy));
        self.report_visits(&visits, changes);
        let has_ended = self.fold(folded, horizon_ms, policy);
        self.tell_missed(knew_events && has_ended, horizon_ms, policy, changes);
    }

    /// Asks for a rebuild when a visit is over that may miss late events, and once
    /// when none that begins with them can go on. Forgets them when no event to
    /// come can be in their visit or repeat their nonces.
    fn tell_missed(
        &mut self,
        has_ended: bool,
        horizon_ms: u64,
        policy: &VisitPolicy,
        changes: &mut impl Changes,
    ) {
        let Some(missed) = &mut self.missed else { return };
        let is_over = missed.over_at_ms(policy) <= horizon_ms;
        // Over before it came: the mark of the late event itself is enough.
        missed.is_told |= std::mem::take(&mut missed.is_new) && is_over;
        if has_ended || (is_over && !missed.is_told) {
            changes.stale(missed.first_ms);
            missed.is_told |= is_over;
        }
        let is_open = self.base.open_visit_id().is_some() || !self.tail.is_empty();
        if missed.forget_at_ms(policy) <= horizon_ms && !is_open {
            self.missed = None;
        }
    }

    fn report_visits(&mut self, visits: &[Visit], changes: &mut impl Changes) {
        let before = std::mem::take(&mut self.written);
        for visit in visits {
            let row_hash = visit_hash(visit);
            let known = before.iter().any(|w| w.visit_id == visit.visit_id && w.row_hash == row_hash);
            if !known {
                changes.visit(visit);
            }
            let (visit_id, started_at_ms) = (visit.visit_id, visit.started_at_ms);
            self.written.push(WrittenVisit { visit_id, started_at_ms, row_hash });
        }
        for gone in before {
            if !visits.iter().any(|visit| visit.visit_id == gone.visit_id) {
                changes.visit_gone(gone);
            }
        }
    }

    /// Whether nothing of the folded events can change any more.
    fn fold(&mut self, folded: usize, horizon_ms: u64, policy: &VisitPolicy) -> bool {
        for known in self.tail.drain(..folded) {
            if let Some(event) = known.read() {
                let _placed_before = self.base.push(&event, policy);
            }
        }
        let has_ended = self.base.settle(horizon_ms, policy).is_some();
        let alive = self.base.open_visit_id().map(|(id, _)| id);
        let in_tail = |id| self.tail.iter().any(|event| event.placed == Some(Placed::InVisit(id)));
        self.written.retain(|visit| Some(visit.visit_id) == alive || in_tail(visit.visit_id));
        has_ended || !self.has_events()
    }

    /// When time alone changes something here.
    pub(super) fn settles_at_ms(&self, policy: &VisitPolicy) -> Option<u64> {
        // The first event of the tail is folded one millisecond after its own.
        let tail = self.tail.first().map(|event| event.at_ms + 1);
        // Beside events, only what was not told yet needs a time of its own.
        let missed = self.missed.and_then(|missed| match (missed.is_told, self.has_events()) {
            (false, _) => Some(missed.over_at_ms(policy)),
            (true, false) => Some(missed.forget_at_ms(policy)),
            (true, true) => None,
        });
        [tail, self.base.settles_at_ms(policy), missed].into_iter().flatten().min()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_events() && self.missed.is_none()
    }

    fn has_events(&self) -> bool {
        !self.tail.is_empty() || !self.base.is_empty()
    }

    /// After a restart the tables may say more than this state knows.
    pub(super) fn distrust_tables(&mut self) {
        for event in &mut self.tail {
            event.is_unconfirmed = true;
        }
        for visit in &mut self.written {
            visit.row_hash = 0;
        }
    }
}

impl Missed {
    /// When no event can go on with a visit that ends with these.
    fn over_at_ms(self, policy: &VisitPolicy) -> u64 {
        (self.last_ms + policy.session_timeout_ms).next_multiple_of(MISSED_STEP_MS)
    }

    /// When no nonce of these counts any more, either.
    fn forget_at_ms(self, policy: &VisitPolicy) -> u64 {
        self.over_at_ms(policy).max(self.last_ms + policy.dedupe_horizon_ms)
    }
}

impl TailEvent {
    /// The bytes were read once before they were stored, so this fails only
    /// when a newer version of the rules refuses them; the line then counts as
    /// accepted and stays in the raw archive.
    fn read(&self) -> Option<VisitorEvent<'_>> {
        VisitorEvent::read(Beacon::decode(&self.beacon).ok()?).ok()
    }
}
