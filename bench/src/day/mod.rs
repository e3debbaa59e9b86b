//! A day of traffic with known truth.
//!
//! Duty: plan visitors, visits and requests, write them as nginx access logs, and write beside them what is true of
//! them. The truth comes from the plan (a visit is known when it is planned), never from reading the log again.
//! What must stay true: same options, same bytes; and the truth equals a plain sort-and-scan over what was emitted,
//! which the tests do in two ways (over the plan, and over the written bytes with a reader of their own).

mod account;
mod case;
mod group;
mod model;
mod nginx;
mod noise;
mod render;
mod solo;
mod truth;
mod values;
mod visitor;
mod write;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

use account::Day;
pub use model::EVENTS_MAX;
pub use truth::{SiteTruth, Truth, VISIT_COLUMNS};

use crate::random::Random;
use std::path::PathBuf;

/// A visit ends where the visitor says nothing for this long.
pub const SESSION_TIMEOUT_MS: u64 = 30 * 60 * 1000;

/// A nonce is remembered for this long from its first receipt.
pub const DEDUPE_HORIZON_MS: u64 = 2 * 60 * 60 * 1000;

/// Sites and nodes that one day may have; more only makes the files many.
pub const SITES_MAX: u16 = 1_000;
/// See [`SITES_MAX`].
pub const NODES_MAX: u16 = 64;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What to generate.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where logs and truth go; created where missing.
    pub out: PathBuf,
    /// Distinct accepted lines, heartbeats included; the day ends with the visitor that reaches the number.
    pub events: u64,
    pub sites: u16,
    pub nodes: u16,
    pub seed: u64,
    /// The first millisecond of the day (Unix time).
    pub start_ms: u64,
    /// Puts lines with a malformed nonce among the bad ones, which a reader must reject; without, the day has none.
    pub bad_nonces: bool,
}

/// Why a day could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name} is {given}; give a number from {low} to {high}")]
    OutOfRange { name: &'static str, given: u64, low: u64, high: u64 },
    #[error("cannot write {}: {source}; give a folder that can be written", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot write the truth as JSON: {0}; this is a bug in the generator")]
    Json(#[from] serde_json::Error),
}

/// Plans the day, writes its logs and its truth, and returns the truth.
pub fn generate(options: &Options) -> Result<Truth, Error> {
    let day = plan(options)?;
    let written = write::logs(&day, options)?;
    truth::write(&day, options, &written)
}

/// Plans the day without writing anything.
fn plan(options: &Options) -> Result<Day, Error> {
    check("--events", options.events, 1, EVENTS_MAX)?;
    check("--sites", options.sites.into(), 1, SITES_MAX.into())?;
    check("--nodes", options.nodes.into(), 1, NODES_MAX.into())?;
    let mut random = Random::new(options.seed);
    let mut day = Day::new(options, &mut random);
    while day.distinct() < options.events {
        if random.chance(300) {
            group::plan(&mut day, &mut random);
        } else if random.chance(100) {
            solo::plan_orphan(&mut day, &mut random);
        } else {
            solo::plan(&mut day, &mut random);
        }
        if random.chance(600) {
            noise::plan(&mut day, &mut random);
        }
    }
    day.sort();
    Ok(day)
}

fn check(name: &'static str, given: u64, low: u64, high: u64) -> Result<(), Error> {
    if (low..=high).contains(&given) {
        return Ok(());
    }
    Err(Error::OutOfRange { name, given, low, high })
}
