//! The event log to append to: a batch becomes records, and one answer when Kafka
//! confirmed them all.
//!
//! Appends through one handle are one at a time, so whoever has much to append puts it
//! into large batches; the next one leaves when the last is decided. What must stay true:
//! an append that is given up half way leaves nothing behind that a later one stumbles
//! over.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use fanal_storage::log::{AppendError, Appended, Batch, EventLog, Family, Partition, Topic};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

use crate::client::LastError;
use crate::config::KafkaConfig;
use crate::direct::{Content, DirectProducer, Settings, Unconfirmed};
use crate::error::KafkaError;
use crate::hot::{Heat, HotKeys};
use crate::load::Load;
use crate::metrics;
use crate::murmur::partition_of;
use crate::record::{Outgoing, SEAL_KIND};
use crate::room::Room;
use crate::topics::Topics;

/// The event log on Kafka, to append to. Clones share one producer; `local` gives a handle
/// with one of its own, whose connections belong to the runtime that appends through it.
#[derive(Clone)]
pub struct KafkaLog {
    shared: Arc<Shared>,
    own: Arc<Own>,
}

/// What the handles of a process share.
struct Shared {
    config: KafkaConfig,
    topics: Topics,
    settings: Arc<Settings>,
    hot: Mutex<HotKeys>,
    /// Where the next batch's hot records go.
    overflow: AtomicU32,
    errors: LastError,
}

/// What one handle and its clones have.
struct Own {
    room: Room,
    sender: tokio::sync::Mutex<Sender>,
}

/// What one append at a time has in its hands.
struct Sender {
    producer: DirectProducer,
    /// Of each beacon of a batch; kept, so that it is not allocated anew.
    heats: Vec<Heat>,
}

impl Own {
    fn new(settings: &Arc<Settings>) -> Arc<Self> {
        let sender = Sender { producer: DirectProducer::new(settings), heats: Vec::new() };
        Arc::new(Self { room: Room::default(), sender: tokio::sync::Mutex::new(sender) })
    }
}

impl KafkaLog {
    pub(crate) fn open(config: &KafkaConfig, topics: &Topics) -> Result<Self, KafkaError> {
        let errors = LastError::default();
        let settings = Arc::new(Settings::new(config, topics, errors.clone())?);
        let hot = Mutex::new(HotKeys::new(config.hot_key_records_per_second, std::time::Instant::now()));
        let own = Own::new(&settings);
        let (config, topics, overflow) = (config.clone(), topics.clone(), AtomicU32::new(0));
        let shared = Arc::new(Shared { config, topics, settings, hot, overflow, errors });
        Ok(Self { shared, own })
    }

    /// Why Kafka took nothing lately; `None` when the last batch was confirmed. The same
    /// for all handles.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.shared.errors.get()
    }

    /// Records and bytes of this handle that wait for confirmation.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        self.own.room.taken()
    }

    /// Returns after Kafka has confirmed every record of the batch.
    pub async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.append_ref(&batch).await
    }

    async fn append_ref(&self, batch: &Batch) -> Result<Appended, AppendError> {
        let deadline = self.deadline();
        let load = Load::measure(batch, &self.shared.config)?;
        if load.records == 0 {
            return self.probe(deadline).await;
        }
        let _place = self.own.room.take(load.records, load.bytes, self.queue_bytes_max())?;
        let mut turn = self.turn(deadline).await?;
        let (first, notes) = self.shared.encode(&mut turn.sender, batch, &load.letters);
        let (records, bytes) = (load.records + notes, load.bytes);
        drop(load);
        self.send(turn, first, (records, bytes), deadline).await
    }

    pub(crate) async fn seal(&self, partition: Partition) -> Result<u64, AppendError> {
        let deadline = self.deadline();
        let _place = self.own.room.take(1, 0, self.queue_bytes_max())?;
        let mut turn = self.turn(deadline).await?;
        turn.sender.producer.begin(now_ms());
        let content = Content { key: None, value: None, kind: Some(SEAL_KIND) };
        let slot = turn.sender.producer.push(partition.family(), partition.index(), content);
        turn.sender.producer.close();
        Ok(self.send(turn, slot, (1, 0), deadline).await?.base_offset + 1)
    }

    async fn send(
        &self,
        mut turn: Turn<'_>,
        first: usize,
        (records, bytes): (usize, usize),
        deadline: Instant,
    ) -> Result<Appended, AppendError> {
        let sent = turn.sender.producer.send(deadline).await;
        let (partition, base_offset) = turn.sender.producer.appended(first);
        turn.decided = true;
        turn.sender.producer.clear();
        match sent {
            Ok(()) => {
                metrics::produced(records as u64);
                Ok(Appended { partition, base_offset })
            }
            Err(error) => {
                metrics::failed(records as u64);
                self.shared.errors.set(&error.detail);
                Err(match error {
                    Unconfirmed { perhaps: true, detail, .. } => AppendError::InDoubt(detail),
                    Unconfirmed { too_large: true, .. } => {
                        AppendError::TooLarge { bytes, max: self.record_bytes_max() }
                    }
                    Unconfirmed { detail, .. } => AppendError::Unavailable(detail),
                })
            }
        }
    }

    /// Waits until the appends before this one are decided.
    async fn turn(&self, deadline: Instant) -> Result<Turn<'_>, AppendError> {
        match timeout_at(deadline, self.own.sender.lock()).await {
            Ok(sender) => Ok(Turn { sender, decided: false }),
            Err(_) => {
                let why = self.shared.errors.get();
                let why = why.unwrap_or_else(|| "earlier appends took all of the time".to_owned());
                Err(AppendError::Unavailable(why))
            }
        }
    }

    /// Whether appends have a chance.
    async fn probe(&self, deadline: Instant) -> Result<Appended, AppendError> {
        let mut turn = self.turn(deadline).await?;
        let looked = turn.sender.producer.probe(deadline).await;
        turn.decided = true;
        match looked {
            Ok(()) => {
                self.shared.errors.clear();
                Ok(Appended { partition: Partition::EMBEDDED, base_offset: 0 })
            }
            Err(detail) => {
                self.shared.errors.set(&detail);
                Err(AppendError::Unavailable(detail))
            }
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.config.confirm_timeout.0
    }

    fn record_bytes_max(&self) -> usize {
        usize::try_from(self.shared.config.record_bytes_max.0).unwrap_or(usize::MAX)
    }

    fn queue_bytes_max(&self) -> usize {
        usize::try_from(self.shared.config.queue_bytes_max.0).unwrap_or(usize::MAX)
    }
}

impl EventLog for KafkaLog {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.append_ref(&batch).await
    }

    async fn append_kept(&self, batch: &Batch) -> Result<Appended, AppendError> {
        self.append_ref(batch).await
    }

    fn local(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), own: Own::new(&self.shared.settings) }
    }
}

/// The producer in the hands of one append. Given up half way, the producer forgets it.
struct Turn<'o> {
    sender: MutexGuard<'o, Sender>,
    decided: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.decided {
            self.sender.producer.abandon();
        }
    }
}

impl Shared {
    /// Writes all records into the producer's buffers; returns the slot of the first one,
    /// and how many notes were added.
    fn encode(&self, sender: &mut Sender, batch: &Batch, letters: &[Outgoing<'_>]) -> (usize, usize) {
        let Sender { producer, heats } = sender;
        producer.begin(now_ms());
        let notes = self.judge(batch, heats);
        let overflow =
            self.overflow.fetch_add(1, Ordering::Relaxed) % self.topics.count(Family::Overflow).max(1);
        let mut first = None;
        let mut heat = heats.iter();
        for (topic, key, value) in batch.records() {
            let content = Content { key: Some(key), value: Some(value), kind: None };
            let (family, index) = match topic {
                Topic::Beacons if heat.next().is_some_and(|heat| *heat != Heat::Cool) => {
                    (Family::Overflow, overflow)
                }
                Topic::Beacons => (Family::Beacons, self.index(Family::Beacons, key)),
                Topic::Dead => (Family::Dead, self.index(Family::Dead, key)),
                // `Load::measure` lets no others pass but probes.
                _ => continue,
            };
            let slot = producer.push(family, index, content);
            first.get_or_insert(slot);
        }
        for record in letters.iter().chain(&notes) {
            let content = Content { key: Some(&record.key), value: Some(&record.value), kind: record.kind };
            let slot = producer.push(record.family, self.index(record.family, &record.key), content);
            first.get_or_insert(slot);
        }
        producer.close();
        (first.unwrap_or(0), notes.len())
    }

    fn index(&self, family: Family, key: &[u8]) -> u32 {
        partition_of(key, self.topics.count(family))
    }

    /// Finds the records of keys that send too much, which leave their partition, and the
    /// notes that it is told of them. `heats` gets one for each beacon, or none at all.
    fn judge<'b>(&self, batch: &'b Batch, heats: &mut Vec<Heat>) -> Vec<Outgoing<'b>> {
        heats.clear();
        let mut notes = Vec::new();
        if self.config.hot_key_records_per_second == 0 {
            return notes;
        }
        let now = std::time::Instant::now();
        let mut keys = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, key, value) in batch.records().filter(|(topic, ..)| *topic == Topic::Beacons) {
            let heat = keys.judge(key, now);
            if heat == Heat::HotAndMarked {
                notes.push(Outgoing::overflow_note(key, value));
            }
            heats.push(heat);
        }
        metrics::hot_keys(keys.len());
        drop(keys);
        let spread = heats.iter().filter(|heat| **heat != Heat::Cool).count();
        if spread > 0 {
            metrics::overflow(spread as u64);
        }
        notes
    }
}

/// The time that records get until the broker stamps them.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
