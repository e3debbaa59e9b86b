//! Streaming: the event log, record by record, into rows for ClickHouse.
//!
//! [`Engine`] is pure: records and a time in, a flush of rows out, its state a
//! value that can be written and read back. Its result for a visitor is that of
//! [`crate::visit::Scan`] over all of the visitor's events, whatever the order
//! of their arrival. The role around it (`crate::visits`) does the I/O.

mod changed;
mod engine;
mod late;
mod visitor;

pub use changed::Changed;
pub use engine::{Engine, EngineConfig, SitePolicies, StateError, Warning};
