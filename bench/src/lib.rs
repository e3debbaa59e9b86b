//! fanal-bench
