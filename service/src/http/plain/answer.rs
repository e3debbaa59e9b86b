//! Answers as bytes.

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};

use super::Date;
use crate::http::Response;
use crate::problem::Problem;

/// The answer to a plain request.
#[derive(Debug)]
pub enum PlainAnswer {
    /// The usual one.
    Fixed {
        /// Status line and headers, each with its line end; without `Date`, `Connection` and
        /// the empty line.
        head: &'static [u8],
        body: &'static [u8],
        set_cookie: Option<HeaderValue>,
    },
    /// Any other, except one with a stream for its body.
    Any(Box<Response>),
}

impl PlainAnswer {
    /// Writes the whole answer; `is_last`: the connection ends with it.
    pub(super) fn write(&self, to: &mut Vec<u8>, date: &Date, is_last: bool) {
        let body = match self {
            Self::Fixed { head, body, set_cookie } => {
                to.extend_from_slice(head);
                if let Some(value) = set_cookie {
                    field(to, b"set-cookie", value.as_bytes());
                }
                *body
            }
            Self::Any(response) => match response.body().bytes() {
                Some(body) => {
                    write_head(to, response, body.len());
                    body
                }
                None => {
                    tracing::error!("a plain request was answered with a stream");
                    return Self::Any(Box::new(Problem::internal().into_response())).write(to, date, true);
                }
            },
        };
        if is_last {
            field(to, b"connection", b"close");
        }
        to.extend_from_slice(b"date: ");
        date.write(to);
        to.extend_from_slice(b"\r\n\r\n");
        to.extend_from_slice(body);
    }
}

fn write_head(to: &mut Vec<u8>, response: &Response, length: usize) {
    let status = response.status();
    to.extend_from_slice(b"HTTP/1.1 ");
    to.extend_from_slice(status.as_str().as_bytes());
    to.push(b' ');
    to.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    to.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        field(to, name.as_str().as_bytes(), value.as_bytes());
    }
    // RFC 9110, 8.6: these have no length.
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        field(to, CONTENT_LENGTH.as_str().as_bytes(), length.to_string().as_bytes());
    }
}

fn field(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        to.extend_from_slice(part);
    }
}
