//! The paths that every listener for operators answers: health and metrics.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::health::{Health, State};
use crate::http::{Response, bytes_answer, json};
use crate::metrics::{self, Metrics};
use crate::problem::Problem;

/// Answers `/health/live`, `/health/ready` and `/metrics`.
#[derive(Debug, Clone)]
pub struct Operations {
    pub health: Health,
    pub metrics: Metrics,
}

impl Operations {
    /// The paths that are answered.
    pub const PATHS: [&'static str; 3] = ["/health/live", "/health/ready", "/metrics"];

    /// The answer, or `None` if the path is not one of these.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response> {
        if !Self::PATHS.contains(&path) {
            return None;
        }
        if method != Method::GET && method != Method::HEAD {
            return Some(Problem::method_not_allowed("GET, HEAD").into_response());
        }
        Some(match path {
            "/health/live" => json(StatusCode::OK, &json!({"status": "live"})),
            "/health/ready" => self.ready(),
            _ => {
                self.count_parts();
                let text = self.metrics.render();
                bytes_answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
        })
    }

    /// For an alarm without a second probe. Numbers only: a part that has ended leaves no series behind.
    fn count_parts(&self) {
        let states = self.health.states();
        let not_ready = states.values().filter(|state| !state.is_ready()).count();
        let degraded = states.values().filter(|state| matches!(state, State::Degraded(_))).count();
        metrics::set_parts(not_ready, degraded);
    }

    fn ready(&self) -> Response {
        let mut parts = Map::new();
        let mut reasons = Map::new();
        let mut ready = true;
        for (part, state) in self.health.states() {
            match state {
                State::Ok => parts.insert(part.to_owned(), "ok".into()),
                State::Degraded(reason) => {
                    reasons.insert(part.to_owned(), Value::String(reason));
                    parts.insert(part.to_owned(), "degraded".into())
                }
                State::NotReady(reason) => {
                    ready = false;
                    reasons.insert(part.to_owned(), Value::String(reason));
                    parts.insert(part.to_owned(), "not_ready".into())
                }
            };
        }
        if reasons.is_empty() {
            json(StatusCode::OK, &json!({"status": "ready", "parts": parts}))
        } else if ready {
            let body = json!({"status": "ready", "parts": parts, "reasons": reasons});
            json(StatusCode::OK, &body)
        } else {
            let body = json!({"status": "not_ready", "parts": parts, "reasons": reasons});
            json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}
