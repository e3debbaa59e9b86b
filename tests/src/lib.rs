//! fanal-tests
