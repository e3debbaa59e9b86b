//! Fanal on real servers does what it does embedded: the same rows for the same input,
//! and nothing that others write on its topics, nor a server that is away, spoils data.
//!
//! Needs the servers of `make test`; every test has topics, groups, folders, keyspaces
//! and databases of its own on them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

mod doctor;
mod down;
mod foreign;
mod gone;
mod hot;
mod manual;
mod same_rows;
mod support;
