//! fanal-ingest
