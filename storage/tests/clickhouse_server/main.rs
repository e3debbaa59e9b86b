//! The schema, the inserts and the errors on the real engine.
//!
//! `FANAL_STACK_CLICKHOUSE` names a server to use; without it the tests start the
//! embedded engine as a process of their own (this test program, started again).
//! Tests that kill the server or need its configuration always start their own.
//!
//! No cluster can run here: the engine has neither Keeper nor the queue of
//! `ON CLUSTER`. What is tested of a cluster is in `cluster`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests state their invariants by panicking; the child speaks to its parent by its output"
)]

mod cluster;
mod errors;
mod migrate;
mod parts;
mod rows;
mod schema;
mod served;
mod tls;
mod tokens;
