//! fanal-storage
