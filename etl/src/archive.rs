//! Event log → raw archive, one partition.
//!
//! Goes on where the names of the archive's files end, so that a crash at any
//! moment writes no record twice and leaves none out. An error of the archive
//! stops the line and is tried again; it never skips a record.

use std::time::{Duration, Instant};

use fanal_storage::archive::{ArchiveError, ArchiveWriter};
use fanal_storage::log::ReadError;
use thiserror::Error;

use crate::log::{EventLogs, LogError, Source};
use crate::metrics;
use crate::progress::Stage;
use crate::role::Backoff;
use crate::workers::Assignment;

const READ_BYTES: usize = 1 << 20;
/// How often an unfinished file's age is looked at.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

pub(crate) async fn run(work: Assignment) {
    let mut backoff = Backoff::new();
    while !work.stop.is_stopped() {
        match follow(&work, &mut backoff).await {
            Ok(()) => break,
            Err(failure) => {
                work.not_ready(failure.to_string());
                if backoff.wait(&work.stop).await {
                    break;
                }
            }
        }
    }
}

async fn follow(work: &Assignment, backoff: &mut Backoff) -> Result<(), Failure> {
    let mut archiving = Archiving::start(work).await?;
    work.ok();
    let mut seals_wanted = work.etl.progress.seals_wanted();
    loop {
        tokio::select! {
            chunk = archiving.source.next(READ_BYTES) => {
                let files = archiving.writer.write(&chunk?).await?;
                if !files.is_empty() {
                    archiving.note().await?;
                    metrics::archived(&files);
                    archiving.unfinished_since = None;
                    *backoff = Backoff::new();
                }
            }
            _ = seals_wanted.changed() => {}
            () = tokio::time::sleep(TICK) => {}
            () = work.stop.stopped() => return Ok(()),
        }
        work.log_trouble(archiving.source.last_error());
        let wanted = seals_wanted.borrow_and_update().get(&work.partition).copied().unwrap_or(0);
        archiving.seal_if_due(wanted).await?;
    }
}

struct Archiving<'w> {
    work: &'w Assignment,
    writer: ArchiveWriter,
    source: Source,
    unfinished_since: Option<Instant>,
    /// The offset after the last seal: it is read before another one is written.
    sealed_to: u64,
}

impl<'w> Archiving<'w> {
    async fn start(work: &'w Assignment) -> Result<Self, Failure> {
        let (etl, partition) = (&work.etl, work.partition);
        let log_start = etl.log.start_offset(partition).await?;
        let (archive, rotation, kind) = (etl.archive.clone(), etl.config.rotation, etl.log.kind());
        let writer = ArchiveWriter::resume(archive, rotation, kind, partition, log_start).await?;
        let source = etl.log.reader(partition, writer.next_offset()).await?;
        let archiving = Self { work, writer, source, unfinished_since: None, sealed_to: 0 };
        archiving.note().await?;
        Ok(archiving)
    }

    /// Tells how far the files go.
    async fn note(&self) -> Result<(), LogError> {
        let (partition, durable) = (self.work.partition, self.writer.durable_offset());
        self.work.commits.commit(partition, durable).await?;
        self.work.etl.progress.note(Stage::Archive, partition, durable);
        if let EventLogs::Embedded(log) = &self.work.etl.log {
            metrics::lag_records(Stage::Archive.name(), log.end_offset().saturating_sub(durable));
        }
        Ok(())
    }

    /// Ends the file if somebody waits for it, or if it is old.
    async fn seal_if_due(&mut self, wanted: u64) -> Result<(), LogError> {
        let durable = self.writer.durable_offset();
        if durable == self.writer.next_offset() {
            self.unfinished_since = None;
            return Ok(());
        }
        let since = *self.unfinished_since.get_or_insert_with(Instant::now);
        // Not before everything that is wanted was read: one seal is enough.
        let is_read = self.source.position() >= wanted.max(self.sealed_to);
        if (wanted > durable && is_read) || since.elapsed() >= self.work.etl.config.seal_after {
            self.sealed_to = self.work.etl.log.seal(self.work.partition).await?;
            self.unfinished_since = None;
        }
        Ok(())
    }
}
