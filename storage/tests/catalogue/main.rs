//! The catalogue on real files and a real server: restarts, two processes' handles,
//! broken files, servers that hang, die and come back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

mod file;
mod own_server;
mod place;
mod proxy;
mod server;
mod suite;
