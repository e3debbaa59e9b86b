//! fanal-storage

pub mod clickhouse;
pub mod log;
