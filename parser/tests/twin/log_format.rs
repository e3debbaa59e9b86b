//! A plain reader of log lines: byte by byte, by what an explanation of the format
//! says, with maps and strings. It decides what the fast one must do on any bytes.
#![allow(clippy::unwrap_used, reason = "a test states what must hold by panicking")]

#[path = "log_time.rs"]
mod log_time;

use std::collections::BTreeMap;

use fanal_model::RejectReason;
use fanal_parser::log_format::{Explanation, LogFormat, LogOutcome, OpenEnd, Part, Scratch, Search};

/// What a line means, of either reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    Request {
        at_ms: u64,
        site: String,
        query: Vec<u8>,
        body: Option<Vec<u8>>,
        visitor: Option<String>,
        user_agent: Vec<u8>,
        referer: Vec<u8>,
        address: Option<String>,
    },
    Ignored(&'static str),
    Rejected(RejectReason),
}

/// The fast reader.
pub(crate) fn fast(format: &LogFormat, line: &[u8], scratch: &mut Scratch) -> Meaning {
    let read = match format.read(line) {
        Ok(read) => read,
        Err(reason) => return Meaning::Rejected(reason),
    };
    match read.outcome(scratch) {
        Err(reason) => Meaning::Rejected(reason),
        Ok(LogOutcome::Ignored(reason)) => Meaning::Ignored(reason.name()),
        Ok(LogOutcome::Request(request)) => Meaning::Request {
            at_ms: request.received_at_ms,
            site: request.site_code.into_owned(),
            query: request.query.to_vec(),
            body: request.body.map(<[u8]>::to_vec),
            visitor: request.cookie_visitor.map(std::borrow::Cow::into_owned),
            user_agent: request.user_agent.to_vec(),
            referer: request.referer.to_vec(),
            address: request.client_address.map(|ip| ip.to_string()),
        },
    }
}

/// A value of a line: the variable's name in small letters, and its text.
pub(crate) type Values = Vec<(String, Vec<u8>)>;

/// A variable, how it is found, and the literal behind it.
struct Step {
    name: String,
    search: Search,
    literal: Vec<u8>,
}

/// The values up to the last one that is searched.
pub(crate) fn values(explained: &Explanation, line: &[u8]) -> Option<Values> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (prefix, steps, is_whole) = steps(explained);
    let mut rest = line.strip_prefix(&*prefix)?;
    let mut values = Values::new();
    let mut at = 0;
    while at < steps.len() {
        let step = &steps[at];
        if let Search::Open { values: behind, anchor } = step.search {
            let last = at + behind;
            let end = match anchor {
                OpenEnd::Byte { byte, before } => first(rest, byte, false)?.checked_sub(before)?,
                OpenEnd::Quote { before } => first(rest, b'"', true)?.checked_sub(before)?,
                OpenEnd::End => rest.len().checked_sub(steps[last].literal.len())?,
            };
            values.append(&mut backwards(&steps[at..=last], &rest[..end])?);
            rest = rest[end..].strip_prefix(&*steps[last].literal)?;
            at = last + 1;
            continue;
        }
        let end = match step.search {
            Search::Byte { byte, before } => first(rest, byte, false)?.checked_sub(before)?,
            Search::Quote { before } => first(rest, b'"', true)?.checked_sub(before)?,
            Search::Width { bytes } => bytes,
            Search::End { never } => {
                let end = rest.len().checked_sub(step.literal.len())?;
                if rest[..end].iter().any(|byte| Some(*byte) == never) {
                    return None;
                }
                end
            }
            other => unreachable!("{other:?} belongs to an open value"),
        };
        values.push((step.name.to_lowercase(), rest.get(..end)?.to_vec()));
        rest = rest[end..].strip_prefix(&*step.literal)?;
        at += 1;
    }
    (!is_whole || rest.is_empty()).then_some(values)
}

fn steps(explained: &Explanation) -> (Vec<u8>, Vec<Step>, bool) {
    let (mut prefix, mut steps, mut is_whole) = (Vec::new(), Vec::<Step>::new(), true);
    for part in &explained.parts {
        match part {
            Part::Literal { .. } if !is_whole => {}
            Part::Literal { text } => match steps.last_mut() {
                Some(step) => step.literal = text.clone().into_bytes(),
                None => prefix = text.clone().into_bytes(),
            },
            Part::Variable { name, search: Some(search), .. } => {
                steps.push(Step { name: name.clone(), search: *search, literal: Vec::new() });
            }
            Part::Variable { .. } => is_whole = false,
        }
    }
    (prefix, steps, is_whole)
}

/// The values of an open one and those behind it, which `text` holds altogether.
fn backwards(steps: &[Step], text: &[u8]) -> Option<Values> {
    let mut text = text;
    let mut values = Values::new();
    for at in (1..steps.len()).rev() {
        let begin = match steps[at].search {
            Search::BackWidth { bytes } => text.len().checked_sub(bytes)?,
            Search::BackByte { byte, after } => last(text, byte, false)? + 1 + after,
            Search::BackQuote { after } => last(text, b'"', true)? + 1 + after,
            other => unreachable!("{other:?} is not found backwards"),
        };
        values.insert(0, (steps[at].name.to_lowercase(), text.get(begin..)?.to_vec()));
        text = text[..begin].strip_suffix(&*steps[at - 1].literal)?;
    }
    values.insert(0, (steps[0].name.to_lowercase(), text.to_vec()));
    Some(values)
}

/// Where a byte stands first; `bare` counts only those that no backslash escapes.
fn first(text: &[u8], byte: u8, bare: bool) -> Option<usize> {
    (0..text.len()).find(|at| text[*at] == byte && !(bare && escaped(text, *at)))
}

fn last(text: &[u8], byte: u8, bare: bool) -> Option<usize> {
    (0..text.len()).rev().find(|at| text[*at] == byte && !(bare && escaped(text, *at)))
}

fn escaped(text: &[u8], at: usize) -> bool {
    let mut is_escaped = false;
    for before in (0..at).rev() {
        if text[before] != b'\\' {
            break;
        }
        is_escaped = !is_escaped;
    }
    is_escaped
}

/// What a line means.
pub(crate) fn meaning(explained: &Explanation, line: &[u8]) -> Meaning {
    let malformed = Meaning::Rejected(RejectReason::MalformedLogLine);
    let Some(values) = values(explained, line) else { return malformed };
    let mut known: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for (name, text) in &values {
        let absent: &[u8] = if explained.escape == "default" { b"-" } else { b"" };
        known.entry(name).or_insert(if text == absent { b"" } else { text });
    }
    let line = Line { known, escape: explained.escape };
    match line.time().zip(line.status()) {
        None => malformed,
        Some((at_ms, status)) => line.meaning(at_ms, status).unwrap_or(malformed),
    }
}

struct Line<'a> {
    known: BTreeMap<&'a str, &'a [u8]>,
    escape: &'a str,
}

impl<'a> Line<'a> {
    fn any(&self, names: &[&str]) -> Option<(usize, &'a [u8])> {
        (0..).zip(names).find_map(|(at, name)| self.known.get(name).map(|text| (at, *text)))
    }

    fn time(&self) -> Option<u64> {
        let (form, text) = self.any(&["msec", "time_iso8601", "time_local"])?;
        let text = std::str::from_utf8(text).ok()?;
        if form == 0 {
            let (seconds, ms) = text.split_once('.')?;
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if !digits(seconds) || !digits(ms) || ms.len() != 3 {
                return None;
            }
            return plausible(seconds.parse().ok()?, ms.parse().ok()?);
        }
        plausible(log_time::seconds(text, form == 1)?, 0)
    }

    fn status(&self) -> Option<u16> {
        let text = self.known.get("status")?;
        let is_number = text.len() == 3 && text.iter().all(u8::is_ascii_digit);
        is_number.then(|| std::str::from_utf8(text).unwrap().parse().unwrap())
    }

    /// Method, path and query as the line has them.
    fn target(&self) -> (Option<Vec<u8>>, Vec<u8>, Vec<u8>) {
        let text = |bytes: &[u8]| bytes.to_vec();
        let of_request = |request: &[u8]| {
            let mut words: Vec<&[u8]> = request.split(|b| *b == b' ').collect();
            let method = words.remove(0).to_vec();
            if words.len() > 1 && words.last().is_some_and(|word| word.starts_with(b"HTTP/")) {
                words.pop();
            }
            (method, words.join(&b' '))
        };
        let request = self.known.get("request").map(|request| of_request(request));
        let own = self.known.get("request_method").map(|method| text(method));
        let method = own.or(request.as_ref().map(|(method, _)| method.clone()));
        if let Some(uri) = self.known.get("request_uri") {
            let (path, query) = parted(uri);
            return (method, path, query);
        }
        if let Some((_, uri)) = request {
            let (path, query) = parted(&uri);
            return (method, path, query);
        }
        let folded = self.known.iter().find(|(name, _)| name.contains("uri$is_args"));
        if let Some((_, target)) = folded {
            let (mut path, query) = split(target);
            if !target.contains(&b'?') && self.escape == "default" && path.ends_with(b"-") {
                path.pop();
            }
            return (method, path, query);
        }
        let (_, path) = self.any(&["uri", "document_uri"]).unwrap_or((0, b""));
        if let Some((_, query)) = self.any(&["args", "query_string"]) {
            return (method, text(path), text(query));
        }
        let marked = self.known.iter().find(|(name, _)| name.starts_with("is_args$"));
        let query = marked.map_or(&b""[..], |(_, query)| query);
        let query = query.strip_prefix(b"?").unwrap_or(query);
        (method, text(path), text(query))
    }

    fn meaning(&self, at_ms: u64, status: u16) -> Option<Meaning> {
        let (method, path, query) = self.target();
        if path != b"/visit/events" && path != b"/visit/events.gif" {
            return Some(Meaning::Ignored("not_tracking"));
        }
        let raw_body = self.known.get("request_body").copied().unwrap_or_default();
        let is_get = match method.as_deref() {
            Some(b"GET") => true,
            Some(b"POST") => false,
            Some(_) => return Some(Meaning::Ignored("not_get_or_post")),
            None if !raw_body.is_empty() => false,
            None if parameter(&query, b"eventType").is_some() => true,
            None => return Some(Meaning::Ignored("not_get_or_post")),
        };
        if status / 100 != 2 {
            return Some(Meaning::Ignored("status_not_2xx"));
        }
        let decoded = |name: &str| self.decode(self.known.get(name).copied().unwrap_or_default());
        let (query, body) = (self.decode(&query)?, decoded("request_body")?);
        let (user_agent, referer) = (decoded("http_user_agent")?, decoded("http_referer")?);
        let (cookies, cookie) = (decoded("http_cookie")?, decoded("cookie_kameleoonvisitorcode")?);
        if !is_get && body.is_empty() {
            return None;
        }
        let Some(site) = parameter(&query, b"siteCode") else {
            return Some(Meaning::Rejected(RejectReason::UnknownSite));
        };
        let named = [&b"kameleoonVisitorCode="[..], &cookie].concat();
        let visitor = match cookie.contains(&b';') {
            // Not by nginx; the value is taken as it is.
            true => fanal_parser::cookie_visitor(
                &[
                    &b"kameleoonVisitorCode="[..],
                    &cookie.iter().copied().filter(|b| *b != b';').collect::<Vec<_>>(),
                ]
                .concat(),
            )
            .map(|_| fanal_parser::decode(cookie.trim_ascii()).into_owned()),
            false => fanal_parser::cookie_visitor(&named).map(std::borrow::Cow::into_owned),
        };
        let visitor =
            visitor.or_else(|| fanal_parser::cookie_visitor(&cookies).map(std::borrow::Cow::into_owned));
        Some(Meaning::Request {
            at_ms,
            site: fanal_parser::decode(&site).into_owned(),
            query,
            body: (!is_get).then_some(body),
            visitor,
            user_agent,
            referer,
            address: self.address(),
        })
    }

    fn address(&self) -> Option<String> {
        let names = [
            "remote_addr",
            "proxy_protocol_addr",
            "http_x_real_ip",
            "http_x_forwarded_for",
            "realip_remote_addr",
        ];
        let (at, text) = self.any(&names)?;
        let text = std::str::from_utf8(text).ok()?;
        let text = if at == 3 { text.split(',').next_back().unwrap().trim() } else { text };
        let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
        text.parse().ok().or_else(with_port).map(|ip: std::net::IpAddr| ip.to_string())
    }

    fn decode(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if text[at] != b'\\' || self.escape == "none" {
                out.push(text[at]);
                at += 1;
                continue;
            }
            let kind = *text.get(at + 1)?;
            if self.escape == "default" {
                let hex = std::str::from_utf8(text.get(at + 2..at + 4)?).ok()?;
                let is_hex = kind == b'x' && hex.bytes().all(|b| b.is_ascii_hexdigit());
                out.push(u8::from_str_radix(hex, 16).ok().filter(|_| is_hex)?);
                at += 4;
                continue;
            }
            // An escape of JSON, by the library.
            let mut length = if kind == b'u' { 6 } else { 2 };
            if kind == b'u'
                && text.get(at + 2).is_some_and(|b| b"dD".contains(b))
                && text.get(at + 3).is_some_and(|b| b"89abAB".contains(b))
            {
                length = 12;
            }
            let escape = std::str::from_utf8(text.get(at..at + length)?).ok()?;
            out.extend(serde_json::from_str::<String>(&format!("\"{escape}\"")).ok()?.into_bytes());
            at += length;
        }
        Some(out)
    }
}

fn parameter(query: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    query.split(|b| *b == b'&').find_map(|pair| {
        let (of, value) = split_at(pair, b'=')?;
        (of == name && !value.is_empty()).then(|| value.to_vec())
    })
}

fn split_at(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

fn split(target: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (path, query) = split_at(target, b'?').unwrap_or((target, b""));
    (path.to_vec(), query.to_vec())
}

/// Path and query of a path or a full URL.
fn parted(uri: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if uri.starts_with(b"/") {
        return split(uri);
    }
    let scheme = (0..uri.len()).find(|at| uri[*at..].starts_with(b"://"));
    let host = scheme.map_or(&b""[..], |at| &uri[at + 3..]);
    let path = host.iter().position(|b| *b == b'/').map_or(&b""[..], |at| &host[at..]);
    split(path)
}

fn plausible(seconds: u64, ms: u64) -> Option<u64> {
    (946_684_800..4_102_444_800).contains(&seconds).then_some(seconds * 1000 + ms)
}
