//! fanal-admin
