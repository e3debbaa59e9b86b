//! Counts of records that streaming could not place, until a rebuild loads them.

use std::collections::{BTreeMap, HashMap};

use fanal_storage::clickhouse::OutcomeRow;
use fanal_storage::log::Partition;

use crate::rows::minute;

/// What is counted: site, minute of receipt, outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CountKey {
    site_code: String,
    minute: u32,
    outcome: &'static str,
}

/// Outcomes of the records since the last flush. One flush writes them under
/// its first offset; those that a lost flush wrote beyond the checkpoint are
/// removed by the first flush after a restart.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    counts: HashMap<CountKey, u64>,
    beyond_checkpoint: BTreeMap<OutcomeKey, OutcomeRow>,
}

/// The key of `outcome_rows`.
type OutcomeKey = (String, u32, u64, String);

impl Outcomes {
    /// Adds `count` records of one outcome; a count of 0 only marks the minute.
    pub(super) fn count(&mut self, site_code: &str, at_ms: u64, outcome: &'static str, count: u64) {
        let key = CountKey { site_code: site_code.to_owned(), minute: minute(at_ms), outcome };
        *self.counts.entry(key).or_default() += count;
    }

    /// Remembers a row that the table has beyond the checkpoint.
    pub(super) fn found_in_table(&mut self, row: OutcomeRow) {
        self.beyond_checkpoint.insert(key_of(&row), row);
    }

    /// The rows of a flush that began at `first_offset`.
    pub(super) fn take(&mut self, partition: Partition, first_offset: u64, rows: &mut Vec<OutcomeRow>) {
        for (key, count) in std::mem::take(&mut self.counts) {
            rows.push(OutcomeRow {
                log_partition: partition.number(),
                first_offset,
                site_code: key.site_code,
                minute: key.minute,
                outcome: key.outcome.to_owned(),
                count,
                version: 0,
                is_deleted: 0,
            });
        }
        let mut ghosts = std::mem::take(&mut self.beyond_checkpoint);
        for row in rows.iter() {
            ghosts.remove(&key_of(row));
        }
        rows.extend(ghosts.into_values().map(|row| OutcomeRow { is_deleted: 1, ..row }));
    }
}

fn key_of(row: &OutcomeRow) -> OutcomeKey {
    (row.site_code.clone(), row.minute, row.first_offset, row.outcome.clone())
}
