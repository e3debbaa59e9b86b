//! Event log → `events` and `visits`, as records arrive.
//!
//! The engine is pure; this part reads, writes and stores its state. What must
//! stay true: a flush is written in whole before the state that contains it is
//! stored, so that a crash repeats work and never skips it.

mod checkpoint;
mod feed;

use std::time::Duration;

use fanal_profiles::ProfileError;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseError, Flush};
use fanal_storage::log::{Chunk, ReadError};
use thiserror::Error;
use tokio::time::Instant;

use crate::config::millis;
use crate::log::{EventLogs, LogError, Source};
use crate::metrics;
use crate::progress::Stage;
use crate::role::{Backoff, sleep_or_stop};
use crate::stream::{Changed, Engine, EngineConfig};
use crate::workers::Assignment;
use checkpoint::{CheckpointError, Checkpoints};

const READ_BYTES: usize = 1 << 20;
/// A record that becomes readable now was stamped at most this long ago.
const CLOCK_SLACK: Duration = Duration::from_secs(5);
/// A checkpoint may take one part in this many of the time.
const CHECKPOINT_SHARE: u32 = 10;
/// Who has not noted progress for this long may have slept while the partition
/// went elsewhere: it asks before it writes. Below the session timeout of the group.
const FENCE_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Profiles(#[from] ProfileError),
}

pub(crate) async fn run(work: Assignment) {
    let mut backoff = Backoff::new();
    while !work.stop.is_stopped() {
        match Streaming::start(&work).await {
            Ok(mut streaming) => match streaming.follow(&mut backoff).await {
                Ok(()) => return,
                Err(failure) => work.not_ready(failure.to_string()),
            },
            Err(failure) => work.not_ready(failure.to_string()),
        }
        if backoff.wait(&work.stop).await {
            return;
        }
    }
}

struct Streaming<'w> {
    work: &'w Assignment,
    clickhouse: ClickHouse,
    checkpoints: Checkpoints,
    engine: Engine,
    source: Source,
    /// The tables hold rows up to here that the state does not know: nothing is
    /// written before the replay has come so far.
    write_from: u64,
    /// The progress that the log last took a note of, and when.
    noted: u64,
    noted_at: Instant,
    stored_at: Instant,
    store_took: Duration,
}

impl<'w> Streaming<'w> {
    async fn start(work: &'w Assignment) -> Result<Self, Failure> {
        let (etl, partition) = (&work.etl, work.partition);
        let clickhouse = etl.clickhouse();
        let config = EngineConfig {
            partition,
            key_partitions: etl.log.key_partitions(),
            allowed_lateness_ms: millis(etl.config.allowed_lateness),
        };
        let checkpoints = Checkpoints::new(etl.checkpoints.clone(), partition);
        let log_start = etl.log.start_offset(partition).await?;
        // A process alone on its log has its ClickHouse beside it, which ends with it.
        let has_predecessor = matches!(etl.log, EventLogs::Kafka(_))
            && etl.all_reached(Stage::Visits).await?.contains_key(&partition);
        let stored = checkpoints.load(config).await?.filter(|engine| engine.end_offset() >= log_start);
        let (engine, write_from) = match stored {
            None if log_start > 0 => {
                // What the tables hold of earlier records cannot be built from this
                // log, so nothing of it is taken away: the marked days are rebuilt.
                tracing::warn!(
                    log_start,
                    "no checkpoint reaches the log; its first visits are rebuilt from the archive"
                );
                (Engine::without_beginning(config, log_start), 0)
            }
            stored => {
                let mut engine = stored.unwrap_or_else(|| Engine::new(config, log_start));
                engine.believe_to((etl.clock)().saturating_add(millis(feed::STAMP_AHEAD_MAX)));
                let write_from = checkpoint::tell(&clickhouse, &mut engine).await?;
                (engine, write_from)
            }
        };
        let mut engine = engine;
        if has_predecessor && checkpoints.take_stopped().await? != Some(engine.end_offset()) {
            tracing::warn!(%partition, "the last worker was cut off; its days are looked at again later");
            engine.suspect(etl.log.end_offset(partition).await?);
        }
        let source = etl.log.reader(partition, engine.end_offset()).await?;
        let noted = engine.end_offset();
        work.commits.commit(partition, noted).await?;
        let (noted_at, stored_at, store_took) = (Instant::now(), Instant::now(), Duration::ZERO);
        Ok(Self {
            work,
            clickhouse,
            checkpoints,
            engine,
            source,
            write_from,
            noted,
            noted_at,
            stored_at,
            store_took,
        })
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), Failure> {
        let (etl, stop) = (&self.work.etl, &self.work.stop);
        loop {
            let is_caught_up = self.gather().await?;
            self.work.log_trouble(self.source.last_error());
            if self.engine.end_offset() < self.write_from && !is_caught_up {
                if stop.is_stopped() {
                    // Nothing was written and nothing stored: the next start replays it.
                    return Ok(());
                }
                continue;
            }
            // Without new records time still passes and ends visits.
            let now_ms = is_caught_up.then(|| (etl.clock)().saturating_sub(millis(CLOCK_SLACK)));
            let changed = self.engine.flush(now_ms, &|site: &str| etl.policy(site));
            self.write(&changed).await?;
            self.work.ok();
            *backoff = Backoff::new();
            self.rest().await;
            let is_stopping = stop.is_stopped();
            if is_stopping || self.is_checkpoint_due() {
                self.store().await?;
            }
            if is_stopping {
                if !self.engine.is_suspicious() {
                    self.checkpoints.note_stopped().await?;
                }
                return Ok(());
            }
        }
    }

    /// Reads for at most the flush interval; true if the log was read to its end.
    async fn gather(&mut self) -> Result<bool, Failure> {
        let config = &self.work.etl.config;
        let deadline = Instant::now() + config.flush_interval;
        let mut records = 0;
        while records < config.flush_records_max {
            tokio::select! {
                chunk = self.source.next(READ_BYTES) => records += self.take(&chunk?),
                () = tokio::time::sleep_until(deadline) => return Ok(self.source.is_at_end().await),
                () = self.work.stop.stopped() => return Ok(false),
            }
        }
        Ok(false)
    }

    fn take(&mut self, chunk: &Chunk) -> usize {
        feed::feed(&mut self.engine, chunk, (self.work.etl.clock)())
    }

    async fn write(&mut self, changed: &Changed) -> Result<(), Failure> {
        if !changed.is_empty() {
            if self.noted_at.elapsed() > FENCE_AFTER {
                self.note(self.noted).await?;
            }
            // Before the rows: what asks for a rebuild waits for the homes to know.
            self.work.etl.log.note_elsewhere(&changed.notes).await?;
            let began = Instant::now();
            self.insist(changed).await?;
            metrics::flushed(&changed.tables, began.elapsed());
        }
        let (etl, partition) = (&self.work.etl, self.work.partition);
        let end = self.engine.end_offset();
        if etl.progress.reached(Stage::Visits, partition) != end {
            if let EventLogs::Kafka(_) = etl.log {
                self.note(end).await?;
            }
            self.work.etl.progress.note(Stage::Visits, partition, end);
        }
        let etl = &self.work.etl;
        if has_marks(&changed.tables) {
            etl.progress.marked.notify_one();
        }
        metrics::visitors(self.engine.visitor_count());
        if let EventLogs::Embedded(log) = &etl.log {
            metrics::lag_records(Stage::Visits.name(), log.end_offset().saturating_sub(end));
        }
        Ok(())
    }

    /// Lets merges catch up where ClickHouse has many parts; then flushes get larger.
    async fn rest(&self) {
        let pause = self.clickhouse.pause_for_parts().await;
        if !pause.is_zero() {
            sleep_or_stop(pause, &self.work.stop).await;
        }
    }

    /// Writes the same rows again until they are there: equal inserts are dropped by
    /// the server, so that a lost answer costs nothing. Ends with the stop.
    async fn insist(&mut self, changed: &Changed) -> Result<(), Failure> {
        let mut backoff = Backoff::new();
        loop {
            let failure = match self.put(changed).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            self.work.not_ready(failure.to_string());
            if backoff.wait(&self.work.stop).await {
                return Err(failure);
            }
            // Who was away for long may have lost the partition meanwhile.
            self.note(self.noted).await?;
        }
    }

    async fn put(&self, changed: &Changed) -> Result<(), Failure> {
        self.clickhouse.write(&changed.tables).await?;
        Ok(self.work.etl.profiles.write(&changed.profiles).await?)
    }

    /// Tells Kafka how far the tables go; refused if the partition is not ours any more.
    async fn note(&mut self, offset: u64) -> Result<(), LogError> {
        if let EventLogs::Kafka(_) = self.work.etl.log {
            self.work.commits.commit(self.work.partition, offset).await?;
        }
        (self.noted, self.noted_at) = (offset, Instant::now());
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        let pause = self.work.etl.config.checkpoint_interval.max(self.store_took * CHECKPOINT_SHARE);
        self.stored_at.elapsed() >= pause
            && self.checkpoints.stored_offset() != Some(self.engine.end_offset())
    }

    async fn store(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        // The state must not know of what a crash would take away again.
        self.work.etl.profiles.flush_to_disk().await?;
        self.checkpoints.store(&self.engine).await?;
        if let EventLogs::Embedded(_) = self.work.etl.log {
            // Retention may take what is before.
            self.work.commits.commit(self.work.partition, self.engine.end_offset()).await?;
        }
        self.stored_at = Instant::now();
        self.store_took = began.elapsed();
        Ok(())
    }
}

/// Whether rows ask for a rebuild of their day.
fn has_marks(flush: &Flush) -> bool {
    flush.outcomes.iter().any(|row| row.is_deleted == 0 && row.outcome != "duplicate")
}
