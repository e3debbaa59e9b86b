//! `GET /sse?siteCode=`: tells SDKs that a configuration was published.
//!
//! Never sends the configuration itself: SDKs fetch it. What must stay true: an
//! event goes out only when the new file is served; a client that does not read
//! is dropped and costs no memory; a stop ends every stream.

use std::time::Duration;

use bytes::Bytes;
use fanal_service::cors;
use fanal_service::http::{Body, Connection, Handler, Request, Response};
use fanal_service::problem::Problem;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Catalogue, Publication};
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::query::Query;
use crate::{metrics, unknown_site};

/// Between comments; proxies and browsers close streams that stay silent.
const COMMENT_INTERVAL: Duration = Duration::from_secs(20);
/// What browsers and proxies must see at once to know that the stream stands.
const GREETING: &str = ": open\n\n";
const COMMENT: &str = ": still here\n\n";
const METHODS: &str = "GET, OPTIONS";

/// Serves the real-time port.
#[derive(Debug)]
pub struct SseHandler {
    catalogue: Catalogue,
    stop: Stop,
    comment_interval: Duration,
}

impl SseHandler {
    #[must_use]
    pub fn new(catalogue: Catalogue, stop: Stop) -> Self {
        Self { catalogue, stop, comment_interval: COMMENT_INTERVAL }
    }

    /// Comments at another interval than the usual one.
    #[must_use]
    pub fn comment_every(mut self, interval: Duration) -> Self {
        self.comment_interval = interval;
        self
    }

    fn answer(&self, request: &Request) -> Response {
        if request.uri().path() != "/sse" {
            let detail = "There is nothing here. This port answers GET /sse?siteCode=; everything else is on the main port.";
            return Problem::new(StatusCode::NOT_FOUND, "path_unknown", "Unknown path", detail)
                .into_response();
        }
        match *request.method() {
            Method::OPTIONS => cors::preflight(request.headers(), METHODS),
            Method::GET => self.stream(request).unwrap_or_else(Problem::into_response),
            _ => Problem::method_not_allowed(METHODS).into_response(),
        }
    }

    fn stream(&self, request: &Request) -> Result<Response, Problem> {
        let query = Query::of(request.uri());
        let site_code = query.get("siteCode").ok_or_else(|| {
            let detail = "Add `siteCode` to the query: the code of the site that the SDK was given.";
            Problem::new(StatusCode::BAD_REQUEST, "site_missing", "No site", detail)
        })?;
        if !self.catalogue.sites().contains(&site_code) {
            return Err(unknown_site(&site_code));
        }
        let events = events(Listening {
            site_code: site_code.into_owned(),
            publications: self.catalogue.publications(),
            comments: comments(self.comment_interval),
            stop: self.stop.clone(),
            greeted: false,
            _open: metrics::OpenStream::new(),
        });
        let mut response = Response::new(Body::stream(events));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx in front would hold events back until its buffer is full.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Ok(response)
    }
}

impl Handler for SseHandler {
    async fn handle(&self, request: Request, _: &Connection) -> Response {
        let mut response = self.answer(&request);
        cors::allow(response.headers_mut());
        metrics::answered("sse", response.status());
        response
    }
}

fn comments(interval: Duration) -> Interval {
    let mut comments = interval_at(Instant::now() + interval, interval);
    comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    comments
}

/// One stream.
struct Listening {
    site_code: String,
    publications: Receiver<Publication>,
    comments: Interval,
    stop: Stop,
    greeted: bool,
    _open: metrics::OpenStream,
}

fn events(listening: Listening) -> impl Stream<Item = Bytes> + Send {
    futures_util::stream::unfold(listening, |mut listening| async move {
        let next = listening.next().await?;
        Some((next, listening))
    })
}

impl Listening {
    /// What is sent next; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            return Some(Bytes::from_static(GREETING.as_bytes()));
        }
        loop {
            tokio::select! {
                biased;
                () = self.stop.stopped() => return None,
                heard = self.publications.recv() => match heard {
                    Ok(publication) if publication.site.as_str() == self.site_code => {
                        metrics::event_sent();
                        return Some(event(&publication));
                    }
                    Ok(_) => {}
                    // So far behind that events are lost: the client connects again and fetches.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
                },
                _ = self.comments.tick() => return Some(Bytes::from_static(COMMENT.as_bytes())),
            }
        }
    }
}

/// A site code needs no escaping in JSON.
fn event(publication: &Publication) -> Bytes {
    let (site, ts) = (&publication.site, publication.published_at_ms);
    Bytes::from(format!(
        "event: configuration-update-event\ndata: {{\"siteCode\": \"{site}\", \"ts\": {ts}}}\n\n"
    ))
}
