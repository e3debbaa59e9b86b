//! From a request to an answer.
//!
//! The steps stand in [`Ingest::receive`]: site, body, lines, log. Working memory for
//! parsing and the [`Lane`] to the log are kept per thread, so that no request waits
//! for another thread's.

mod lines;
mod plain;

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fanal_parser::parse_query;
use fanal_service::cors;
use fanal_service::health::Health;
use fanal_service::http::{
    Connection, Encoding, Fields, Handler, PlainAnswer, PlainRequest, Request, Response, read_body,
};
use fanal_service::problem::Problem;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Site, SiteDirectory};
use fanal_storage::log::{AppendError, Appender, Batch, Clock, EventLog, Topic};
use http::header::{CONTENT_LENGTH, SET_COOKIE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::access::{AccessLog, Seen};
use crate::address::client_address;
use crate::appends::Appends;
use crate::budget::{Budget, Share};
use crate::config::Settings;
use crate::key::AddressKey;
use crate::lane::{Lane, Ticket};
use crate::metrics::Counters;
use crate::rules::{Refused, RulesHandle, Subject};
use crate::{answers, metrics};
use lines::Incoming;

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
    rules: RulesHandle,
    access: AccessLog,
}

thread_local! {
    /// Where client addresses are written to.
    static ADDRESS: Cell<String> = const { Cell::new(String::new()) };
}

/// Where a request came in and whom it is for.
struct Door<'r> {
    site: Arc<Site>,
    body_ua: bool,
    address: Option<IpAddr>,
    connection: &'r Connection,
}

/// The cookie to set, and what to wait for.
type Written = (Option<HeaderValue>, Ticket);

/// Why the lines of a request are not in a batch.
struct Refusal {
    problem: Problem,
    set_cookie: Option<HeaderValue>,
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        answers::not_appended(&error).into()
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, set_cookie: None }
    }
}

impl Refusal {
    /// The answer and the code of the problem, which is counted.
    fn answer(self) -> (Response, Option<&'static str>) {
        let code = self.problem.code;
        metrics::request(code);
        let mut response = self.problem.into_response();
        set(response.headers_mut(), self.set_cookie);
        (response, Some(code))
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
        let (rules, access) = (RulesHandle::default(), AccessLog::new(settings.access_log_share));
        let counters = Counters::new();
        Self { log, lanes, appends, sites, settings, key, now_ms, bodies, counters, rules, access }
    }

    /// Follows these rules instead of none.
    #[must_use]
    pub fn with_rules(self, rules: RulesHandle) -> Self {
        Self { rules, ..self }
    }

    /// The paths that this role answers.
    pub const PATHS: [&'static str; 2] = ["/visit/events", "/visit/events.gif"];

    /// The answer to a tracking request or its preflight. Every answer, errors too,
    /// can be read by the page that sent the request.
    pub async fn handle(&self, request: Request, connection: &Connection) -> Response {
        if request.method() == Method::OPTIONS {
            return cors::preflight(request.headers(), answers::METHODS);
        }
        let entry = self.access.begin(|| seen(&request), connection);
        let (mut response, problem) = match self.receive(request, connection).await {
            Ok(response) => (response, None),
            Err(refusal) => refusal.answer(),
        };
        cors::allow(response.headers_mut());
        if let Some(entry) = entry {
            entry.end(response.status().as_u16(), problem);
        }
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

    async fn receive(&self, request: Request, connection: &Connection) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let as_image = as_image(parts.uri.path()).ok_or_else(answers::not_found)?;
        let has_body =
            has_body(&parts.method).ok_or_else(|| Problem::method_not_allowed(answers::METHODS))?;
        let door = self.door(query_of(&parts), &parts.headers, connection)?;
        // Thousands wait for the log at once, so that all of the request is let go before: its
        // lines are in the batch. Boxed, because a GET is not to carry the space that reading a
        // body takes.
        let (set_cookie, ticket) = match has_body {
            true => Box::pin(self.with_body(&door, &parts, body)).await?,
            false => self.write(&door, query_of(&parts), &parts.headers, None)?,
        };
        drop((door, parts));
        ticket.await.map_err(|error| answers::not_appended(&error))?;
        Ok(answers::accepted(as_image).response(set_cookie))
    }

    /// Looks at the head alone: whose it is, and whether it may go on.
    fn door<'r>(
        &self,
        query: &str,
        headers: &impl Fields,
        connection: &'r Connection,
    ) -> Result<Door<'r>, Problem> {
        let query = parse_query(query.as_bytes());
        let site_code = query.site_code.ok_or_else(answers::site_missing)?;
        let site = self.sites.get(&site_code).ok_or_else(|| answers::site_unknown(&site_code))?;
        let address = client_address(
            connection.peer.ip(),
            headers,
            &self.settings.trusted_proxies,
            self.settings.client_address_header,
        );
        let door = Door { site, body_ua: query.body_ua, address, connection };
        let rules = self.rules.load();
        if !rules.is_empty() {
            rules.request(&door.subject(headers)).map_err(refused)?;
        }
        Ok(door)
    }

    async fn with_body(
        &self,
        door: &Door<'_>,
        parts: &Parts,
        body: hyper::body::Incoming,
    ) -> Result<Written, Refusal> {
        // Given back when the lines are in the batch, which has bounds of its own.
        let share = self.bodies.share(self.settings.body.bytes_max);
        let body = self.body(&parts.headers, body, &share).await?;
        self.write(door, query_of(parts), &parts.headers, Some(&body))
    }

    /// Writes the lines into the lane's batch.
    fn write(
        &self,
        door: &Door<'_>,
        query: &str,
        headers: &impl Fields,
        body: Option<&[u8]>,
    ) -> Result<Written, Refusal> {
        let (site, connection) = (&door.site, door.connection);
        let mut reduced = ADDRESS.take();
        reduced.clear();
        if let Some(ip) = door.address {
            site.address_policy.apply_to(&mut reduced, ip, |bytes| self.key.hash(bytes));
        }
        let (rules, subject) = (self.rules.load(), door.subject(headers));
        let incoming = Incoming {
            site,
            query: query.as_bytes(),
            body,
            headers,
            client_address: &reduced,
            received_at_ms: (self.now_ms)(),
            rules: &rules,
            subject: &subject,
        };
        let lane = self.lane(connection.worker);
        let written = lane.write(|batch| self.lines(&incoming, connection.tls, batch));
        ADDRESS.set(reduced);
        written
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
}

impl<'r> Door<'r> {
    fn subject<'h>(&'h self, headers: &'h impl Fields) -> Subject<'h> {
        Subject {
            site_code: self.site.code.as_str(),
            address: self.address,
            header_user_agent: headers.first(&USER_AGENT).unwrap_or_default(),
            body_ua: self.body_ua,
        }
    }
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Quota { free_in } => answers::over_quota(free_in),
        Refused::Rule => answers::refused_by_rule(),
    }
}

impl<L: EventLog> Handler for Ingest<L> {
    const TAKES_PLAIN: bool = true;

    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        Self::handle(self, request, connection).await
    }

    fn plain(
        &self,
        request: &PlainRequest<'_>,
        connection: &Connection,
    ) -> Option<impl Future<Output = PlainAnswer> + Send + Unpin + use<L>> {
        Self::plain(self, request, connection)
    }
}

fn query_of(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

fn seen(request: &Request) -> Seen<'_> {
    let length = request.headers().get(CONTENT_LENGTH).map(HeaderValue::to_str);
    Seen {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        version: request.version(),
        body_bytes: length.and_then(|text| text.ok()?.parse().ok()),
    }
}

/// Whether this path of ours is answered with an image.
fn as_image(path: &str) -> Option<bool> {
    match path {
        "/visit/events" => Some(false),
        "/visit/events.gif" => Some(true),
        _ => None,
    }
}

/// Whether this method of ours comes with a body.
fn has_body(method: &Method) -> Option<bool> {
    match *method {
        Method::GET => Some(false),
        Method::POST => Some(true),
        _ => None,
    }
}

fn set(headers: &mut HeaderMap, cookie: Option<HeaderValue>) {
    if let Some(value) = cookie {
        headers.insert(SET_COOKIE, value);
    }
}
