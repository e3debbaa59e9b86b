//! Bytes to model: tracking lines, bodies, requests, and lines of access logs.
//!
//! The same bytes mean the same thing wherever they come in: the collector, the
//! log import, the streaming job and a rebuild all read them here. `docs/protocol.md`
//! says for users what this crate does.
//!
//! Never does I/O, never reads a clock, knows no runtime. What must stay true:
//! - a line that [`line::parse`] accepts turns into an [`fanal_model::Event`]
//!   without a further reason to refuse it, so that nothing accepted at the door
//!   is rejected later;
//! - bytes of any kind are read or refused, never a panic;
//! - parsing a line allocates nothing.

pub mod body;
pub mod counts;
pub mod line;
pub mod log_format;
pub mod query;
pub mod receive;

mod cookie;
mod decode;
mod event;
mod name;
mod robots;

pub use cookie::cookie_visitor;
pub use decode::decode;
pub use event::EXTRA_MAX;
pub use line::{Identity, Kind, Line};
pub use query::{Query, parse_query};
pub use receive::{Counts, Receiver, Request, RequestError, Sink};
pub use robots::Robots;

/// How much one request may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A longer line is rejected as `line_too_long`; its neighbours are kept.
    pub line_bytes_max: usize,
    /// A request with more lines is refused as a whole.
    pub lines_max: usize,
}

impl Limits {
    pub const LINE_BYTES_MAX: usize = 1 << 20;
    pub const LINES_MAX: usize = 100_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes_max: Self::LINE_BYTES_MAX, lines_max: Self::LINES_MAX }
    }
}
