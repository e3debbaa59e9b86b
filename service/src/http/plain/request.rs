//! Which requests are plain.
//!
//! Judges strictly: `None` costs a little time, a request read differently than the HTTP
//! library reads it would cost much more.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use http_body::Body;

use crate::http::Request;
use crate::http::fields::Fields;
use crate::http::limits::HttpLimits;

/// Requests with more headers go the long way; browsers send about 15.
const HEADERS_MAX: usize = 48;

/// A request that lies in memory whole, body and all, and leaves its connection as it is.
#[derive(Debug)]
pub struct PlainRequest<'r> {
    pub method: Method,
    pub version: Version,
    pub path: &'r str,
    /// Empty where there is none.
    pub query: &'r str,
    /// The whole body of a POST.
    pub body: Option<&'r [u8]>,
    headers: Headers<'r>,
}

#[derive(Debug)]
enum Headers<'r> {
    Parsed(&'r [httparse::Header<'r>]),
    Map(&'r HeaderMap),
}

impl Fields for PlainRequest<'_> {
    fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let (parsed, map) = match self.headers {
            Headers::Parsed(headers) => (headers, None),
            Headers::Map(map) => (&[][..], Some(map)),
        };
        let from_map = map.into_iter().flat_map(move |map| map.get_all(name)).map(HeaderValue::as_bytes);
        let name = name.as_str();
        parsed
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
            .chain(from_map)
    }

    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        match self.headers {
            Headers::Parsed(headers) => {
                let named = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name.as_str()));
                named.map(|header| header.value)
            }
            Headers::Map(map) => map.first(name),
        }
    }
}

/// The plain request that a stream of HTTP/2 is, if it has no body.
pub(super) fn of_stream(request: &Request) -> Option<PlainRequest<'_>> {
    if request.method() != Method::GET || !request.body().is_end_stream() {
        return None;
    }
    Some(PlainRequest {
        method: Method::GET,
        version: request.version(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        body: None,
        headers: Headers::Map(request.headers()),
    })
}

/// Hands the request to `take` if the bytes are one of HTTP/1.1, GET or POST, whole, plain, and
/// nothing else.
pub(super) fn parse<T>(
    bytes: &[u8],
    limits: &HttpLimits,
    take: impl FnOnce(&PlainRequest<'_>) -> Option<T>,
) -> Option<T> {
    let method = match bytes {
        [b'G', b'E', b'T', b' ', b'/', ..] => Method::GET,
        [b'P', b'O', b'S', b'T', b' ', b'/', ..] => Method::POST,
        _ => return None,
    };
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut headers);
    let Ok(httparse::Status::Complete(head)) = parsed else { return None };
    if request.version != Some(1)
        || head > limits.header_bytes_max
        || request.headers.len() > limits.headers_max
    {
        return None;
    }
    let target = request.path?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !is_plain(target) || path.contains('`') {
        return None;
    }
    let length = body_length(request.headers)?;
    let body = &bytes[head..];
    let body = match (&method, length) {
        (&Method::GET, None) if body.is_empty() => None,
        (&Method::POST, Some(length)) if body.len() == length => Some(body),
        _ => return None,
    };
    let headers = Headers::Parsed(request.headers);
    take(&PlainRequest { method, version: Version::HTTP_11, path, query, body, headers })
}

/// What `Content-Length` says, if anything; `None` where a header asks for more than the short way knows.
fn body_length(headers: &[httparse::Header<'_>]) -> Option<Option<usize>> {
    let mut length = None;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // Most headers have another length.
        match header.name.len() {
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => return None,
            14 if is("content-length") => {
                if length.is_some() {
                    return None;
                }
                length = Some(number(header.value)?);
            }
            16 if is("content-encoding") => return None,
            17 if is("transfer-encoding") => return None,
            _ => {}
        }
    }
    Some(length)
}

/// Digits and nothing else, few enough that they cannot overflow.
fn number(text: &[u8]) -> Option<usize> {
    const DIGITS_MAX: usize = 9;
    if text.is_empty() || text.len() > DIGITS_MAX {
        return None;
    }
    text.iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0')))
}

/// Whether the HTTP library takes every byte as it is: it cuts a target at `#`, and refuses others.
fn is_plain(target: &str) -> bool {
    // Without a way out in the middle, so that many bytes are looked at at once.
    let is_odd = |byte: u8| !(0x21..=0x7e).contains(&byte) | matches!(byte, b'"' | b'#' | b'<' | b'>');
    !target.bytes().fold(false, |odd, byte| odd | is_odd(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bytes: &[u8]) -> Option<(Method, String, String, Option<Vec<u8>>)> {
        parse(bytes, &HttpLimits::default(), |request| {
            let PlainRequest { method, path, query, body, .. } = request;
            Some((method.clone(), (*path).to_owned(), (*query).to_owned(), body.map(<[u8]>::to_vec)))
        })
    }

    #[test]
    fn whole_requests_are_taken_with_all_that_they_say() {
        let get = taken(b"GET /a?b=%20c HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(get, Some((Method::GET, "/a".to_owned(), "b=%20c".to_owned(), None)));
        let post = taken(b"POST /a HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\nabc");
        assert_eq!(post, Some((Method::POST, "/a".to_owned(), String::new(), Some(b"abc".to_vec()))));
        parse(b"GET / HTTP/1.1\r\nA: 1\r\ncookie: x\r\na: 2\r\n\r\n", &HttpLimits::default(), |request| {
            let named: Vec<_> = request.all(&HeaderName::from_static("a")).collect();
            assert_eq!(named, [b"1", b"2"]);
            assert_eq!(request.first(&http::header::COOKIE), Some(&b"x"[..]));
            Some(())
        })
        .unwrap();
    }

    #[test]
    fn what_is_odd_in_any_way_is_left() {
        for text in [
            "",
            "GE",
            "GET / HTTP/1.1\r\nHost: x\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "HEAD / HTTP/1.1\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            "GET /?a#b HTTP/1.1\r\n\r\n",
            "GET /a#?b HTTP/1.1\r\n\r\n",
            "GET /a`?b HTTP/1.1\r\n\r\n",
            "GET /?a\"b HTTP/1.1\r\n\r\n",
            "GET /?é HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nab",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Encoding: gzip\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\na",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        ] {
            assert_eq!(taken(text.as_bytes()), None, "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(taken(many.as_bytes()), None);
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(40_000));
        assert_eq!(taken(long.as_bytes()), None);
    }
}
