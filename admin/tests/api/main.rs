//! The admin API, in one program: what it is built from is compiled once.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test states what must hold by panicking")]

mod admin;
mod openapi;
