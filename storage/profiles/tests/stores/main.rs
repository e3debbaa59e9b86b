//! The profile stores, in one program: what they are built from is compiled once.
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "a test states what must hold by panicking"
)]

mod behaviour;
mod config;
mod convergence;
mod crash;
mod outage;
mod support;
