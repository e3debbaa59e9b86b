//! A producer: the records of one batch into the partitions' buffers, then to all leaders
//! at once, and again until every partition is decided or the time is over.
//!
//! It runs on the caller's runtime and allocates nothing per record. Each partition has
//! one request under way at most, and tries repeat the same bytes, so that brokers store
//! them once. What must stay true: after a batch that is not wholly confirmed the producer
//! takes another id, for a broker that stored what it did not confirm would take the
//! next records of the same sequence for copies, and drop them.

use std::sync::Arc;
use std::time::Duration;

use fanal_storage::log::{Family, Partition};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::compress::Compressor;
use super::record_batch::{Buffer, Content, Identity};
use super::settings::Settings;
use super::trouble::{Code, Meaning, Stored, Trouble};
use crate::metrics;

/// Pauses between tries.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// No try begins with less time: its answer would come too late, and what brokers refuse
/// would count as perhaps stored.
const TRY_MIN: Duration = Duration::from_millis(50);
/// So often a partition that does not exist is tried.
const BRIEF_TRIES: u8 = 8;
/// Memory of all buffers that is kept from batch to batch.
const KEPT_BYTES_MAX: usize = 32 << 20;

#[derive(Debug)]
pub(crate) struct DirectProducer {
    pub(super) settings: Arc<Settings>,
    pub(super) cluster: Cluster,
    pub(super) slots: Vec<Slot>,
    /// Slots that have records of this batch, in their order.
    pub(super) active: Vec<usize>,
    compressor: Compressor,
    identity: Option<Identity>,
    /// Whether there was an identity before.
    identified: bool,
    now_ms: i64,
    kept_bytes: usize,
}

/// A partition and its part of the batch.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) buffer: Buffer,
    /// Of the next record, as the broker counts.
    sequence: i32,
    /// What `sequence` will be when this batch is confirmed.
    next_sequence: i32,
    /// The first of the buffer's record batches that is not confirmed.
    pub(super) at: usize,
    /// Offset of the first record; negative if the broker no longer knows it.
    base_offset: i64,
    /// Something of it may be stored without being confirmed.
    pub(super) perhaps: bool,
    brief_tries: u8,
    /// Memory of the buffer when it was empty last.
    kept_bytes: usize,
    never: Option<Code>,
}

/// Why a batch is not confirmed.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// Some of it is stored, or may be.
    pub(crate) perhaps: bool,
    /// Nothing but its size is in the way.
    pub(crate) too_large: bool,
    pub(crate) detail: String,
}

impl DirectProducer {
    pub(crate) fn new(settings: &Arc<Settings>) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(settings.slots()).collect();
        Self {
            cluster: Cluster::new(Arc::clone(settings)),
            slots,
            active: Vec::new(),
            compressor: Compressor::new(settings.compression),
            identity: None,
            identified: false,
            now_ms: 0,
            kept_bytes: 0,
            settings: Arc::clone(settings),
        }
    }

    /// Begins a batch whose records are of this time.
    pub(crate) fn begin(&mut self, now_ms: i64) {
        self.clear();
        self.now_ms = now_ms;
    }

    /// Adds a record and returns the slot of its partition.
    pub(crate) fn push(&mut self, family: Family, index: u32, content: Content<'_>) -> usize {
        let at = self.settings.slot(family, index);
        let slot = &mut self.slots[at];
        if slot.buffer.is_empty() {
            self.active.push(at);
        }
        slot.buffer.push(content, self.settings.chunk_bytes_max, self.now_ms, &mut self.compressor);
        at
    }

    /// Ends the batch: nothing more is needed of where its records came from.
    pub(crate) fn close(&mut self) {
        // Partitions of a topic stand together in a request.
        self.active.sort_unstable();
        for at in &self.active {
            self.slots[*at].buffer.close(self.now_ms, &mut self.compressor);
        }
    }

    /// Sends what was pushed and waits until Kafka has confirmed it.
    pub(crate) async fn send(&mut self, deadline: Instant) -> Result<(), Unconfirmed> {
        let mut detail = String::new();
        let mut pause = PAUSE_MIN;
        let mut stamped = false;
        let last_try = deadline - TRY_MIN.min(deadline.saturating_duration_since(Instant::now()));
        while !self.is_decided() && (!stamped || Instant::now() < last_try) && Instant::now() < deadline {
            let until = deadline.min(Instant::now() + self.settings.request_timeout);
            let (round, is_early) = match self.ready(until).await {
                Ok(identity) => {
                    if !std::mem::replace(&mut stamped, true) {
                        self.stamp(identity);
                    }
                    (self.round(until).await, false)
                }
                Err(trouble) => {
                    if matches!(trouble, Trouble::Refused { .. }) {
                        // A wrong password is not tried in quick succession.
                        pause = PAUSE_MAX;
                    }
                    (Some(trouble.to_string()), trouble.is_early())
                }
            };
            if let Some(trouble) = round {
                // Nothing new is said while brokers are left alone after an error, nor by the
                // try that the deadline cuts off.
                if detail.is_empty() || (!trouble.is_empty() && Instant::now() < last_try) {
                    let errors = &self.settings.errors;
                    if is_early {
                        errors.set_early(&trouble)
                    } else {
                        errors.set(&trouble)
                    }
                    detail = trouble;
                }
                self.cluster.distrust();
                if !self.is_decided() {
                    tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        self.verdict(detail)
    }

    /// Confirmed whole, or beyond help.
    fn is_decided(&self) -> bool {
        let slots = || self.active.iter().map(|at| &self.slots[*at]);
        slots().any(|slot| slot.never.is_some()) || slots().all(|slot| !slot.is_open())
    }

    fn verdict(&mut self, detail: String) -> Result<(), Unconfirmed> {
        let slots = || self.active.iter().map(|at| &self.slots[*at]);
        if slots().all(|slot| !slot.is_open() && slot.never.is_none()) {
            for at in &self.active {
                let slot = &mut self.slots[*at];
                slot.sequence = slot.next_sequence;
            }
            self.settings.errors.clear();
            return Ok(());
        }
        self.identity = None;
        let perhaps = slots().any(|slot| slot.perhaps || slot.at > 0);
        let too_large = slots().filter_map(|slot| slot.never).any(Code::is_too_large);
        let detail = if detail.is_empty() { "no time was left to send it".to_owned() } else { detail };
        Err(Unconfirmed { perhaps, too_large, detail })
    }

    /// Leaders and an identity.
    async fn ready(&mut self, until: Instant) -> Result<Identity, Trouble> {
        self.cluster.refresh(until).await?;
        if let Some(identity) = self.identity {
            return Ok(identity);
        }
        let identity = self.cluster.identify(until).await?;
        self.identity = Some(identity);
        self.slots.iter_mut().for_each(|slot| slot.sequence = 0);
        if std::mem::replace(&mut self.identified, true) {
            tracing::info!("kafka producer has a new id");
            metrics::renewed();
        }
        Ok(identity)
    }

    fn stamp(&mut self, identity: Identity) {
        for at in &self.active {
            let slot = &mut self.slots[*at];
            slot.next_sequence = slot.buffer.stamp(identity, slot.sequence);
        }
    }

    /// Takes note of what a broker says of a partition's request; returns what is wrong.
    pub(super) fn decide(
        &mut self,
        at: usize,
        code: Code,
        base_offset: i64,
        why: Option<&str>,
    ) -> Option<String> {
        let slot = &mut self.slots[at];
        match code.meaning() {
            Meaning::Confirmed => {
                if slot.at == 0 {
                    slot.base_offset = base_offset;
                }
                slot.at += 1;
                return None;
            }
            Meaning::Again(stored) => slot.perhaps |= stored == Stored::Perhaps,
            Meaning::AgainBriefly => {
                slot.brief_tries += 1;
                if slot.brief_tries >= BRIEF_TRIES {
                    slot.never = Some(code);
                }
            }
            Meaning::Never(stored) => {
                slot.perhaps |= stored == Stored::Perhaps;
                slot.never = Some(code);
            }
        }
        let partition = self.settings.partition(at);
        Some(match why {
            Some(why) => {
                format!("partition {partition}: {code}: {}", why.chars().take(300).collect::<String>())
            }
            None => format!("partition {partition}: {code}"),
        })
    }

    /// Where the first record of a slot is, once the batch is confirmed.
    pub(crate) fn appended(&self, slot: usize) -> (Partition, u64) {
        (self.settings.partition(slot), u64::try_from(self.slots[slot].base_offset).unwrap_or(0))
    }

    /// Whether appends have a chance: every partition of beacons has a leader.
    pub(crate) async fn probe(&mut self, deadline: Instant) -> Result<(), String> {
        self.cluster.distrust();
        let until = deadline.min(Instant::now() + self.settings.request_timeout);
        self.cluster.refresh(until).await.map_err(|trouble| trouble.to_string())?;
        let beacons = 0..self.settings.topics.count(Family::Beacons);
        let mut leaders =
            beacons.map(|index| self.cluster.leader(self.settings.slot(Family::Beacons, index)));
        if leaders.any(|leader| leader < 0) {
            return Err(Trouble::NoLeader.to_string());
        }
        Ok(())
    }

    /// Forgets a batch whose sender has gone before it was decided: its bytes may be on
    /// their way, so nobody may go on from its sequences.
    pub(crate) fn abandon(&mut self) {
        self.identity = None;
        self.clear();
    }

    /// Forgets the batch and gives back memory beyond what is kept.
    pub(crate) fn clear(&mut self) {
        for at in self.active.drain(..) {
            let slot = &mut self.slots[at];
            self.kept_bytes = self.kept_bytes.saturating_sub(slot.kept_bytes);
            slot.clear();
            slot.kept_bytes = slot.buffer.capacity();
            self.kept_bytes += slot.kept_bytes;
        }
        if self.kept_bytes > KEPT_BYTES_MAX {
            self.slots.iter_mut().for_each(Slot::give_back);
            self.kept_bytes = 0;
        }
    }
}

impl Slot {
    /// Something of it waits for confirmation.
    pub(super) fn is_open(&self) -> bool {
        self.at < self.buffer.chunks().len()
    }

    fn clear(&mut self) {
        self.buffer.clear();
        (self.at, self.perhaps, self.brief_tries, self.never) = (0, false, 0, None);
    }

    fn give_back(&mut self) {
        self.buffer = Buffer::default();
        self.kept_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
