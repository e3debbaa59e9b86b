//! Short ways to make the usual answers.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::{Body, Response};

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer of these bytes and this content type.
pub fn bytes_answer(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of `application/json`.
#[must_use]
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    bytes_answer(status, "application/json", value.to_string())
}
