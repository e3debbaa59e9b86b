//! The lines of one request, into the lane's batch.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Instant;

use fanal_model::Source;
use fanal_parser::{Counts, Limits, Receiver, cookie_visitor};
use fanal_service::http::Fields;
use fanal_service::problem::Problem;
use fanal_storage::catalogue::Site;
use fanal_storage::log::{Batch, EventLog};
use http::HeaderValue;
use http::header::{COOKIE, REFERER, USER_AGENT};

use super::{Ingest, Refusal};
use crate::lane::Written;
use crate::rules::{Rules, Subject};
use crate::sink::BatchSink;
use crate::{answers, cookie, metrics};

/// One request in so many is timed while it is parsed: two looks at the clock are a part of
/// what that takes.
const PARSE_TIMED_EVERY: u32 = 32;

/// Working memory of one thread.
struct Scratch {
    requests: u32,
    limits: Limits,
    receiver: Receiver,
    key: Vec<u8>,
}

impl Scratch {
    fn new(limits: Limits) -> Self {
        Self { requests: 0, limits, receiver: Receiver::new(limits), key: Vec::new() }
    }
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// A request as far as its lines are concerned.
pub(super) struct Incoming<'r, F> {
    pub(super) site: &'r Site,
    pub(super) query: &'r [u8],
    pub(super) body: Option<&'r [u8]>,
    pub(super) headers: &'r F,
    pub(super) client_address: &'r str,
    pub(super) received_at_ms: u64,
    pub(super) rules: &'r Rules,
    pub(super) subject: &'r Subject<'r>,
}

/// What became of the lines.
struct Parsed {
    counts: Counts,
    /// Kept out by rules.
    refused: u64,
    /// A line was rejected because it names no visitor.
    lacks_visitor: bool,
}

impl<L: EventLog> Ingest<L> {
    /// Parses the lines into a batch; also says which cookie to set.
    pub(super) fn lines<'r, F: Fields>(
        &self,
        incoming: &Incoming<'r, F>,
        tls: bool,
        batch: &mut Batch,
    ) -> Result<(Option<HeaderValue>, Written<'r>), Refusal> {
        let sent = visitor_cookie(incoming.headers);
        let mark = batch.mark();
        let mut parsed = self.parse(incoming, sent.as_deref(), batch)?;
        let mut set_cookie = None;
        if let Some(settings) = &incoming.site.visitor_cookie {
            if let Some(code) = &sent {
                set_cookie = cookie::set_cookie(code, settings, tls);
                metrics::cookie("refreshed");
            } else if parsed.counts.accepted + parsed.refused == 0 && parsed.lacks_visitor {
                // No line named a visitor, so this browser is new to us.
                let code = cookie::new_code();
                batch.rewind(mark);
                parsed = self.parse(incoming, Some(&code), batch)?;
                set_cookie = cookie::set_cookie(&code, settings, tls);
                metrics::cookie("set");
            }
        }
        let Parsed { counts, refused, .. } = parsed;
        // Nothing is left of it, so that nobody may be told that something was kept. With the
        // cookie a visitor outside of a sample stays outside.
        if refused > 0 && counts.received == 0 {
            return Err(Refusal { problem: answers::refused_by_rule(), set_cookie });
        }
        if !incoming.rules.is_empty() {
            incoming.rules.charge(incoming.site.code.as_str(), counts.received);
        }
        self.counters.lines(incoming.body.map_or(incoming.query.len(), <[u8]>::len), counts);
        let minute_ms = incoming.received_at_ms - incoming.received_at_ms % 60_000;
        Ok((set_cookie, Written { site_code: incoming.site.code.as_str(), minute_ms, counts }))
    }

    /// Writes the lines that are kept into the batch.
    fn parse<F: Fields>(
        &self,
        incoming: &Incoming<'_, F>,
        cookie: Option<&str>,
        batch: &mut Batch,
    ) -> Result<Parsed, Problem> {
        let header = |name| incoming.headers.first(name).unwrap_or_default();
        let request = fanal_parser::Request {
            site_code: incoming.site.code.as_str(),
            received_at_ms: incoming.received_at_ms,
            query: incoming.query,
            body: incoming.body,
            cookie_visitor: cookie,
            header_user_agent: header(&USER_AGENT),
            referer: header(&REFERER),
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
            scratch.requests = scratch.requests.wrapping_add(1);
            let timed = scratch.requests.is_multiple_of(PARSE_TIMED_EVERY).then(Instant::now);
            let mut sink = BatchSink::new(batch, &mut scratch.key, self.settings.request_bytes_max)
                .with_rules(incoming.rules.lines(incoming.subject));
            let counts = scratch.receiver.receive(&request, &mut sink).map_err(answers::too_many)?;
            if let Some(began) = timed {
                self.appends.stages.parse.record(began.elapsed().as_secs_f64());
            }
            if sink.overflowed() {
                return Err(answers::too_large());
            }
            let (refused, lacks_visitor) = (sink.refused(), sink.lacks_visitor());
            Ok(Parsed { counts: without(counts, refused), refused, lacks_visitor })
        })
    }
}

/// Lines that rules kept out count as never received.
fn without(counts: Counts, refused: u64) -> Counts {
    Counts { received: counts.received - refused, accepted: counts.accepted - refused, ..counts }
}

/// HTTP/2 may send each cookie in a header of its own.
fn visitor_cookie(headers: &impl Fields) -> Option<Cow<'_, str>> {
    headers.all(&COOKIE).find_map(cookie_visitor)
}
