//! Cross-origin rules for browsers: every answer is readable by every page.
//!
//! Never allows credentials: SDKs send none, so `*` is enough. What must stay
//! true: errors and 304 carry the header too, and preflights are cached, or
//! every beacon of a page would cost two requests.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::http::{Response, empty};

/// How long a browser may keep a preflight answer; browsers cut it to their own limit.
const MAX_AGE_S: &str = "86400";
/// What SDKs ask for; always allowed.
const ALLOWED_HEADERS: &str =
    "content-type, x-kameleoon-sdk-type, x-kameleoon-sdk-version, if-modified-since, authorization";
/// What else a page asks for is echoed up to this length.
const ASKED_BYTES_MAX: usize = 512;

/// Makes an answer readable by every page.
pub fn allow(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// The answer to a preflight request. `methods` is what the path answers, such as `GET, POST`.
#[must_use]
pub fn preflight(asked: &HeaderMap, methods: &'static str) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    allow(headers);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(asked));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
    response
}

fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let fixed = HeaderValue::from_static(ALLOWED_HEADERS);
    let Some(asked) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()) else {
        return fixed;
    };
    if asked.len() > ASKED_BYTES_MAX {
        return fixed;
    }
    let more: Vec<&str> = asked
        .split(',')
        .map(str::trim)
        .filter(|name| {
            !name.is_empty() && !ALLOWED_HEADERS.split(", ").any(|known| known.eq_ignore_ascii_case(name))
        })
        .filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b)))
        .collect();
    if more.is_empty() {
        return fixed;
    }
    HeaderValue::from_str(&format!("{ALLOWED_HEADERS}, {}", more.join(", "))).unwrap_or(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preflight_allows_what_sdks_ask_and_echoes_the_rest() {
        let mut asked = HeaderMap::new();
        asked.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("Content-Type,x-mine"));
        let response = preflight(&asked, "GET, POST");
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()["access-control-allow-headers"], format!("{ALLOWED_HEADERS}, x-mine"));
        assert_eq!(response.headers()["access-control-max-age"], "86400");
        assert_eq!(response.headers()["access-control-allow-methods"], "GET, POST");
    }

    #[test]
    fn a_long_or_odd_list_of_headers_is_not_echoed() {
        for odd in ["x".repeat(600), "a b".to_owned(), "a;b".to_owned()] {
            let mut asked = HeaderMap::new();
            asked.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_str(&odd).unwrap());
            let allowed = preflight(&asked, "GET").headers()["access-control-allow-headers"].clone();
            assert_eq!(allowed, ALLOWED_HEADERS, "{odd}");
        }
    }
}
