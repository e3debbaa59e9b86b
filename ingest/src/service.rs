//! From a request to an answer.
//!
//! The steps stand in [`Ingest::receive`]: site, body, lines, log. Working memory
//! for parsing is kept per thread, so that no request waits for another's.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use fanal_model::{RejectReason, Source};
use fanal_parser::{Counts, Limits, Receiver, cookie_visitor, parse_query};
use fanal_service::cors;
use fanal_service::health::Health;
use fanal_service::http::{Connection, Encoding, Handler, Request, Response, read_body};
use fanal_service::problem::Problem;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Site, SiteDirectory};
use fanal_storage::log::{AppendError, Appender, Batch, Clock, EventLog, Topic};
use http::header::{COOKIE, REFERER, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};

use crate::address::client_address;
use crate::budget::{Budget, Share};
use crate::config::Settings;
use crate::key::AddressKey;
use crate::sink::BatchSink;
use crate::{answers, cookie, metrics};

/// The part of readiness that this role reports.
const HEALTH_PART: &str = "event_log";
/// How often a log that takes nothing is asked again.
const PROBE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// Records of a request repeat its headers; more than this per body byte is rare.
const BATCH_RESERVE_MAX: usize = 64 << 10;

/// The collector, for the requests of all its listeners.
pub struct Ingest<L = Appender> {
    log: L,
    sites: SiteDirectory,
    settings: Settings,
    key: AddressKey,
    now_ms: Clock,
    health: Health,
    bodies: Budget,
    /// Whether the log took the last append.
    taking: AtomicBool,
}

/// Working memory of one thread.
struct Scratch {
    limits: Limits,
    receiver: Receiver,
    key: Vec<u8>,
}

impl Scratch {
    fn new(limits: Limits) -> Self {
        Self { limits, receiver: Receiver::new(limits), key: Vec::new() }
    }
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// A request as far as its lines are concerned.
struct Incoming<'r> {
    site: &'r Site,
    query: &'r [u8],
    body: Option<&'r [u8]>,
    headers: &'r HeaderMap,
    client_address: &'r str,
    received_at_ms: u64,
}

impl<L: EventLog> Ingest<L> {
    /// `now_ms` gives the time of receipt.
    pub fn new(
        log: L,
        sites: SiteDirectory,
        settings: Settings,
        key: AddressKey,
        now_ms: Clock,
        health: Health,
    ) -> Self {
        health.ok(HEALTH_PART);
        let bodies = Budget::new(settings.bodies_bytes_max);
        Self { log, sites, settings, key, now_ms, health, bodies, taking: AtomicBool::new(true) }
    }

    /// The paths that this role answers.
    pub const PATHS: [&'static str; 2] = ["/visit/events", "/visit/events.gif"];

    /// The answer to a tracking request or its preflight. Every answer, errors too,
    /// can be read by the page that sent the request.
    pub async fn handle(&self, request: Request, connection: &Connection) -> Response {
        if request.method() == Method::OPTIONS {
            return cors::preflight(request.headers(), answers::METHODS);
        }
        let mut response = match self.receive(request, connection).await {
            Ok(response) => {
                metrics::request("accepted");
                response
            }
            Err(problem) => {
                metrics::request(problem.code);
                problem.into_response()
            }
        };
        cors::allow(response.headers_mut());
        response
    }

    /// While the log takes nothing, asks it once a second, so that readiness comes
    /// back although nobody sends. Ends with `stop`.
    pub async fn watch_log(&self, stop: &Stop) {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
            }
            if !self.taking.load(Ordering::Acquire) {
                let mut probe = Batch::new();
                // An import position without a file: readers pass over it.
                if probe.push(Topic::Positions, b"", |_| {}).is_ok() {
                    self.append(probe).await.ok();
                }
            }
        }
    }

    async fn receive(&self, request: Request, connection: &Connection) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let as_image = match parts.uri.path() {
            "/visit/events" => false,
            "/visit/events.gif" => true,
            _ => return Err(answers::not_found()),
        };
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let has_body = match parts.method {
            Method::GET => false,
            Method::POST => true,
            _ => return Err(Problem::method_not_allowed(answers::METHODS)),
        };
        let site_code = parse_query(query).site_code.ok_or_else(answers::site_missing)?;
        let site = self.sites.get(&site_code).ok_or_else(|| answers::site_unknown(&site_code))?;
        // Given back when the request is answered.
        let share = self.bodies.share(self.settings.body.bytes_max);
        let body = match has_body {
            true => Some(self.body(&parts.headers, body, &share).await?),
            false => None,
        };
        let address = client_address(
            connection.peer.ip(),
            &parts.headers,
            &self.settings.trusted_proxies,
            self.settings.client_address_header,
        );
        let reduced = address.map(|ip| site.address_policy.apply(ip, |bytes| self.key.hash(bytes)));
        let incoming = Incoming {
            site: &site,
            query,
            body: body.as_deref(),
            headers: &parts.headers,
            client_address: reduced.as_deref().unwrap_or_default(),
            received_at_ms: (self.now_ms)(),
        };
        let (batch, set_cookie) = self.lines(&incoming, connection.tls)?;
        self.append(batch).await.map_err(|error| answers::not_appended(&error))?;
        let mut response = answers::accepted(as_image);
        if let Some(value) = set_cookie {
            response.headers_mut().insert(SET_COOKIE, value);
        }
        Ok(response)
    }

    async fn body(
        &self,
        headers: &HeaderMap,
        body: hyper::body::Incoming,
        share: &Share<'_>,
    ) -> Result<Bytes, Problem> {
        let encoding = Encoding::of(headers).map_err(|error| Problem::from(&error))?;
        let read = read_body(share.meter(body), self.settings.body, encoding).await;
        read.map_err(|error| if share.was_refused() { answers::busy() } else { Problem::from(&error) })
    }

    /// Parses the lines into a batch; also says which cookie to set.
    fn lines(&self, incoming: &Incoming<'_>, tls: bool) -> Result<(Batch, Option<HeaderValue>), Problem> {
        let sent = visitor_cookie(incoming.headers);
        let (mut batch, mut counts) = self.parse(incoming, sent.as_deref())?;
        let Some(settings) = &incoming.site.visitor_cookie else {
            metrics::lines(incoming.body.map_or(incoming.query.len(), <[u8]>::len), counts);
            return Ok((batch, None));
        };
        let mut set_cookie = None;
        if let Some(code) = &sent {
            set_cookie = cookie::set_cookie(code, settings, tls);
            metrics::cookie("refreshed");
        } else if counts.accepted == 0 && lacks_visitor(&batch) {
            // No line named a visitor, so this browser is new to us.
            let code = cookie::new_code();
            (batch, counts) = self.parse(incoming, Some(&code))?;
            set_cookie = cookie::set_cookie(&code, settings, tls);
            metrics::cookie("set");
        }
        metrics::lines(incoming.body.map_or(incoming.query.len(), <[u8]>::len), counts);
        Ok((batch, set_cookie))
    }

    fn parse(&self, incoming: &Incoming<'_>, cookie: Option<&str>) -> Result<(Batch, Counts), Problem> {
        let header = |name| incoming.headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
        let request = fanal_parser::Request {
            site_code: incoming.site.code.as_str(),
            received_at_ms: incoming.received_at_ms,
            query: incoming.query,
            body: incoming.body,
            cookie_visitor: cookie,
            header_user_agent: header(USER_AGENT),
            referer: header(REFERER),
            client_address: incoming.client_address,
            source: Source::Http,
            node: &self.settings.node,
        };
        let bytes = incoming.body.map_or(incoming.query.len(), <[u8]>::len);
        let mut batch = Batch::with_capacity((bytes * 2 + 512).min(BATCH_RESERVE_MAX));
        let counts = SCRATCH.with_borrow_mut(|scratch| {
            let limits = self.settings.lines;
            // A process may run collectors with different limits, in tests at least.
            let scratch = match scratch {
                Some(known) if known.limits == limits => known,
                other => other.insert(Scratch::new(limits)),
            };
            let mut sink = BatchSink::new(&mut batch, &mut scratch.key, self.settings.request_bytes_max);
            let counts = scratch.receiver.receive(&request, &mut sink).map_err(answers::too_many)?;
            if sink.overflowed() { Err(answers::too_large()) } else { Ok(counts) }
        })?;
        let minute_ms = incoming.received_at_ms - incoming.received_at_ms % 60_000;
        if counts.received > 0 {
            let Counts { received, accepted, rejected } = counts;
            batch.receipt(minute_ms, request.site_code, received, accepted, rejected);
        }
        Ok((batch, counts))
    }

    /// Appends and reports what that says about the log.
    async fn append(&self, batch: Batch) -> Result<(), AppendError> {
        let started = Instant::now();
        let result = self.log.append(batch).await;
        metrics::append(started.elapsed().as_secs_f64());
        match &result {
            Ok(_) => {
                if !self.taking.swap(true, Ordering::AcqRel) {
                    self.health.ok(HEALTH_PART);
                }
            }
            // These say nothing about the next request.
            Err(AppendError::TooLarge { .. } | AppendError::Overloaded) => {}
            Err(error) => {
                self.taking.store(false, Ordering::Release);
                self.health.not_ready(HEALTH_PART, error.to_string());
            }
        }
        result.map(|_| ())
    }
}

impl<L: EventLog> Handler for Ingest<L> {
    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        Self::handle(self, request, connection).await
    }
}

/// HTTP/2 may send each cookie in a header of its own.
fn visitor_cookie(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    headers.get_all(COOKIE).iter().find_map(|header| cookie_visitor(header.as_bytes()))
}

fn lacks_visitor(batch: &Batch) -> bool {
    let reason = RejectReason::MissingVisitor.name();
    batch.records().any(|(topic, _, value)| {
        topic == Topic::Dead
            && fanal_model::DeadLetter::decode(value).is_ok_and(|letter| letter.reason == reason)
    })
}
