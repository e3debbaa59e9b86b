//! Where archive files end. A function of the records alone: whoever reads the same
//! log from the same border, in whatever steps, ends the files at the same places.

use crate::log::{Record, Topic};

/// When a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file holds append times of one such span only.
    pub bucket_ms: u64,
    /// Records of all topics.
    pub records_max: u64,
    /// Bytes of keys and values.
    pub bytes_max: u64,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { bucket_ms: 60_000, records_max: 250_000, bytes_max: 64 << 20 }
    }
}

/// The file that is being gathered, as far as its end is concerned.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fill {
    records: u64,
    bytes: u64,
    bucket: u64,
}

impl Fill {
    /// Whether the file ends before `record`: its append time lies in another span.
    pub(super) fn ends_before(&self, rotation: &Rotation, record: &Record<'_>) -> bool {
        self.records > 0 && record.append_time_ms / rotation.bucket_ms.max(1) != self.bucket
    }

    /// Adds `record`; true if the file ends after it.
    pub(super) fn add(&mut self, rotation: &Rotation, record: &Record<'_>) -> bool {
        self.bucket = record.append_time_ms / rotation.bucket_ms.max(1);
        self.records += 1;
        self.bytes += (record.key.len() + record.value.len()) as u64;
        record.topic == Topic::Seal
            || self.records >= rotation.records_max
            || self.bytes >= rotation.bytes_max
    }
}
