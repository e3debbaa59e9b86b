//! fanal-storage

pub mod archive;
pub mod catalogue;
pub mod clickhouse;
pub mod log;
