//! fanal-parser
