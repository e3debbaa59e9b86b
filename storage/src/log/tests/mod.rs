//! What the log promises, checked on real files.

mod append;
