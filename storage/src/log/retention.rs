//! Deleting what everybody has read and nobody needs to read again.

use std::fs;
use std::io;
use std::sync::PoisonError;

use super::file::sync_dir;
use super::writer::Shared;
use super::{Positions, segments_dir};

/// What a call of `retain` deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    pub deleted_segments: u64,
    pub deleted_bytes: u64,
    /// Where the log begins now.
    pub start_offset: u64,
}

pub(super) fn retain(shared: &Shared, positions: &Positions, now_ms: u64) -> io::Result<Retained> {
    let retention_ms = u64::try_from(shared.config.retention.as_millis()).unwrap_or(u64::MAX);
    let Some(old_ms) = now_ms.checked_sub(retention_ms) else {
        return Ok(Retained { start_offset: shared.start_offset(), ..Retained::default() });
    };
    let finished = positions.all().into_values().min().unwrap_or(u64::MAX);
    let mut segments = shared.segments.write().unwrap_or_else(PoisonError::into_inner);
    // A segment's last commit is no younger than the first of the segment after it.
    let deletable = segments
        .windows(2)
        .take_while(|pair| {
            pair[1].base_offset <= finished && pair[1].first_append_ms().is_some_and(|ms| ms < old_ms)
        })
        .count();
    let mut retained = Retained::default();
    for _ in 0..deletable {
        // Oldest first and one by one: a crash in between leaves a log without holes.
        fs::remove_file(&segments[0].path)?;
        let segment = segments.remove(0);
        retained.deleted_segments += 1;
        retained.deleted_bytes += segment.durable_bytes();
    }
    retained.start_offset = segments.first().map_or(0, |s| s.base_offset);
    if deletable > 0 {
        sync_dir(&segments_dir(&shared.dir))?;
        tracing::info!(
            segments = retained.deleted_segments,
            bytes = retained.deleted_bytes,
            start_offset = retained.start_offset,
            "deleted old segments of the event log"
        );
    }
    Ok(retained)
}
