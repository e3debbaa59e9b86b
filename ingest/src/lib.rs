//! The collector: tracking requests over HTTP, and nginx access logs, into the
//! event log.
//!
//! Never answers 2xx before the event log said that every line is durable, never
//! drops a line without a dead letter and a count, never writes an address that
//! the site's policy did not see. One bad line costs its neighbours nothing.

pub mod config;
pub mod import;
pub mod replay;
pub mod rules;
pub mod spool;

mod access;
mod address;
mod answers;
mod appends;
mod budget;
mod cookie;
mod key;
mod labels;
mod lane;
mod metrics;
mod run;
mod service;
mod sink;
mod sites;

pub use config::{ClientAddressHeader, ConfigProblem, IngestConfig, Settings};
pub use key::{AddressKey, KeyError};
pub use metrics::describe;
pub use run::run;
pub use service::Ingest;
