//! Lines of an nginx access log in the `fanal` format.
//!
//! ```text
//! log_format fanal '$msec\t$remote_addr\t$request_method\t$request_uri\t$status\t$http_user_agent\t$http_referer\t$http_cookie\t$request_body';
//! ```
//!
//! nginx writes `"`, `\` and every byte outside of printable ASCII as `\xHH`, so
//! a tab is always an end of column; an absent value is `-`.
//!
//! Never opens a file; never decides what a site may do with an address.

use std::borrow::Cow;
use std::net::IpAddr;

use fanal_model::RejectReason;

use crate::cookie::cookie_visitor;
use crate::decode::hex;
use crate::query::parse_query;

/// The columns of one line, as they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// `$msec` in milliseconds.
    pub received_at_ms: u64,
    pub remote_address: &'a [u8],
    pub method: &'a [u8],
    pub uri: &'a [u8],
    pub status: u16,
    pub user_agent: &'a [u8],
    pub referer: &'a [u8],
    pub cookie: &'a [u8],
    pub body: &'a [u8],
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
    unescaped: Vec<u8>,
}

/// Splits a line into its columns. `MalformedLogLine` when it is not of the format.
pub fn parse_fanal(line: &[u8]) -> Result<LogLine<'_>, RejectReason> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut columns = [&line[..0]; 9];
    let mut rest = line.split(|b| *b == b'\t');
    for column in &mut columns {
        *column = rest.next().ok_or(RejectReason::MalformedLogLine)?;
    }
    if rest.next().is_some() {
        return Err(RejectReason::MalformedLogLine);
    }
    let [msec, remote_address, method, uri, status, user_agent, referer, cookie, body] = columns;
    Ok(LogLine {
        received_at_ms: milliseconds(msec).ok_or(RejectReason::MalformedLogLine)?,
        remote_address,
        method,
        uri,
        status: three_digits(status).ok_or(RejectReason::MalformedLogLine)?,
        user_agent,
        referer,
        cookie,
        body,
    })
}

impl<'a> LogLine<'a> {
    /// What the line means, with its values unescaped into `scratch`.
    ///
    /// `MalformedLogLine` when an escape is broken, or a POST has no body (nginx
    /// logs `-` when it kept the body in a file: what it held is lost).
    /// `UnknownSite` when the query names no site.
    pub fn outcome<'s>(&self, scratch: &'s mut Scratch) -> Result<LogOutcome<'s>, RejectReason> {
        let Some(query) = tracking_query(self.uri) else {
            return Ok(LogOutcome::Ignored(IgnoreReason::NotTracking));
        };
        let is_get = match self.method {
            b"GET" => true,
            b"POST" => false,
            _ => return Ok(LogOutcome::Ignored(IgnoreReason::NotGetOrPost)),
        };
        if !(200..300).contains(&self.status) {
            return Ok(LogOutcome::Ignored(IgnoreReason::StatusNot2xx));
        }
        let out = &mut scratch.unescaped;
        out.clear();
        let mut ends = [0; 5];
        let columns = [query, self.user_agent, self.referer, self.cookie, self.body];
        for (column, end) in columns.into_iter().zip(&mut ends) {
            unescape(column, out).ok_or(RejectReason::MalformedLogLine)?;
            *end = out.len();
        }
        let [query, user_agent, referer, cookie, body] = split(out, ends);
        if !is_get && body.is_empty() {
            return Err(RejectReason::MalformedLogLine);
        }
        Ok(LogOutcome::Request(LogRequest {
            received_at_ms: self.received_at_ms,
            site_code: parse_query(query).site_code.ok_or(RejectReason::UnknownSite)?,
            query,
            body: (!is_get).then_some(body),
            cookie_visitor: cookie_visitor(cookie),
            user_agent,
            referer,
            client_address: str::from_utf8(self.remote_address).ok().and_then(|text| text.parse().ok()),
        }))
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
    let known = matches!(&path[..end], b"/visit/events" | b"/visit/events.gif");
    known.then(|| path.get(end + 1..).unwrap_or_default())
}

/// Undoes `escape=default`; a value of `-` is an absent one.
fn unescape(column: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = if column == b"-" { &[] } else { column };
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let [b'x', high, low, after @ ..] = &rest[at + 1..] else { return None };
        out.push(hex(*high)? << 4 | hex(*low)?);
        rest = after;
    }
    out.extend_from_slice(rest);
    Some(())
}

fn split<const N: usize>(bytes: &[u8], ends: [usize; N]) -> [&[u8]; N] {
    let mut start = 0;
    ends.map(|end| {
        let column = &bytes[start..end];
        start = end;
        column
    })
}

/// `1700000000.123` as milliseconds.
/// From 2000 to 2100: another time is damage, and a day of it would never be looked at.
const PLAUSIBLE_SECONDS: std::ops::Range<u64> = 946_684_800..4_102_444_800;

fn milliseconds(text: &[u8]) -> Option<u64> {
    let dot = memchr::memchr(b'.', text)?;
    let (seconds, fraction) = (&text[..dot], &text[dot + 1..]);
    if seconds.is_empty() || fraction.len() != 3 {
        return None;
    }
    let seconds = number(seconds).filter(|at| PLAUSIBLE_SECONDS.contains(at))?;
    seconds.checked_mul(1_000)?.checked_add(number(fraction)?)
}

fn three_digits(text: &[u8]) -> Option<u16> {
    if text.len() != 3 {
        return None;
    }
    u16::try_from(number(text)?).ok()
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, b| {
        let digit = b.checked_sub(b'0').filter(|d| *d <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(columns: [&str; 9]) -> String {
        columns.join("\t")
    }

    const GET: [&str; 9] = [
        "1700000000.123",
        "203.0.113.7",
        "GET",
        "/visit/events.gif?siteCode=s1&eventType=activity",
        "204",
        "Mozilla/5.0 \\x22x\\x22",
        "https://example.test/a",
        "a=1; kameleoonVisitorCode=abc",
        "-",
    ];

    fn changed(column: usize, value: &str) -> String {
        let mut columns = GET;
        columns[column] = value;
        line(columns)
    }

    fn outcome(line: &str) -> Result<String, RejectReason> {
        let mut scratch = Scratch::default();
        Ok(match parse_fanal(line.as_bytes())?.outcome(&mut scratch)? {
            LogOutcome::Request(_) => "request".to_owned(),
            LogOutcome::Ignored(reason) => reason.name().to_owned(),
        })
    }

    #[test]
    fn a_get_is_read_with_every_column() {
        let (text, mut scratch) = (line(GET) + "\n", Scratch::default());
        let read = parse_fanal(text.as_bytes()).unwrap();
        let expected = LogRequest {
            received_at_ms: 1_700_000_000_123,
            site_code: Cow::Borrowed("s1"),
            query: b"siteCode=s1&eventType=activity",
            body: None,
            cookie_visitor: Some(Cow::Borrowed("abc")),
            user_agent: b"Mozilla/5.0 \"x\"",
            referer: b"https://example.test/a",
            client_address: Some(IpAddr::from([203, 0, 113, 7])),
        };
        assert_eq!(read.outcome(&mut scratch), Ok(LogOutcome::Request(expected)));
    }

    #[test]
    fn the_body_of_a_post_is_unescaped() {
        let text = line([
            "1700000000.000",
            "2001:db8::1",
            "POST",
            "https://data.example.test/visit/events?siteCode=s1&x=\\x5C",
            "200",
            "-",
            "-",
            "-",
            r"eventType=page&href=%2F\x0AeventType=activity&x=\xC3\xA9\x09\x5Cn-",
        ]);
        let mut scratch = Scratch::default();
        let read = parse_fanal(text.as_bytes()).unwrap().outcome(&mut scratch).unwrap();
        let LogOutcome::Request(request) = read else { panic!("{read:?}") };
        let body = "eventType=page&href=%2F\neventType=activity&x=é\t\\n-";
        assert_eq!(request.body, Some(body.as_bytes()));
        assert_eq!(request.query, b"siteCode=s1&x=\\");
        assert_eq!((request.user_agent, request.referer, request.cookie_visitor), (&b""[..], &b""[..], None));
        assert_eq!(request.client_address, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_answered_tracking_request_is_ignored_by_name() {
        for (column, value, expected) in [
            (3, "/v3/s1", "not_tracking"),
            (3, "/visit/events2?siteCode=s1", "not_tracking"),
            (3, "/x?u=/visit/events", "not_tracking"),
            (3, "*", "not_tracking"),
            (3, "-", "not_tracking"),
            (2, "OPTIONS", "not_get_or_post"),
            (2, "-", "not_get_or_post"),
            (4, "499", "status_not_2xx"),
            (4, "304", "status_not_2xx"),
            (4, "199", "status_not_2xx"),
            (4, "299", "request"),
            (1, "unix:", "request"),
            (8, "ignored for a GET", "request"),
        ] {
            assert_eq!(outcome(&changed(column, value)).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn garbage_is_malformed_and_never_a_request() {
        let malformed = Err(RejectReason::MalformedLogLine);
        for (column, value) in [
            (0, "-"),
            (0, "1700000000"),
            (0, "1700000000.12"),
            (0, ".123"),
            (0, "99999999999999999999.000"),
            (4, "-"),
            (4, "20"),
            (4, "+20"),
            (4, "20x"),
            (5, "\\x4"),
            (5, "\\n"),
            (5, "\\"),
            (8, "extra\tcolumn"),
            (2, "POST"),
        ] {
            assert_eq!(outcome(&changed(column, value)), malformed, "{column} {value}");
        }
        for text in [
            "",
            "\t",
            "\t\t\t\t\t\t\t\t",
            "127.0.0.1 - - [10/Oct/2025:13:55:36 +0000] \"GET / HTTP/1.1\" 200 2",
        ] {
            assert_eq!(outcome(text), malformed, "{text}");
        }
        assert_eq!(
            outcome(&changed(3, "/visit/events?eventType=activity")),
            Err(RejectReason::UnknownSite),
            "a request that names no site"
        );
    }
}
