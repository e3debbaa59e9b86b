//! fanal-etl
