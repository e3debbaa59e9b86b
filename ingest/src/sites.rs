//! What each site sent, counted once per batch from the batch's receipts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fanal_storage::log::Batch;
use metrics::{Counter, counter, describe_counter};

use crate::labels::Labels;

const LINES: &str = "ingest_site_lines_total";

pub(crate) fn describe() {
    describe_counter!(
        LINES,
        "Lines of each site. By `site`: at most 1000, the others are `(other)`. By `outcome`: `accepted`, `rejected` (durable, as a dead letter), `unconfirmed` (not acknowledged)."
    );
}

/// The counters of all sites that sent something.
#[derive(Debug, Default)]
pub(crate) struct Sites(Mutex<HashMap<Box<str>, Arc<Counters>>>);

#[derive(Debug)]
struct Counters {
    accepted: Counter,
    rejected: Counter,
    unconfirmed: Counter,
}

impl Counters {
    fn of(site_code: &str) -> Self {
        static SITES: Labels = Labels::new();
        let site = SITES.bounded(site_code);
        let counter = |outcome| counter!(LINES, "site" => site.clone(), "outcome" => outcome);
        Self {
            accepted: counter("accepted"),
            rejected: counter("rejected"),
            unconfirmed: counter("unconfirmed"),
        }
    }
}

/// The lines of a batch whose outcome is not known yet.
#[derive(Debug)]
pub(crate) struct Pending(Vec<(Arc<Counters>, u64, u64)>);

impl Sites {
    /// Sites come from the catalogue alone, so that there are as many entries as it has.
    pub(crate) fn pending(&self, batch: &Batch) -> Pending {
        let mut sites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = batch.receipts().iter().map(|receipt| {
            let counters = match sites.get(&receipt.site) {
                Some(counters) => Arc::clone(counters),
                None => {
                    let counters = Arc::new(Counters::of(&receipt.site));
                    Arc::clone(sites.entry(receipt.site.clone()).or_insert(counters))
                }
            };
            (counters, receipt.accepted, receipt.rejected)
        });
        Pending(counted.collect())
    }
}

impl Pending {
    pub(crate) fn end(self, is_durable: bool) {
        for (counters, accepted, rejected) in self.0 {
            match is_durable {
                true => {
                    counters.accepted.increment(accepted);
                    counters.rejected.increment(rejected);
                }
                false => counters.unconfirmed.increment(accepted + rejected),
            }
        }
    }
}
