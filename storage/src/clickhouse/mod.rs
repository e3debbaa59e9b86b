//! ClickHouse over HTTP: schema, rows, inserts, and the few questions that the
//! pipeline itself asks. Knows nothing of how visits are built.

mod boot;
mod client;
mod config;
mod error;
mod flush;
mod migrate;
mod migrations;
mod parts;
mod rows;
mod schema;
mod tls;

pub use client::{ClickHouse, STATEMENT_SECONDS_MAX};
pub use config::{ClickHouseConfig, ClusterConfig};
pub use error::ClickHouseError;
pub use flush::Flush;
pub use migrations::{MIGRATIONS, Migration, base_statements, view_statements};
pub use parts::{PARTS_PAUSE_MAX, PartsPressure};
pub use rows::{ArchiveCountRow, EventRow, LinkRow, OutcomeRow, VisitRow};
pub use schema::Layout;
