//! Errors for the outside: `application/problem+json` with a stable `code`.
//!
//! Never tells what only the operator may know (paths, addresses, causes): that
//! goes to the log. What must stay true: a code once published keeps its
//! meaning, `detail` names the remedy, and `message` repeats it because SDKs
//! show that member.

use std::borrow::Cow;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::http::{Body, BodyError, Response};

/// One error answer.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable, `snake_case`; scripts branch on it.
    pub code: &'static str,
    pub title: &'static str,
    /// What happened here and what to do about it.
    pub detail: Cow<'static, str>,
    /// What few problems have; apart, because a problem travels in `Result`s.
    more: Option<Box<More>>,
}

#[derive(Debug, Clone, Default)]
struct More {
    members: Map<String, Value>,
    retry_after_s: Option<u32>,
    allow: Option<&'static str>,
    challenge: Option<&'static str>,
}

impl Problem {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        // Python SDKs take 403 for success and throw the data away.
        debug_assert!(status != StatusCode::FORBIDDEN, "403 must not be sent to SDKs");
        Self { status, code, title, detail: detail.into(), more: None }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// An additional member of the JSON object.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more().members.insert(name.to_owned(), value.into());
        self
    }

    /// Sets `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.more().retry_after_s = Some(seconds);
        self
    }

    /// Sets `Allow`, which 405 must have.
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.more().allow = Some(methods);
        self
    }

    /// Sets `WWW-Authenticate`, which 401 must have.
    #[must_use]
    pub fn challenge(mut self, scheme: &'static str) -> Self {
        self.more().challenge = Some(scheme);
        self
    }

    /// A bug on our side; what exactly is in the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Internal error",
            "The request failed on our side. Try again; if it stays, the server's log has the cause.",
        )
    }

    #[must_use]
    pub fn method_not_allowed(methods: &'static str) -> Self {
        let detail = format!("This path answers {methods}.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
            .allow(methods)
    }

    /// The body as JSON text.
    #[must_use]
    pub fn body(&self) -> String {
        let mut object = Map::new();
        object.insert("type".to_owned(), "about:blank".into());
        object.insert("title".to_owned(), self.title.into());
        object.insert("status".to_owned(), self.status.as_u16().into());
        object.insert("code".to_owned(), self.code.into());
        object.insert("detail".to_owned(), self.detail.as_ref().into());
        object.insert("message".to_owned(), self.detail.as_ref().into());
        if let Some(more) = &self.more {
            object.extend(more.members.clone());
        }
        Value::Object(object).to_string()
    }

    #[must_use]
    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::full(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(more) = self.more {
            more.insert(headers);
        }
        response
    }
}

impl More {
    fn insert(self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if let Some(scheme) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
    }
}

impl From<&BodyError> for Problem {
    fn from(error: &BodyError) -> Self {
        let (status, code, title) = match error {
            BodyError::TooLarge { .. } | BodyError::UnpacksTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large")
            }
            BodyError::Corrupt { .. } => (StatusCode::BAD_REQUEST, "body_encoding_invalid", "Bad encoding"),
            BodyError::Unsupported(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "body_encoding_unsupported", "Unsupported encoding")
            }
            BodyError::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "Body too slow"),
            BodyError::BrokenOff(_) => (StatusCode::BAD_REQUEST, "body_incomplete", "Body incomplete"),
        };
        Self::new(status, code, title, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_carries_its_code_and_the_remedy_twice() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "site_unknown", "Unknown site", "Create it.")
            .with("site", "shop")
            .retry_after(3);
        let value: Value = serde_json::from_str(&problem.body()).unwrap();
        assert_eq!(value["code"], "site_unknown");
        assert_eq!(value["detail"], "Create it.");
        assert_eq!(value["message"], "Create it.");
        assert_eq!(value["site"], "shop");
        let response = problem.into_response();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "3");
    }
}
