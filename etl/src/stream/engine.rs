//! All visitors of one partition of the event log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fanal_model::SiteCode;
use fanal_profiles::ProfileBatch;
use fanal_storage::archive::read_beacon;
use fanal_storage::clickhouse::{Flush, OutcomeRow};
use fanal_storage::log::{Family, Partition};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::changed::{Changed, Collected};
use super::late::Outcomes;
use super::visitor::VisitorState;
use crate::rows;
use crate::visit::{VisitPolicy, VisitorEvent};

/// States are looked at again in steps of this many milliseconds.
const TIMER_STEP_MS: u64 = 10_000;

/// What the engine must know beside the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Partition of the event log. Of an overflow partition everything is late: its
    /// visitors are at home elsewhere, and only a rebuild sees all of their events.
    pub partition: Partition,
    /// Partitions over which keys are spread; 1 where there is one only.
    pub key_partitions: u32,
    /// How long after its event time a record may reach the log and still be
    /// streamed; what comes later waits for a rebuild.
    pub allowed_lateness_ms: u64,
}

/// The rules of each site, as the catalogue has them now.
pub trait SitePolicies {
    fn policy(&self, site_code: &str) -> VisitPolicy;
}

impl<F: Fn(&str) -> VisitPolicy> SitePolicies for F {
    fn policy(&self, site_code: &str) -> VisitPolicy {
        self(site_code)
    }
}

/// Something a person may want to know; the record itself is safe in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The record is not a beacon, or its line is refused by today's rules.
    Unreadable { offset: u64 },
}

/// Why a stored state is not used.
#[derive(Debug, Error)]
pub enum StateError {
    #[error("the checkpoint is damaged (its checksum is wrong): the one before it is used")]
    Checksum,
    #[error(
        "the checkpoint was written by another version of the program: the event log is read again from its beginning"
    )]
    Format,
}

/// The states of all visitors, and what is waiting to be written.
pub struct Engine {
    config: EngineConfig,
    visitors: HashMap<Arc<[u8]>, Slot>,
    timers: BTreeMap<u64, Vec<Arc<[u8]>>>,
    touched: HashSet<Arc<[u8]>>,
    outcomes: Outcomes,
    pending: Vec<OutcomeRow>,
    /// Keys of other partitions that records were read of since the last flush, with
    /// their first and last event time.
    strays: BTreeMap<Vec<u8>, (u64, u64)>,
    /// The highest append time read so far. Whoever reads the log passes on no time that
    /// has not come.
    watermark_ms: u64,
    /// The offset after the last record read.
    end_offset: u64,
    /// The value of `end_offset` at the last flush.
    flushed_offset: u64,
    /// Somebody who was cut off may still write rows of records before this offset.
    suspect_until: u64,
    /// What came before the first record is not known: visits that were open
    /// then are built in part and need a rebuild.
    lacks_beginning: bool,
    /// Events before this instant may go on such a visit.
    beginning_until_ms: u64,
}

#[derive(Default)]
struct Slot {
    state: VisitorState,
    /// The timer that will look at the state; others are out of date.
    due_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    watermark_ms: u64,
    end_offset: u64,
    visitors: Vec<(Vec<u8>, VisitorState)>,
}

/// Changes with this prefix make older checkpoints unreadable.
const FORMAT: &[u8; 8] = b"fanalck3";

impl Engine {
    #[must_use]
    pub fn new(config: EngineConfig, first_offset: u64) -> Self {
        Self {
            config,
            visitors: HashMap::new(),
            timers: BTreeMap::new(),
            touched: HashSet::new(),
            outcomes: Outcomes::default(),
            pending: Vec::new(),
            strays: BTreeMap::new(),
            watermark_ms: 0,
            end_offset: first_offset,
            flushed_offset: first_offset,
            suspect_until: 0,
            lacks_beginning: false,
            beginning_until_ms: 0,
        }
    }

    /// An engine whose log was trimmed while its state was lost: it marks what
    /// it can only build in part.
    #[must_use]
    pub fn without_beginning(config: EngineConfig, first_offset: u64) -> Self {
        Self { lacks_beginning: true, ..Self::new(config, first_offset) }
    }

    /// The offset of the next record that the engine has not read.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.end_offset
    }

    #[must_use]
    pub fn partition(&self) -> Partition {
        self.config.partition
    }

    /// Visitors held in memory.
    #[must_use]
    pub fn visitor_count(&self) -> usize {
        self.visitors.len()
    }

    /// Notes that the records before `offset` are read, whatever their topic.
    pub fn read_to(&mut self, offset: u64, append_time_ms: u64) {
        self.watermark_ms = self.watermark_ms.max(append_time_ms);
        self.end_offset = self.end_offset.max(offset);
    }

    /// Marks the days of records before `offset` as `cut_off`: who worked here before did
    /// not end by itself, and rows that it had sent may arrive after the tables were asked.
    pub fn suspect(&mut self, offset: u64) {
        self.suspect_until = offset;
    }

    /// Whether records are still to be read whose days are to be marked.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.end_offset < self.suspect_until
    }

    /// Takes back a time that cannot have come: a state that was stored with it would
    /// find everything late.
    pub fn believe_to(&mut self, now_ms: u64) {
        self.watermark_ms = self.watermark_ms.min(now_ms);
    }

    /// Takes the beacon record at `offset`.
    pub fn take(&mut self, offset: u64, append_time_ms: u64, value: &[u8]) -> Option<Warning> {
        self.read_to(offset + 1, append_time_ms);
        let Some(beacon) = read_beacon(value) else {
            // The archive keeps it among the dead letters and counts it as rejected.
            return Some(Warning::Unreadable { offset });
        };
        let Ok(event) = VisitorEvent::read(beacon) else {
            self.outcomes.count(beacon.site_code, beacon.received_at_ms, "dead_letter", 1);
            return Some(Warning::Unreadable { offset });
        };
        if self.config.partition.family() == Family::Overflow {
            self.outcomes.count(beacon.site_code, event.at_ms(), "late", 1);
            return None;
        }
        let mut key = Vec::with_capacity(beacon.site_code.len() + 1 + beacon.visitor().len());
        fanal_model::record_key(&mut key, beacon.site_code, beacon.visitor());
        if !self.is_home(&key) {
            // As on the overflow topic; only nobody has told the home partition yet.
            self.outcomes.count(beacon.site_code, event.at_ms(), "late", 1);
            self.stray(key, event.at_ms());
            return None;
        }
        if offset < self.suspect_until {
            self.outcomes.count(beacon.site_code, event.at_ms(), "cut_off", 0);
        }
        if event.at_ms() < self.horizon_ms() {
            self.outcomes.count(beacon.site_code, event.at_ms(), "late", 1);
            // Also of a visitor without a state: the next flush forgets it if the
            // event is too old to touch what follows.
            self.touch(key).state.miss(event.at_ms());
            return None;
        }
        let lacks_beginning = self.may_lack_beginning(event.at_ms());
        if lacks_beginning {
            self.outcomes.count(beacon.site_code, event.at_ms(), "stale", 0);
        }
        let slot = self.touch(key);
        if lacks_beginning {
            slot.state.miss(event.at_ms());
        }
        if !slot.state.insert(&event, offset, value) {
            self.pending.push(rows::duplicate_row(self.config.partition, offset, &beacon, 0, false));
        }
        None
    }

    /// Whether all of this visitor is built here. A program with a partitioner of its
    /// own may put records elsewhere, and two engines must not build one visitor.
    fn is_home(&self, key: &[u8]) -> bool {
        fanal_kafka::partition_of(key, self.config.key_partitions) == self.config.partition.index()
    }

    fn stray(&mut self, key: Vec<u8>, at_ms: u64) {
        let (first_ms, last_ms) = self.strays.entry(key).or_insert((at_ms, at_ms));
        (*first_ms, *last_ms) = ((*first_ms).min(at_ms), (*last_ms).max(at_ms));
    }

    /// Notes that a line of this key, received at `at_ms`, stands where this engine
    /// does not see it.
    pub fn take_overflowed(&mut self, offset: u64, append_time_ms: u64, key: &[u8], at_ms: u64) {
        self.read_to(offset + 1, append_time_ms);
        let (site_code, _) = split_key(key);
        if SiteCode::parse(&site_code).is_err() {
            // Nobody's visitor.
            return;
        }
        // A mark here as well: what the tables hold of this visitor has versions of this
        // partition, so a rebuild must have read the archive of this one too.
        self.outcomes.count(&site_code, at_ms, "stale", 0);
        self.touch(key.to_vec()).state.miss(at_ms);
    }

    /// Whether an event may belong to a visit that began before the first record.
    fn may_lack_beginning(&mut self, at_ms: u64) -> bool {
        if !self.lacks_beginning {
            return false;
        }
        if self.beginning_until_ms == 0 {
            self.beginning_until_ms = at_ms + VisitPolicy::default().session_timeout_ms;
        }
        at_ms < self.beginning_until_ms
    }

    /// The state of a visitor, which the next flush looks at.
    fn touch(&mut self, key: Vec<u8>) -> &mut Slot {
        let key: Arc<[u8]> = match self.visitors.get_key_value(key.as_slice()) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(key),
        };
        self.touched.insert(Arc::clone(&key));
        self.visitors.entry(key).or_default()
    }

    /// Everything that changed since the last flush. `now_ms` is the wall clock
    /// where the log is read to its end, so that time passes on a quiet site.
    pub fn flush(&mut self, now_ms: Option<u64>, policies: &impl SitePolicies) -> Changed {
        self.watermark_ms = self.watermark_ms.max(now_ms.unwrap_or(0));
        let horizon_ms = self.horizon_ms();
        self.expire(horizon_ms);
        let version = rows::streamed_version(self.end_offset);
        let mut changes = Collected {
            flush: Flush::default(),
            profiles: ProfileBatch::default(),
            outcomes: std::mem::take(&mut self.outcomes),
            version,
            partition: self.config.partition,
            site_visitor: (String::new(), String::new()),
        };
        changes.flush.outcomes = std::mem::take(&mut self.pending);
        for key in std::mem::take(&mut self.touched) {
            let Some(slot) = self.visitors.get_mut(&key) else { continue };
            changes.site_visitor = split_key(&key);
            let policy = policies.policy(&changes.site_visitor.0);
            slot.state.settle(horizon_ms, &policy, &mut changes);
            let due_ms = slot.state.settles_at_ms(&policy).map(timer_step);
            if slot.state.is_empty() {
                self.visitors.remove(&key);
            } else if slot.due_ms != due_ms {
                slot.due_ms = due_ms;
                if let Some(due) = due_ms {
                    self.timers.entry(due).or_default().push(key);
                }
            }
        }
        let Collected { mut flush, profiles, mut outcomes, .. } = changes;
        outcomes.take(self.config.partition, self.flushed_offset, &mut flush.outcomes);
        self.flushed_offset = self.end_offset;
        for outcome in &mut flush.outcomes {
            outcome.version = version;
        }
        let mut notes = Vec::new();
        for (key, (first_ms, last_ms)) in std::mem::take(&mut self.strays) {
            if last_ms > first_ms {
                notes.push((key.clone(), first_ms));
            }
            notes.push((key, last_ms));
        }
        Changed { tables: flush, profiles, notes }
    }

    /// Visits that the table has beyond the checkpoint: whatever of them the
    /// replay does not build again is removed by the next flush.
    pub fn found_in_table(&mut self, site_code: &str, visitor_code: &str, visit_id: u64, started_at_ms: u64) {
        let mut key = Vec::new();
        fanal_model::record_key(&mut key, site_code, visitor_code);
        self.touch(key).state.found_in_table(visit_id, started_at_ms);
    }

    /// An outcome row that the table has beyond the checkpoint.
    pub fn outcome_found_in_table(&mut self, row: OutcomeRow) {
        self.outcomes.found_in_table(row);
    }

    /// The earliest event time that this state may still change.
    #[must_use]
    pub fn horizon_ms(&self) -> u64 {
        self.watermark_ms.saturating_sub(self.config.allowed_lateness_ms)
    }

    /// Touches the states whose time has come.
    fn expire(&mut self, horizon_ms: u64) {
        let later = self.timers.split_off(&(horizon_ms + 1));
        for (due_ms, keys) in std::mem::replace(&mut self.timers, later) {
            for key in keys {
                if let Some(slot) = self.visitors.get_mut(&key).filter(|slot| slot.due_ms == Some(due_ms)) {
                    slot.due_ms = None;
                    self.touched.insert(key);
                }
            }
        }
    }

    /// The whole state, with its checksum.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StateError> {
        let stored = Stored {
            watermark_ms: self.watermark_ms,
            end_offset: self.end_offset,
            visitors: self.visitors.iter().map(|(key, slot)| (key.to_vec(), slot.state.clone())).collect(),
        };
        let mut bytes = postcard::to_extend(&stored, FORMAT.to_vec()).map_err(|_| StateError::Format)?;
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        Ok(bytes)
    }

    /// Reads a state back. Its next flush repeats what the tables may have of
    /// the events that it still holds.
    pub fn from_bytes(config: EngineConfig, bytes: &[u8]) -> Result<Self, StateError> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(StateError::Checksum)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(StateError::Checksum);
        }
        let body = body.strip_prefix(FORMAT.as_slice()).ok_or(StateError::Format)?;
        let stored: Stored = postcard::from_bytes(body).map_err(|_| StateError::Format)?;
        let mut engine = Self::new(config, stored.end_offset);
        engine.watermark_ms = stored.watermark_ms;
        for (key, mut state) in stored.visitors {
            let key: Arc<[u8]> = Arc::from(key);
            state.distrust_tables();
            engine.touched.insert(Arc::clone(&key));
            engine.visitors.insert(key, Slot { state, due_ms: None });
        }
        Ok(engine)
    }
}

fn timer_step(at_ms: u64) -> u64 {
    at_ms.div_ceil(TIMER_STEP_MS) * TIMER_STEP_MS
}

fn split_key(key: &[u8]) -> (String, String) {
    let at = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&key[..at]), text(key.get(at + 1..).unwrap_or_default()))
}
