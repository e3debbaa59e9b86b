//! fanal-clickhouse-embedded
