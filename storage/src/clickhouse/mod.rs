//! ClickHouse over HTTP: schema, rows, inserts, and the few questions that the
//! pipeline itself asks. Knows nothing of how visits are built.

mod client;
mod migrations;
mod rows;

pub use client::{ClickHouse, ClickHouseConfig, ClickHouseError, Flush};
pub use migrations::{MIGRATIONS, Migration};
pub use rows::{ArchiveCountRow, EventRow, LinkRow, OutcomeRow, VisitRow};
