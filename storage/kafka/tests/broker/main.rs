//! The event log on a real Kafka broker: `make test` starts one. Every test has topics
//! and groups of its own, so that tests run beside each other and again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test states what must hold by panicking"
)]

mod direct;
mod failures;
mod group;
mod import;
mod log;
mod other_client;
mod own_broker;
mod proxy;
mod security;
mod support;
mod topics;
