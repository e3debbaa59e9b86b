//! The archive on a local folder and on a real HDFS: the same tests on both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test states what must hold by panicking"
)]

mod bounds;
mod compaction;
mod fixture;
mod killed;
mod readers;
mod writers;
