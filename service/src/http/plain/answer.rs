//! Answers as bytes, the same as the HTTP library would write them.
//!
//! Never writes a body where there may be none, and no header twice.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Date;
use crate::http::{Body, Response};
use crate::problem::Problem;

/// The answer to a plain request.
#[derive(Debug)]
pub enum PlainAnswer {
    /// The usual one.
    Fixed { answer: &'static FixedAnswer, set_cookie: Option<HeaderValue> },
    /// Any other, except one with a stream for its body.
    Any(Box<Response>),
}

/// An answer that is given again and again, made once.
#[derive(Debug)]
pub struct FixedAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: &'static [u8],
    /// Status line and headers, each with its line end; without `Date`, `Connection` and the
    /// empty line.
    head: Vec<u8>,
}

impl FixedAnswer {
    /// The headers are without the length, `Date` and `Connection`.
    pub fn new<const N: usize>(
        status: StatusCode,
        headers: [(HeaderName, &'static str); N],
        body: &'static [u8],
    ) -> Self {
        let named = headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value)));
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = status;
        *response.headers_mut() = named.collect();
        let mut head = Vec::new();
        write_head(&mut head, &response, body);
        Self { status, headers: std::mem::take(response.headers_mut()), body, head }
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// As the HTTP library takes it.
    #[must_use]
    pub fn response(&self, set_cookie: Option<HeaderValue>) -> Response {
        let mut response = Response::new(Body::full(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        if let Some(value) = set_cookie {
            response.headers_mut().insert(SET_COOKIE, value);
        }
        response
    }
}

impl PlainAnswer {
    /// As the HTTP library takes it.
    pub(super) fn into_response(self) -> Response {
        match self {
            Self::Fixed { answer, set_cookie } => answer.response(set_cookie),
            Self::Any(response) => *response,
        }
    }

    /// Writes the whole answer; `is_last`: the connection ends with it. Says whether it does.
    pub(super) fn write(&self, to: &mut Vec<u8>, date: &Date, is_last: bool) -> bool {
        let body = match self {
            Self::Fixed { answer, set_cookie } => {
                to.extend_from_slice(&answer.head);
                if let Some(value) = set_cookie {
                    field(to, b"set-cookie", value.as_bytes());
                }
                answer.body
            }
            Self::Any(response) => match response.body().bytes() {
                Some(body) => write_head(to, response, body),
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
        is_last
    }
}

/// Status line and headers; the body that goes with them.
fn write_head<'b>(to: &mut Vec<u8>, response: &Response, body: &'b [u8]) -> &'b [u8] {
    let status = response.status();
    to.extend_from_slice(b"HTTP/1.1 ");
    to.extend_from_slice(status.as_str().as_bytes());
    to.push(b' ');
    to.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    to.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        // Ours to say.
        if !matches!(*name, CONTENT_LENGTH | CONNECTION | DATE) {
            field(to, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    // RFC 9110, 6.4.1 and 8.6: these have no body and no length.
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return &[];
    }
    field(to, CONTENT_LENGTH.as_str().as_bytes(), body.len().to_string().as_bytes());
    body
}

fn field(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        to.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Body, empty};

    fn written(answer: &PlainAnswer, is_last: bool) -> (String, bool) {
        let mut bytes = Vec::new();
        let ends = answer.write(&mut bytes, &Date::new(), is_last);
        let text = String::from_utf8(bytes).unwrap();
        let date = text.find("date: ").unwrap();
        assert!(text[date..].contains(" GMT\r\n"), "{text}");
        (text.replace(&text[date..date + 37], ""), ends)
    }

    #[test]
    fn an_answer_has_a_length_where_it_may_have_a_body_and_says_when_it_is_the_last() {
        let mut full = Response::new(Body::full("abc"));
        for (name, value) in [("content-length", "9"), ("connection", "x"), ("date", "never"), ("a", "b")] {
            full.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let full = PlainAnswer::Any(Box::new(full));
        let expected = "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(written(&full, false), (expected.to_owned(), false));
        let mut none = empty(StatusCode::NO_CONTENT);
        *none.body_mut() = Body::full("lost");
        let none = PlainAnswer::Any(Box::new(none));
        let expected = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        assert_eq!(written(&none, true), (expected.to_owned(), true));
        let answer = FixedAnswer::new(StatusCode::OK, [(HeaderName::from_static("a"), "b")], b"x");
        let answer: &'static FixedAnswer = Box::leak(Box::new(answer));
        let fixed = PlainAnswer::Fixed { answer, set_cookie: Some(HeaderValue::from_static("a=b")) };
        let expected = "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 1\r\nset-cookie: a=b\r\n\r\nx";
        assert_eq!(written(&fixed, false), (expected.to_owned(), false));
        // The library's way of the same.
        let response = PlainAnswer::Any(Box::new(fixed.into_response()));
        let expected = "HTTP/1.1 200 OK\r\na: b\r\nset-cookie: a=b\r\ncontent-length: 1\r\n\r\nx";
        assert_eq!(written(&response, false), (expected.to_owned(), false));
    }

    #[test]
    fn a_stream_which_cannot_be_written_becomes_an_error_that_ends_the_connection() {
        let stream = Body::stream(futures_util::stream::empty());
        let (text, ends) = written(&PlainAnswer::Any(Box::new(Response::new(stream))), false);
        assert!(ends && text.starts_with("HTTP/1.1 500 ") && text.contains("connection: close"), "{text}");
    }
}
