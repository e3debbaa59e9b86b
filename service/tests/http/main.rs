//! The HTTP server over real sockets, in one program: what it is built from is compiled once.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test states what must hold by panicking")]

mod hostile;
mod hostile_http2;
mod parked;
mod protocols;
mod short;
mod support;
mod workers;
