//! Event log → `events` and `visits`, as records arrive.
//!
//! The engine is pure; this part reads, writes and stores its state. What must
//! stay true: a flush is written in whole before the state that contains it is
//! stored, so that a crash repeats work and never skips it.

mod checkpoint;

use std::time::Duration;

use fanal_service::stop::Stop;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseError, Flush};
use fanal_storage::log::{Chunk, PositionError, ReadError, Reader, Topic};
use thiserror::Error;
use tokio::time::Instant;

use crate::config::millis;
use crate::metrics;
use crate::role::{Backoff, Etl};
use crate::stream::{Engine, EngineConfig, Warning};
use checkpoint::{CheckpointError, Checkpoints};

const READ_BYTES: usize = 1 << 20;
const PART: &str = "visits";
/// A record that becomes readable now was stamped at most this long ago.
const CLOCK_SLACK: Duration = Duration::from_secs(5);
/// A checkpoint may take one part in this many of the time.
const CHECKPOINT_SHARE: u32 = 10;

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

pub(crate) async fn run(etl: Etl, stop: Stop) {
    let mut backoff = Backoff::new();
    while !stop.is_stopped() {
        match Streaming::start(&etl).await {
            Ok(mut streaming) => match streaming.follow(&stop, &mut backoff).await {
                Ok(()) => return,
                Err(failure) => etl.health.not_ready(PART, failure.to_string()),
            },
            Err(failure) => etl.health.not_ready(PART, failure.to_string()),
        }
        if backoff.wait(&stop).await {
            return;
        }
    }
}

struct Streaming<'e> {
    etl: &'e Etl,
    clickhouse: ClickHouse,
    checkpoints: Checkpoints,
    engine: Engine,
    reader: Reader,
    /// The tables hold rows up to here that the state does not know: nothing is
    /// written before the replay has come so far.
    write_from: u64,
    stored_at: Instant,
    store_took: Duration,
}

impl<'e> Streaming<'e> {
    async fn start(etl: &'e Etl) -> Result<Self, Failure> {
        let clickhouse = etl.clickhouse();
        let partition = etl.config.partition;
        let config = EngineConfig { partition, allowed_lateness_ms: millis(etl.config.allowed_lateness) };
        let checkpoints = Checkpoints::new(etl.checkpoints.clone(), partition);
        let log_start = etl.log.start_offset();
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
                let write_from = checkpoint::tell(&clickhouse, &mut engine).await?;
                (engine, write_from)
            }
        };
        let reader = etl.log.reader(engine.end_offset())?;
        etl.log.positions().commit(PART, engine.end_offset())?;
        let (stored_at, store_took) = (Instant::now(), Duration::ZERO);
        Ok(Self { etl, clickhouse, checkpoints, engine, reader, write_from, stored_at, store_took })
    }

    async fn follow(&mut self, stop: &Stop, backoff: &mut Backoff) -> Result<(), Failure> {
        loop {
            let is_caught_up = self.gather(stop).await?;
            if self.engine.end_offset() < self.write_from && !is_caught_up {
                if stop.is_stopped() {
                    // Nothing was written and nothing stored: the next start replays it.
                    return Ok(());
                }
                continue;
            }
            // Without new records time still passes and ends visits.
            let now_ms = is_caught_up.then(|| (self.etl.clock)().saturating_sub(millis(CLOCK_SLACK)));
            let etl = self.etl;
            let flush = self.engine.flush(now_ms, &|site: &str| etl.policy(site));
            self.write(&flush).await?;
            self.etl.health.ok(PART);
            *backoff = Backoff::new();
            let is_stopping = stop.is_stopped();
            if is_stopping || self.is_checkpoint_due() {
                self.store().await?;
            }
            if is_stopping {
                return Ok(());
            }
        }
    }

    /// Reads for at most the flush interval; true if the log was read to its end.
    async fn gather(&mut self, stop: &Stop) -> Result<bool, Failure> {
        let deadline = Instant::now() + self.etl.config.flush_interval;
        let mut records = 0;
        while records < self.etl.config.flush_records_max {
            tokio::select! {
                chunk = self.reader.next(READ_BYTES) => records += self.take(&chunk?),
                () = tokio::time::sleep_until(deadline) => {
                    return Ok(self.reader.position() >= self.etl.log.end_offset());
                }
                () = stop.stopped() => return Ok(false),
            }
        }
        Ok(false)
    }

    fn take(&mut self, chunk: &Chunk) -> usize {
        let mut records = 0;
        for record in chunk.records() {
            records += 1;
            if record.topic != Topic::Beacons {
                self.engine.read_to(record.offset + 1, record.append_time_ms);
                continue;
            }
            let warning = self.engine.take(record.offset, record.append_time_ms, record.value);
            if let Some(Warning::Unreadable { offset }) = warning {
                metrics::unreadable_record();
                tracing::error!(offset, "a record is not a beacon; it is kept in the archive and counted");
            }
        }
        records
    }

    async fn write(&mut self, flush: &Flush) -> Result<(), Failure> {
        if !flush.is_empty() {
            let began = Instant::now();
            self.clickhouse.write(flush).await?;
            metrics::flushed(flush, began.elapsed());
        }
        let end = self.engine.end_offset();
        let visited = &self.etl.progress.visited;
        if *visited.borrow() != end {
            visited.send_replace(end);
        }
        if flush.outcomes.iter().any(|row| row.is_deleted == 0 && row.outcome != "duplicate") {
            self.etl.progress.marked.notify_one();
        }
        metrics::visitors(self.engine.visitor_count());
        metrics::lag_records(PART, self.etl.log.end_offset().saturating_sub(end));
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        let pause = self.etl.config.checkpoint_interval.max(self.store_took * CHECKPOINT_SHARE);
        self.stored_at.elapsed() >= pause
            && self.checkpoints.stored_offset() != Some(self.engine.end_offset())
    }

    async fn store(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        self.checkpoints.store(&self.engine).await?;
        self.etl.log.positions().commit(PART, self.engine.end_offset())?;
        self.stored_at = Instant::now();
        self.store_took = began.elapsed();
        Ok(())
    }
}
