//! fanal-delivery
