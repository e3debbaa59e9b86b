//! One line: its values, and what it means.
//!
//! Never decides what a site may do with an address. What must stay true: a line is a
//! request, is ignored for one reason, or is rejected for one; only of a request are
//! values decoded.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use fanal_model::RejectReason;

use super::escape::Escape;
use super::shape::{MethodForm, Shape, Slot, TargetForm};
use super::time;
use crate::cookie::{cookie_value, cookie_visitor};
use crate::query::{names_an_event, site_code};

/// The values of one line, as they stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// The time of the request in milliseconds.
    pub received_at_ms: u64,
    pub status: u16,
    shape: Shape,
    slots: [&'a [u8]; Slot::COUNT],
}

/// What a log line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutcome<'a> {
    Request(LogRequest<'a>),
    /// Not a tracking request that was answered; no event was received.
    Ignored(IgnoreReason),
}

/// Why a log line is no tracking request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IgnoreReason {
    NotTracking,
    NotGetOrPost,
    /// The sender was told that it failed, and sends again.
    StatusNot2xx,
}

impl IgnoreReason {
    /// The name in counts and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotTracking => "not_tracking",
            Self::NotGetOrPost => "not_get_or_post",
            Self::StatusNot2xx => "status_not_2xx",
        }
    }
}

/// A tracking request out of a log, all but the policy of its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest<'a> {
    pub received_at_ms: u64,
    pub site_code: Cow<'a, str>,
    pub query: &'a [u8],
    /// `None` for a GET.
    pub body: Option<&'a [u8]>,
    pub cookie_visitor: Option<Cow<'a, str>>,
    pub user_agent: &'a [u8],
    pub referer: &'a [u8],
    /// `None` when nginx had no address, such as behind a local socket.
    pub client_address: Option<IpAddr>,
}

/// Working memory for [`LogLine::outcome`], kept between lines.
#[derive(Debug, Default)]
pub struct Scratch {
    decoded: Vec<u8>,
}

/// Working memory above this is given back after the line that needed it.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

impl<'a> LogLine<'a> {
    #[inline]
    pub(super) fn of(shape: Shape, slots: [&'a [u8]; Slot::COUNT]) -> Option<Self> {
        Some(Self {
            received_at_ms: shape.time.milliseconds(slots[Slot::Time as usize])?,
            status: time::status(slots[Slot::Status as usize])?,
            shape,
            slots,
        })
    }

    /// What the line means, with values decoded into `scratch` where they are escaped.
    ///
    /// `MalformedLogLine` when an escape is broken, or a POST has no body (the format
    /// has none, or nginx kept it in a file: what it held is lost).
    /// `UnknownSite` when the query names no site.
    pub fn outcome<'s>(&self, scratch: &'s mut Scratch) -> Result<LogOutcome<'s>, RejectReason>
    where
        'a: 's,
    {
        let Some(query) = self.tracking_query() else {
            return Ok(LogOutcome::Ignored(IgnoreReason::NotTracking));
        };
        let Some(is_get) = self.is_get(query) else {
            return Ok(LogOutcome::Ignored(IgnoreReason::NotGetOrPost));
        };
        if !(200..300).contains(&self.status) {
            return Ok(LogOutcome::Ignored(IgnoreReason::StatusNot2xx));
        }
        let slot = |slot: Slot| self.value(slot);
        // The body of a GET means nothing, but a broken escape in it is damage all the same.
        let texts = [
            query,
            slot(Slot::UserAgent),
            slot(Slot::Referer),
            slot(Slot::Cookie),
            slot(Slot::Visitor),
            slot(Slot::Body),
        ];
        let [query, user_agent, referer, cookie, visitor, body] =
            decoded(self.shape.escape, texts, &mut scratch.decoded).ok_or(RejectReason::MalformedLogLine)?;
        if !is_get && body.is_empty() {
            return Err(RejectReason::MalformedLogLine);
        }
        Ok(LogOutcome::Request(LogRequest {
            received_at_ms: self.received_at_ms,
            site_code: site_code(query).ok_or(RejectReason::UnknownSite)?,
            query,
            body: (!is_get).then_some(body),
            cookie_visitor: cookie_value(visitor).or_else(|| cookie_visitor(cookie)),
            user_agent,
            referer,
            client_address: self.client_address(),
        }))
    }

    /// The line as the format `fanal` has it, without its end and with another text
    /// for the address. `false`, and nothing is appended, where an escape is broken.
    #[must_use]
    pub fn write_fanal(&self, address: &str, out: &mut Vec<u8>) -> bool {
        let (start, mut value) = (out.len(), Vec::new());
        let (seconds, ms) = (self.received_at_ms / 1_000, self.received_at_ms % 1_000);
        out.extend_from_slice(format!("{seconds}.{ms:03}").as_bytes());
        let (method, target) = self.method_and_target();
        let guessed: &[u8] = if self.value(Slot::Body).is_empty() { b"GET" } else { b"POST" };
        let cookie = match self.value(Slot::Visitor) {
            b"" => [&b""[..], self.value(Slot::Cookie)],
            visitor => [&b"kameleoonVisitorCode="[..], visitor],
        };
        let query = match (self.shape.target, self.query()) {
            (TargetForm::Path, query) if !query.is_empty() => [&b"?"[..], query],
            _ => [&b""[..]; 2],
        };
        for column in [
            &[address.as_bytes()][..],
            &[method.unwrap_or(guessed)],
            &[target, query[0], query[1]],
            &[format!("{:03}", self.status).as_bytes()],
            &[self.value(Slot::UserAgent)],
            &[self.value(Slot::Referer)],
            &cookie,
            &[self.value(Slot::Body)],
        ] {
            value.clear();
            if !column.iter().all(|text| self.shape.escape.decode(text, &mut value).is_some()) {
                out.truncate(start);
                return false;
            }
            out.push(b'\t');
            Escape::write_default(&value, out);
        }
        true
    }

    /// The address of the client, if it is one.
    #[must_use]
    pub fn client_address(&self) -> Option<IpAddr> {
        let text = str::from_utf8(self.value(Slot::Address)).ok()?;
        let text = match self.shape.address_is_list {
            true => text.rsplit(',').next().unwrap_or_default().trim(),
            false => text,
        };
        // Some proxies write the port as well.
        text.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
    }

    /// What stands in a slot; empty when there was no value.
    #[inline]
    fn value(&self, slot: Slot) -> &'a [u8] {
        let text = self.slots[slot as usize];
        if text == self.shape.escape.absent() { &[] } else { text }
    }

    /// The query of a slot of its own.
    fn query(&self) -> &'a [u8] {
        let text = self.value(Slot::Query);
        if self.shape.query_is_marked { unmarked(text, self.shape.escape) } else { text }
    }

    fn method_and_target(&self) -> (Option<&'a [u8]>, &'a [u8]) {
        let (of_target, target) = match self.shape.target {
            TargetForm::Request => of_request(self.value(Slot::Target)),
            TargetForm::Uri | TargetForm::Folded | TargetForm::Path => (&[][..], self.value(Slot::Target)),
        };
        let method = self.value(Slot::Method);
        match self.shape.method {
            MethodForm::OfTarget => (Some(of_target), target),
            MethodForm::OfRequest => (Some(of_request(method).0), target),
            MethodForm::Own => (Some(method), target),
            MethodForm::Unknown => (None, target),
        }
    }

    /// `Some` if the request counts: whether it is a GET.
    fn is_get(&self, query: &[u8]) -> Option<bool> {
        match self.method_and_target().0 {
            Some(b"GET") => Some(true),
            Some(b"POST") => Some(false),
            Some(_) => None,
            // Nothing tells a POST without its body from the question that browsers ask
            // before one; a GET that counts has its event in the query.
            None if !self.value(Slot::Body).is_empty() => Some(false),
            None => names_an_event(query).then_some(true),
        }
    }

    /// The query of a tracking request.
    fn tracking_query(&self) -> Option<&'a [u8]> {
        let (_, target) = self.method_and_target();
        match self.shape.target {
            TargetForm::Uri | TargetForm::Request => tracking_query(target),
            TargetForm::Path => is_tracking_path(target).then(|| self.query()),
            TargetForm::Folded => {
                let path = memchr::memchr(b'?', target).unwrap_or(target.len());
                let (path, query) = target.split_at(path);
                // Without `$args` there is no `?`, but what stands for no value.
                let path = match query {
                    b"" => path.strip_suffix(self.shape.escape.absent()).unwrap_or(path),
                    _ => path,
                };
                is_tracking_path(path).then(|| query.get(1..).unwrap_or_default())
            }
        }
    }
}

/// The query out of `$is_args$args`.
fn unmarked(text: &[u8], escape: Escape) -> &[u8] {
    text.strip_prefix(b"?").unwrap_or(if text == escape.absent() { &[] } else { text })
}

/// Method and URI out of `GET /path HTTP/1.1`, also where the protocol is missing.
fn of_request(request: &[u8]) -> (&[u8], &[u8]) {
    let Some(end) = memchr::memchr(b' ', request) else { return (request, &[]) };
    let (method, target) = (&request[..end], &request[end + 1..]);
    match memchr::memrchr(b' ', target) {
        Some(at) if target[at + 1..].starts_with(b"HTTP/") => (method, &target[..at]),
        _ => (method, target),
    }
}

/// The query of a tracking URL, which may be a path or absolute.
fn tracking_query(uri: &[u8]) -> Option<&[u8]> {
    let path = match uri {
        [b'/', ..] => uri,
        absolute => {
            let scheme = memchr::memmem::find(absolute, b"://")?;
            let host = &absolute[scheme + 3..];
            &host[memchr::memchr(b'/', host)?..]
        }
    };
    let end = memchr::memchr(b'?', path).unwrap_or(path.len());
    is_tracking_path(&path[..end]).then(|| path.get(end + 1..).unwrap_or_default())
}

fn is_tracking_path(path: &[u8]) -> bool {
    matches!(path, b"/visit/events" | b"/visit/events.gif")
}

/// The values of `texts`: as they stand in the line, or decoded into `out`.
fn decoded<'s, const N: usize>(
    escape: Escape,
    texts: [&'s [u8]; N],
    out: &'s mut Vec<u8>,
) -> Option<[&'s [u8]; N]> {
    out.clear();
    out.shrink_to(SCRATCH_BYTES_KEPT);
    let mut places: [Option<Range<usize>>; N] = [const { None }; N];
    for (text, place) in texts.iter().zip(&mut places) {
        if escape.changes(text) {
            let start = out.len();
            escape.decode(text, out)?;
            *place = Some(start..out.len());
        }
    }
    let (out, mut places) = (&*out, places.into_iter());
    Some(texts.map(|text| places.next().flatten().map_or(text, |place| &out[place])))
}
