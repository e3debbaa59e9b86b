//! From a request to an answer.
//!
//! The steps stand in [`Ingest::receive`]: site, body, lines, log. Working memory for
//! parsing and the [`Lane`] to the log are kept per thread, so that no request waits
//! for another thread's.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fanal_model::Source;
use fanal_parser::{Counts, Limits, Receiver, cookie_visitor, parse_query};
use fanal_service::cors;
use fanal_service::health::Health;
use fanal_service::http::{Connection, Encoding, Handler, Request, Response, read_body};
use fanal_service::problem::Problem;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Site, SiteDirectory};
use fanal_storage::log::{AppendError, Appender, Batch, Clock, EventLog, Topic};
use http::header::{COOKIE, REFERER, SET_COOKIE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::address::client_address;
use crate::appends::Appends;
use crate::budget::{Budget, Share};
use crate::config::Settings;
use crate::key::AddressKey;
use crate::lane::{Lane, Ticket, Written};
use crate::metrics::Counters;
use crate::sink::BatchSink;
use crate::{answers, cookie, metrics};

/// How often a log that takes nothing is asked again.
const PROBE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Threads that have a lane of their own; more share them.
const LANES_MAX: usize = 256;

/// The collector, for the requests of all its listeners.
pub struct Ingest<L = Appender> {
    log: L,
    /// One for each thread that serves connections, made when it gets its first request.
    lanes: Box<[OnceLock<Lane<L, Appends>>]>,
    appends: Arc<Appends>,
    sites: SiteDirectory,
    settings: Settings,
    key: AddressKey,
    now_ms: Clock,
    bodies: Budget,
    counters: Counters,
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

/// Where a request came in and whom it is for.
struct Door<'r> {
    site: Arc<Site>,
    as_image: bool,
    connection: &'r Connection,
}

/// Why the lines of a request are not in a batch.
struct Refusal(Problem);

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        Self(answers::not_appended(&error))
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
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
        let bodies = Budget::new(settings.bodies_bytes_max);
        let lanes = (0..LANES_MAX).map(|_| OnceLock::new()).collect();
        let appends = Arc::new(Appends::new(health));
        Self { log, lanes, appends, sites, settings, key, now_ms, bodies, counters: Counters::new() }
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
                self.counters.requests_accepted.increment(1);
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
            if !self.appends.are_taken() {
                let mut probe = Batch::new();
                // An import position without a file: readers pass over it.
                if probe.push(Topic::Positions, b"", |_| {}).is_ok() {
                    self.appends.report(&self.log.append(probe).await.map(|_| ()));
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
        let has_body = match parts.method {
            Method::GET => false,
            Method::POST => true,
            _ => return Err(Problem::method_not_allowed(answers::METHODS)),
        };
        let site_code = parse_query(query_of(&parts)).site_code.ok_or_else(answers::site_missing)?;
        let site = self.sites.get(&site_code).ok_or_else(|| answers::site_unknown(&site_code))?;
        drop(site_code);
        let door = Door { site, as_image, connection };
        // Thousands wait for the log at once, so that all of the request is let go before:
        // its lines are in the batch, the answer is made. Boxed, because a GET is not to
        // carry the space that reading a body takes.
        let (response, ticket) = match has_body {
            true => Box::pin(self.with_body(door, parts, body)).await?,
            false => self.write(&door, parts, None)?,
        };
        ticket.await.map_err(|error| answers::not_appended(&error))?;
        Ok(response)
    }

    async fn with_body(
        &self,
        door: Door<'_>,
        parts: Parts,
        body: hyper::body::Incoming,
    ) -> Result<(Response, Ticket), Problem> {
        // Given back when the lines are in the batch, which has bounds of its own.
        let share = self.bodies.share(self.settings.body.bytes_max);
        let body = self.body(&parts.headers, body, &share).await?;
        self.write(&door, parts, Some(&body))
    }

    /// Writes the lines into the lane's batch; the answer for when that is durable.
    fn write(
        &self,
        door: &Door<'_>,
        parts: Parts,
        body: Option<&[u8]>,
    ) -> Result<(Response, Ticket), Problem> {
        let (site, connection) = (&door.site, door.connection);
        let address = client_address(
            connection.peer.ip(),
            &parts.headers,
            &self.settings.trusted_proxies,
            self.settings.client_address_header,
        );
        let reduced = address.map(|ip| site.address_policy.apply(ip, |bytes| self.key.hash(bytes)));
        let incoming = Incoming {
            site,
            query: query_of(&parts),
            body,
            headers: &parts.headers,
            client_address: reduced.as_deref().unwrap_or_default(),
            received_at_ms: (self.now_ms)(),
        };
        let lane = self.lane(connection.worker);
        let written = lane.write(|batch| self.lines(&incoming, connection.tls, batch));
        let (set_cookie, ticket) = written.map_err(|Refusal(problem)| problem)?;
        let mut response = answers::accepted(door.as_image, parts.headers);
        if let Some(value) = set_cookie {
            response.headers_mut().insert(SET_COOKIE, value);
        }
        Ok((response, ticket))
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

    fn lane(&self, worker: usize) -> &Lane<L, Appends> {
        self.lanes[worker % LANES_MAX].get_or_init(|| {
            Lane::new(self.log.local(), Arc::clone(&self.appends), self.settings.lane_bytes_max)
        })
    }

    /// Parses the lines into a batch; also says which cookie to set.
    fn lines<'r>(
        &self,
        incoming: &Incoming<'r>,
        tls: bool,
        batch: &mut Batch,
    ) -> Result<(Option<HeaderValue>, Written<'r>), Refusal> {
        let sent = visitor_cookie(incoming.headers);
        let mark = batch.mark();
        let (mut counts, lacks_visitor) = self.parse(incoming, sent.as_deref(), batch)?;
        let mut set_cookie = None;
        if let Some(settings) = &incoming.site.visitor_cookie {
            if let Some(code) = &sent {
                set_cookie = cookie::set_cookie(code, settings, tls);
                metrics::cookie("refreshed");
            } else if counts.accepted == 0 && lacks_visitor {
                // No line named a visitor, so this browser is new to us.
                let code = cookie::new_code();
                batch.rewind(mark);
                (counts, _) = self.parse(incoming, Some(&code), batch)?;
                set_cookie = cookie::set_cookie(&code, settings, tls);
                metrics::cookie("set");
            }
        }
        self.counters.lines(incoming.body.map_or(incoming.query.len(), <[u8]>::len), counts);
        let minute_ms = incoming.received_at_ms - incoming.received_at_ms % 60_000;
        Ok((set_cookie, Written { site_code: incoming.site.code.as_str(), minute_ms, counts }))
    }

    /// The counts, and whether a line was rejected because it names no visitor.
    fn parse(
        &self,
        incoming: &Incoming<'_>,
        cookie: Option<&str>,
        batch: &mut Batch,
    ) -> Result<(Counts, bool), Problem> {
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
        SCRATCH.with_borrow_mut(|scratch| {
            let limits = self.settings.lines;
            // A process may run collectors with different limits, in tests at least.
            let scratch = match scratch {
                Some(known) if known.limits == limits => known,
                other => other.insert(Scratch::new(limits)),
            };
            let mut sink = BatchSink::new(batch, &mut scratch.key, self.settings.request_bytes_max);
            let counts = scratch.receiver.receive(&request, &mut sink).map_err(answers::too_many)?;
            if sink.overflowed() { Err(answers::too_large()) } else { Ok((counts, sink.lacks_visitor())) }
        })
    }
}

impl<L: EventLog> Handler for Ingest<L> {
    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        Self::handle(self, request, connection).await
    }
}

fn query_of(parts: &Parts) -> &[u8] {
    parts.uri.query().unwrap_or_default().as_bytes()
}

/// HTTP/2 may send each cookie in a header of its own.
fn visitor_cookie(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    headers.get_all(COOKIE).iter().find_map(|header| cookie_visitor(header.as_bytes()))
}
