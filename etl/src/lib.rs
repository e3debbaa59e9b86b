//! The etl role: what happens to beacons after the event log has them.
//!
//! `archive` copies the log into the raw archive, `visits` streams it into
//! ClickHouse, `rebuild` makes days anew from the archive, `reconcile` proves
//! that nothing was lost on the way. [`visit`] and [`stream`] are pure.

pub mod acquisition;
mod archive;
mod compact;
pub mod config;
mod counts;
pub mod day;
pub mod log;
mod metrics;
mod progress;
pub mod rebuild;
pub mod reconcile;
pub mod role;
pub mod rows;
pub mod stream;
pub mod visit;
mod visits;
mod watch;
mod workers;

pub use config::EtlConfig;
pub use metrics::describe;
pub use progress::{Offsets, Progress, Stage, Stuck};
pub use role::{Etl, HEALTH_PARTS, run};
