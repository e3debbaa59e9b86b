//! One node on embedded defaults, seen from outside.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test states what must hold by panicking")]

mod commands;
mod crash;
mod dead_letters;
mod faults;
mod import;
mod metrics;
mod overload;
mod parse;
mod protocol;
mod proxy;
mod sdk;
mod stack;
mod starts;
