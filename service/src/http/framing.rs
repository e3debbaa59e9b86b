//! Whether a request says twice, and so perhaps differently, where its body ends.
//!
//! `Content-Length` beside `Transfer-Encoding` is how requests are smuggled past a
//! proxy. The HTTP library takes such a request as chunked and forgets the length, so
//! the heads of requests other than GET are looked at as they arrive. What
//! must stay true: a GET costs one comparison; where a head was not seen whole, the
//! answer is that nobody knows, and the connection ends with that request.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const LENGTH: u8 = 1;
const ENCODING: u8 = 2;
/// The head came in pieces: a name may be split between them.
const PIECES: u8 = 4;

/// What the bytes of the head being received said.
#[derive(Debug, Default)]
pub(super) struct Framing(AtomicU8);

/// What is known of a request with `Transfer-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    OneLength,
    TwoLengths,
    Unknown,
}

impl Framing {
    pub(super) fn received(&self, bytes: &[u8], is_first: bool) {
        if is_first && bytes.starts_with(b"GET ") {
            if self.0.load(Relaxed) != 0 {
                self.0.store(0, Relaxed);
            }
            return;
        }
        let before = if is_first { 0 } else { self.0.load(Relaxed) | PIECES };
        self.0.store(before | named(bytes), Relaxed);
    }

    /// For a request that has `Transfer-Encoding`. Of the next head nothing is known before its
    /// first byte arrives by itself: what came along with this request was not looked at.
    pub(super) fn verdict(&self) -> Verdict {
        match self.0.swap(PIECES, Relaxed) {
            ENCODING => Verdict::OneLength,
            seen if seen & (LENGTH | ENCODING) == LENGTH | ENCODING => Verdict::TwoLengths,
            _ => Verdict::Unknown,
        }
    }
}

/// The headers among the lines up to the first empty one.
fn named(bytes: &[u8]) -> u8 {
    let mut seen = 0;
    for line in bytes.split(|byte| *byte == b'\n').skip(1) {
        if line.is_empty() || line == b"\r" {
            break;
        }
        if is_name(line, b"content-length") {
            seen |= LENGTH;
        } else if is_name(line, b"transfer-encoding") {
            seen |= ENCODING;
        }
    }
    seen
}

fn is_name(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_was_not_seen_whole_is_not_vouched_for() {
        let both = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH: 3\r\n\r\n";
        let one = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\ncontent-length: 3\r\n";
        let framing = Framing::default();
        for (pieces, expected) in [
            (&[&both[..]][..], Verdict::TwoLengths),
            (&[&one[..]], Verdict::OneLength),
            (&[&one[..20], &one[20..]], Verdict::Unknown),
            (&[b"GET / HTTP/1.1\r\n\r\n"], Verdict::Unknown),
        ] {
            for (index, piece) in pieces.iter().enumerate() {
                framing.received(piece, index == 0);
            }
            assert_eq!(framing.verdict(), expected, "{pieces:?}");
        }
    }
}
