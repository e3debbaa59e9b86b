//! Event log → raw archive.
//!
//! Goes on where the names of the archive's files end, so that a crash at any
//! moment writes no record twice and leaves none out. An error of the archive
//! stops the line and is tried again; it never skips a record.

use std::time::{Duration, Instant};

use fanal_service::stop::Stop;
use fanal_storage::archive::{ArchiveError, ArchiveWriter};
use fanal_storage::log::{AppendError, PositionError, ReadError};
use thiserror::Error;

use crate::metrics;
use crate::role::{Backoff, Etl};

const READ_BYTES: usize = 1 << 20;
const PART: &str = "archive";
/// How often an unfinished file's age is looked at.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error("cannot end an archive file: {0}")]
    Seal(#[from] AppendError),
}

pub(crate) async fn run(etl: Etl, stop: Stop) {
    let mut backoff = Backoff::new();
    while !stop.is_stopped() {
        match follow(&etl, &stop, &mut backoff).await {
            Ok(()) => break,
            Err(failure) => {
                etl.health.not_ready(PART, failure.to_string());
                if backoff.wait(&stop).await {
                    break;
                }
            }
        }
    }
}

async fn follow(etl: &Etl, stop: &Stop, backoff: &mut Backoff) -> Result<(), Failure> {
    let (partition, rotation) = (etl.config.partition, etl.config.rotation);
    let mut writer =
        ArchiveWriter::resume(etl.archive.clone(), rotation, partition, etl.log.start_offset()).await?;
    let mut reader = etl.log.reader(writer.next_offset())?;
    let durable = writer.durable_offset();
    etl.log.positions().commit(PART, durable)?;
    etl.progress.archived.send_replace(durable);
    etl.health.ok(PART);
    let mut seal_wanted = etl.progress.seal_wanted.subscribe();
    let mut unfinished_since = None;
    // The offset after the last seal: it is read before another one is written.
    let mut sealed_to = 0;
    loop {
        tokio::select! {
            chunk = reader.next(READ_BYTES) => {
                let files = writer.write(&chunk?).await?;
                if !files.is_empty() {
                    let durable = writer.durable_offset();
                    etl.log.positions().commit(PART, durable)?;
                    etl.progress.archived.send_replace(durable);
                    metrics::archived(&files, etl.log.lag(PART));
                    unfinished_since = None;
                    *backoff = Backoff::new();
                }
            }
            _ = seal_wanted.changed() => {}
            () = tokio::time::sleep(TICK) => {}
            () = stop.stopped() => return Ok(()),
        }
        let durable = writer.durable_offset();
        if durable == writer.next_offset() {
            unfinished_since = None;
        } else {
            let since = *unfinished_since.get_or_insert_with(Instant::now);
            let wanted = *seal_wanted.borrow_and_update();
            // Not before everything that is wanted was read: one seal is enough.
            let is_read = reader.position() >= wanted.max(sealed_to);
            if (wanted > durable && is_read) || since.elapsed() >= etl.config.seal_after {
                sealed_to = etl.log.appender().seal().await?.base_offset + 1;
                unfinished_since = None;
            }
        }
    }
}
