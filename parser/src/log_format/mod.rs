//! Lines of nginx access logs, in any `log_format` that can be read back.
//!
//! A format is compiled once: [`LogFormat::compile`]. Then [`LogFormat::read`] finds
//! the values that beacons need in a line, and [`LogLine::outcome`] says what the line
//! means. `docs/log-format.md` says for users what is read, and what is refused and why.
//!
//! Never opens a file. What must stay true: of every line that nginx writes by a
//! format that compiles, the values come back exactly; any other bytes are a
//! [`RejectReason`](fanal_model::RejectReason), never a panic; a line allocates
//! nothing once the scratch has grown.

mod address;
mod bytes;
mod directive;
mod error;
mod escape;
mod explain;
mod line;
mod locate;
mod plan;
mod search;
mod shape;
mod time;
mod variable;

#[cfg(test)]
mod tests;

pub use address::with_reduced_addresses;
pub use error::{Ambiguity, FormatError, FormatFault, Place};
pub use escape::Escape;
pub use explain::{ExplainedField, ExplainedLine, ExplainedUse, Explanation, Field, Part};
use fanal_model::RejectReason;
pub use line::{IgnoreReason, LogLine, LogOutcome, LogRequest, Scratch};
use plan::Plan;
pub use search::{OpenEnd, Search};
use shape::Slot;

/// The format that this project documents.
pub const FANAL: &str = r"log_format fanal '$msec\t$remote_addr\t$request_method\t$request_uri\t$status\t$http_user_agent\t$http_referer\t$http_cookie\t$request_body';";
/// nginx's own, without asking for it.
pub const COMBINED: &str = r#"log_format combined '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';"#;
/// The one that stands in the configuration that nginx is installed with.
pub const MAIN: &str = r#"log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';"#;

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    plan: Plan,
}

impl LogFormat {
    /// Compiles `fanal`, `combined`, `main`, or a `log_format` as it stands in
    /// nginx.conf: the directive, its strings, or the bare format.
    pub fn compile(text: &str) -> Result<Self, FormatError> {
        let source = match text.trim() {
            "fanal" => FANAL,
            "combined" => COMBINED,
            "main" => MAIN,
            _ => text,
        };
        Ok(Self { plan: Plan::compile(source, &directive::parse(source)?)? })
    }

    /// The format `fanal`.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a text of this program, which a test compiles")]
    pub fn fanal() -> Self {
        Self::compile(FANAL).expect("the project's own format compiles")
    }

    /// Finds the values in a line. `MalformedLogLine` when it is not of the format.
    #[inline]
    pub fn read<'a>(&self, line: &'a [u8]) -> Result<LogLine<'a>, RejectReason> {
        let line = without_end(line);
        let mut slots = [&line[..0]; Slot::COUNT];
        let found = self.plan.locate(line, |_, slot, value| slots[slot as usize] = value);
        let read = found.ok().and_then(|()| LogLine::of(self.plan.shape, slots));
        read.ok_or(RejectReason::MalformedLogLine)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
