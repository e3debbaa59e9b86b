//! A batch as both stores write it: one slot per visit, one row per link.

use std::collections::HashMap;
use std::time::Duration;

use fanal_model::EndReason;

use crate::Limits;
use crate::batch::{GoneVisit, ProfileBatch, ProfileVisit};
use crate::{encoding, metrics};

/// The longest site code, visitor code or user id that is stored, in bytes: SDKs
/// allow 255 characters of up to 4 bytes, and Cassandra's keys have an end.
const CODE_BYTES_MAX: usize = 1024;
/// Versions above this would not fit a stamp; no log gets so long.
const VERSION_MAX: u64 = 1 << 60;
/// Links from a clock further ahead than this are taken for now, or none could ever
/// follow them.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);

/// Decides between two writes of one visit: the higher wins, on both stores. The
/// version first; of one version, an ended visit over one that may go on (time alone
/// passed between them), and the removal over both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

const RANKS: u64 = 4;
const RANK_ENDED: u64 = 1;
const RANK_GONE: u64 = 2;
const RANK_ERASED: u64 = 3;

impl Stamp {
    fn new(version: u64, rank: u64) -> Self {
        Self(version.min(VERSION_MAX) * RANKS + rank)
    }

    /// The highest stamp that an erasure up to `version` takes with it.
    pub(crate) fn erasure(version: u64) -> Self {
        Self::new(version, RANK_ERASED)
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// The place of one visit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SlotKey {
    pub(crate) site_code: String,
    pub(crate) visitor_code: String,
    pub(crate) started_at_ms: u64,
    pub(crate) visit_id: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) stamp: Stamp,
    /// The encoded visit, or its encoded absence.
    pub(crate) data: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkKey {
    pub(crate) site_code: String,
    pub(crate) mapping_value: String,
    pub(crate) visitor_code: String,
}

/// Newest write of each key; nothing that is too old or too long to be stored.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) slots: HashMap<SlotKey, Slot>,
    pub(crate) links: HashMap<LinkKey, u64>,
}

impl Writes {
    pub(crate) fn of(batch: &ProfileBatch, limits: Limits, now_ms: u64) -> Self {
        let mut writes = Self::default();
        let oldest_ms = oldest_ms(limits, now_ms);
        for visit in &batch.visits {
            writes.visit(visit, oldest_ms);
        }
        for gone in &batch.gone {
            writes.gone(gone, oldest_ms);
        }
        for link in &batch.links {
            let at_ms = link.linked_at_ms.min(now_ms.saturating_add(millis(AHEAD_MAX)));
            let codes = [link.site_code.as_str(), &link.mapping_value, &link.visitor_code];
            if !may_store(&codes, at_ms, oldest_ms) {
                continue;
            }
            let [site_code, mapping_value, visitor_code] = codes.map(str::to_owned);
            let known = writes.links.entry(LinkKey { site_code, mapping_value, visitor_code }).or_default();
            *known = at_ms.max(*known);
        }
        writes
    }

    fn visit(&mut self, visit: &ProfileVisit, oldest_ms: u64) {
        let ProfileVisit { visit, version } = visit;
        if !may_store(&[&visit.site_code, &visit.visitor_code], visit.started_at_ms, oldest_ms) {
            return;
        }
        let rank = if visit.end_reason == EndReason::StillOpen { 0 } else { RANK_ENDED };
        let key = SlotKey {
            site_code: visit.site_code.clone(),
            visitor_code: visit.visitor_code.clone(),
            started_at_ms: visit.started_at_ms,
            visit_id: visit.visit_id,
        };
        self.slot(key, Slot { stamp: Stamp::new(*version, rank), data: encoding::visit(visit, *version) });
    }

    fn gone(&mut self, gone: &GoneVisit, oldest_ms: u64) {
        if !may_store(&[&gone.site_code, &gone.visitor_code], gone.started_at_ms, oldest_ms) {
            return;
        }
        let key = SlotKey {
            site_code: gone.site_code.clone(),
            visitor_code: gone.visitor_code.clone(),
            started_at_ms: gone.started_at_ms,
            visit_id: gone.visit_id,
        };
        let stamp = Stamp::new(gone.version, RANK_GONE);
        self.slot(key, Slot { stamp, data: encoding::gone(gone.version) });
    }

    fn slot(&mut self, key: SlotKey, slot: Slot) {
        match self.slots.get_mut(&key) {
            Some(known) if known.wins_over(&slot) => {}
            Some(known) => *known = slot,
            None => {
                self.slots.insert(key, slot);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.links.is_empty()
    }
}

impl Slot {
    /// Equal stamps come from equal inputs; where rules changed in between, the bytes
    /// decide, as they do on Cassandra.
    pub(crate) fn wins_over(&self, other: &Self) -> bool {
        (self.stamp, &self.data) >= (other.stamp, &other.data)
    }
}

/// Whether these can be a key: anything else was never stored.
pub(crate) fn is_key(codes: &[&str]) -> bool {
    codes.iter().all(|code| !code.is_empty() && code.len() <= CODE_BYTES_MAX)
}

/// What began before this instant is expired.
pub(crate) fn oldest_ms(limits: Limits, now_ms: u64) -> u64 {
    now_ms.saturating_sub(millis(limits.retention))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn may_store(codes: &[&str], at_ms: u64, oldest_ms: u64) -> bool {
    if at_ms < oldest_ms {
        metrics::skipped("expired");
        return false;
    }
    if !is_key(codes) {
        metrics::skipped("code_length");
        return false;
    }
    true
}
