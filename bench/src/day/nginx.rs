//! Requests as nginx logs them.
//!
//! Duty: the columns of the log format `fanal` with nginx's `escape=default`: tabs between columns, `-` for what is not
//! there, `\xHH` for quotes, backslashes and whatever is not printable ASCII. Garbage is made here as well.

use super::account::Day;
use super::model::{Form, Garbage, Line, Naming, Request};
use super::render::{any, line, put};

const BROWSER: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";
const BACK_END: &str = "Python/3.11 aiohttp/3.14.5";
/// Longer than any body that the protocol allows to stand in a log's one line.
const HUGE_BYTES: usize = 200_000;

/// Turns requests into log lines; holds its buffers.
#[derive(Debug, Default)]
pub(super) struct Renderer {
    raw: Vec<u8>,
}

impl Renderer {
    /// Appends one request's log line with its line feed.
    pub(super) fn request(&mut self, day: &Day, request: &Request, out: &mut Vec<u8>) {
        if let Form::Garbage(garbage) = request.form {
            self.garbage(day, request, garbage, out);
            return;
        }
        let lines = &day.lines[request.lines()];
        time(request.at_ms, out);
        put(out, format_args!("\t{}\t", Address(any(request.sequence, 1))));
        out.extend_from_slice(method(request.form).as_bytes());
        out.push(b'\t');
        self.uri(day, request, lines, out);
        put(out, format_args!("\t{}\t", request.status));
        self.headers(day, request, lines, out);
        out.push(b'\t');
        self.body(day, request, lines, out);
        out.push(b'\n');
    }

    fn uri(&mut self, day: &Day, request: &Request, lines: &[Line], out: &mut Vec<u8>) {
        let site = &day.sites[usize::from(request.site)];
        match request.form {
            Form::Get | Form::Gif => {
                let gif = if request.form == Form::Gif { ".gif" } else { "" };
                put(out, format_args!("/visit/events{gif}?siteCode={site}&"));
                self.raw.clear();
                if let Some(first) = lines.first() {
                    line(day, request.form, first, &mut self.raw);
                }
                escape(&self.raw, out);
            }
            Form::Python => put(
                out,
                format_args!("/visit/events?sdkName=PYTHON&sdkVersion=3.22.2&siteCode={site}&bodyUa=true"),
            ),
            Form::NoSite => {
                put(out, format_args!("/visit/events?sdkName=PYTHON&sdkVersion=3.22.2&bodyUa=true"))
            }
            Form::OtherPath => match any(request.sequence, 2) % 5 {
                0 => put(out, format_args!("/v3/{site}")),
                1 => put(out, format_args!("/favicon.ico")),
                2 => put(
                    out,
                    format_args!("/visit/visitor?siteCode={site}&visitorCode=ghost-1&staticData=true"),
                ),
                3 => put(out, format_args!("/visit/eventsx?siteCode={site}&{GHOST}")),
                _ => put(out, format_args!("/map/map?siteCode={site}&key=ghost-1")),
            },
            _ => put(out, format_args!("/visit/events?siteCode={site}&sdkName=javascript&sdkVersion=4.17.1")),
        }
    }

    fn headers(&mut self, day: &Day, request: &Request, lines: &[Line], out: &mut Vec<u8>) {
        let back_end = matches!(request.form, Form::Python | Form::NoSite);
        out.extend_from_slice(if back_end { BACK_END } else { BROWSER }.as_bytes());
        out.push(b'\t');
        if back_end {
            out.extend_from_slice(b"-\t-");
            return;
        }
        put(out, format_args!("https://www.{}.example/\t", day.sites[usize::from(request.site)]));
        match lines.first() {
            Some(first) if first.naming == Naming::Cookie => {
                let code = &day.visitors[first.visitor as usize].code;
                put(out, format_args!("_ga=GA1.1.77; kameleoonVisitorCode={code}; theme=\\x22dark\\x22"));
            }
            Some(first) if request.overrules_cookie(first) => {
                out.extend_from_slice(b"kameleoonVisitorCode=ghostofacookie00; theme=dark");
            }
            _ => out.extend_from_slice(b"-"),
        }
    }

    fn body(&mut self, day: &Day, request: &Request, lines: &[Line], out: &mut Vec<u8>) {
        let posted = matches!(request.form, Form::Script | Form::Python | Form::NoSite);
        if !posted || lines.is_empty() {
            out.push(b'-');
            return;
        }
        self.raw.clear();
        for (at, one) in lines.iter().enumerate() {
            if at > 0 {
                self.raw.push(b'\n');
            }
            line(day, request.form, one, &mut self.raw);
        }
        escape(&self.raw, out);
    }

    fn garbage(&mut self, day: &Day, request: &Request, garbage: Garbage, out: &mut Vec<u8>) {
        let site = &day.sites[usize::from(request.site)];
        let cut = usize::try_from(any(request.sequence, 3) % 40).unwrap_or(0);
        match garbage {
            Garbage::Binary => {
                for n in 0..60 + cut as u64 {
                    let byte = any(request.sequence, 4 + n).to_le_bytes()[0];
                    out.push(if byte == b'\n' { 0 } else { byte });
                }
            }
            Garbage::Truncated => truncated(request, site, 20 + cut, out),
            Garbage::Glued => {
                truncated(request, site, 45, out);
                ghost(request, site, out);
            }
            Garbage::TooFewColumns => {
                time(request.at_ms, out);
                put(out, format_args!("\t10.0.0.1\tGET\t/visit/events?siteCode={site}&{GHOST}\t204"));
            }
            Garbage::TooManyColumns => {
                time(request.at_ms, out);
                put(
                    out,
                    format_args!("\t10.0.0.1\tPOST\t/visit/events?siteCode={site}\t204\t-\t-\t-\t-\t-\t-"),
                );
            }
            Garbage::BadTime => {
                put(
                    out,
                    format_args!(
                        "17e9.x\t10.0.0.1\tGET\t/visit/events?siteCode={site}&{GHOST}\t204\t-\t-\t-\t-"
                    ),
                );
            }
            Garbage::Empty => {}
            Garbage::Huge => out.resize(out.len() + HUGE_BYTES, b'A'),
        }
        out.push(b'\n');
    }
}

/// A line whose visitor must never be seen in any result.
const GHOST: &str =
    "nonce=00000000DEADBEEF&eventType=page&href=https%3A%2F%2Fghost.example%2F&visitorCode=ghost";

/// A complete, good log line of a visitor who must not be seen, because of what stands before it.
fn ghost(request: &Request, site: &str, out: &mut Vec<u8>) {
    time(request.at_ms, out);
    put(out, format_args!("\t10.0.0.1\tGET\t/visit/events?siteCode={site}&{GHOST}\t204\t-\t-\t-\t-"));
}

/// The start of a log line, cut inside its fourth column at the latest.
pub(super) fn truncated(request: &Request, site: &str, length: usize, out: &mut Vec<u8>) {
    let start = out.len();
    ghost(request, site, out);
    out.truncate(start + length.min(60));
}

fn method(form: Form) -> &'static str {
    match form {
        Form::Get | Form::Gif | Form::OtherPath => "GET",
        Form::Preflight => "OPTIONS",
        _ => "POST",
    }
}

fn time(at_ms: u64, out: &mut Vec<u8>) {
    put(out, format_args!("{}.{:03}", at_ms / 1000, at_ms % 1000));
}

/// A client address: mostly IPv4.
struct Address(u64);

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, ..] = self.0.to_be_bytes();
        if e < 16 {
            return write!(out, "2001:db8:{a:x}{b:02x}::{c:x}{d:02x}");
        }
        write!(out, "{}.{b}.{c}.{d}", 11 + a % 100)
    }
}

/// nginx's `escape=default`.
fn escape(raw: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut clean = 0;
    for (at, byte) in raw.iter().enumerate() {
        if *byte >= b' ' && *byte <= b'~' && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&raw[clean..at]);
        out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        clean = at + 1;
    }
    out.extend_from_slice(&raw[clean..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_nginx_does() {
        let mut out = Vec::new();
        escape(b"a b\n\"q\" \\ \x7f \xC3\xA9\t~", &mut out);
        assert_eq!(out, br"a b\x0A\x22q\x22 \x5C \x7F \xC3\xA9\x09~");
    }
}
