//! The event log on a real Kafka broker: `make test` starts one. Every test has topics
//! and groups of its own, so that tests run beside each other and again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test states what must hold by panicking"
)]

mod failures;
mod group;
mod import;
mod log;
mod other_client;
mod security;
mod support;
mod topics;
