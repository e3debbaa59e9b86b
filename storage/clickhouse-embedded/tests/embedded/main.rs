//! The embedded ClickHouse as its clients see it: `curl`, the Rust `clickhouse`
//! crate, PyPI `clickhouse-connect`; then what happens when things break.
//!
//! Each server is a process of its own (this test program, started again),
//! because the engine lives once per process and some tests kill it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests state their invariants by panicking; the child speaks to its parent by its output"
)]

mod curl;
mod faults;
mod insert;
mod python;
mod rust_client;
mod select;
mod served;
