//! Drives the real programs as a user does and reads what they left behind.
//!
//! Starts processes in groups of their own and ends only those. Knows nothing
//! of the project's crates: what is not visible from outside is not tested here.
//! What must stay true: a missing program or tool fails the test with the
//! command that brings it, so that nothing is skipped in silence.
#![expect(clippy::unwrap_used, reason = "a harness states what must hold by panicking, as tests do")]

mod capture;
mod cluster;
mod dev;
mod folder;
mod http;
mod isolated;
mod programs;
mod proxy;
mod stack;
mod start;
mod wait;

pub use capture::{Post, posts};
pub use cluster::{Node, Role};
pub use dev::Dev;
pub use folder::Folder;
pub use http::{Answer, Call};
pub use isolated::isolated;
pub use programs::{Output, checkout, fanal, fanal_bench, fanal_bench_with_many_files, finish, run, run_ok};
pub use proxy::{Fault, Proxy};
pub use stack::{Stack, shared_server};
pub use start::{Failure, Start};
pub use wait::{eventually, within};
