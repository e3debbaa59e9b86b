//! Counts of an archive file, stored in its footer: they are there exactly when the
//! rows are, so that sums over files prove what was received, kept and refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Milliseconds of the minute by which everything is counted.
const MINUTE_MS: u64 = 60_000;

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LedgerKey {
    /// Minute of receipt.
    pub minute_ms: u64,
    pub site: String,
}

/// Counts of one site and minute within one range of offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerCounts {
    /// As the receipts say, which were counted before parsing.
    pub received: u64,
    /// Beacons in the log.
    pub accepted: u64,
    /// Dead letters in the log, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Rows in the file.
    pub archived: u64,
}

/// All counts of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    pub counts: BTreeMap<LedgerKey, LedgerCounts>,
    /// Records that a repair of the log could not read. Their site is not known.
    pub lost_records: u64,
}

impl Ledger {
    pub(super) fn at(&mut self, received_at_ms: u64, site: &str) -> &mut LedgerCounts {
        let minute_ms = received_at_ms - received_at_ms % MINUTE_MS;
        self.counts.entry(LedgerKey { minute_ms, site: site.to_owned() }).or_default()
    }

    /// Adds the counts of another file.
    pub fn add(&mut self, other: &Self) {
        self.lost_records += other.lost_records;
        for (key, counts) in &other.counts {
            let sum = self.counts.entry(key.clone()).or_default();
            sum.received += counts.received;
            sum.accepted += counts.accepted;
            sum.archived += counts.archived;
            for (reason, count) in &counts.rejected {
                *sum.rejected.entry(reason.clone()).or_default() += count;
            }
        }
    }

    pub(super) fn to_json(&self) -> Result<String, serde_json::Error> {
        let rows = self.counts.iter().map(|(key, counts)| Row {
            minute_ms: key.minute_ms,
            site: key.site.clone(),
            received: counts.received,
            accepted: counts.accepted,
            rejected: counts.rejected.clone(),
            archived: counts.archived,
        });
        serde_json::to_string(&Stored { version: 1, lost_records: self.lost_records, rows: rows.collect() })
    }

    pub(super) fn from_json(json: &str) -> Result<Self, String> {
        let stored: Stored = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if stored.version != 1 {
            return Err(format!("its ledger has version {}, this program reads 1", stored.version));
        }
        let mut ledger = Self { lost_records: stored.lost_records, ..Self::default() };
        for row in stored.rows {
            let Row { minute_ms, site, received, accepted, rejected, archived } = row;
            let counts = LedgerCounts { received, accepted, rejected, archived };
            ledger.counts.insert(LedgerKey { minute_ms, site }, counts);
        }
        Ok(ledger)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    lost_records: u64,
    rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    minute_ms: u64,
    site: String,
    received: u64,
    accepted: u64,
    rejected: BTreeMap<String, u64>,
    archived: u64,
}
