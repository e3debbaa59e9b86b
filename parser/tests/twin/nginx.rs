//! A model of nginx that writes access logs: which formats there are, which values its
//! variables can have, and how it writes them. By nginx's sources, not by the parser's.
#![allow(clippy::unwrap_used, reason = "a test states what must hold by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

/// A format: text between variables, and names.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    pub(crate) escape: &'static str,
    pub(crate) pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Text(&'static str),
    Variable(&'static str),
}

/// What a request has; a variable that is not here has no value.
pub(crate) type Request = BTreeMap<&'static str, Vec<u8>>;

/// Where a variable's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    /// Written by the log module: always there, never escaped.
    Log(&'static [&'static str]),
    /// nginx's own words.
    Own(&'static [&'static str]),
    /// A header: any bytes but NUL, CR, LF.
    Header,
    /// A header up to a semicolon.
    Cookie,
    /// A URI: since 1.21.1 without blanks.
    Uri,
    /// A host: as a URI, without slashes.
    Host,
    /// The first line of a request, or what came instead.
    Line,
    /// Any bytes, such as decoded ones.
    Any,
    /// Any bytes but NUL and colons.
    User,
}

const VARIABLES: &[(&str, Origin)] = &[
    ("msec", Origin::Log(&["1700000000.123", "946684800.000", "4102444799.999"])),
    ("time_iso8601", Origin::Log(&["2023-11-14T22:13:20+00:00", "2024-02-29T23:59:59-03:30"])),
    ("time_local", Origin::Log(&["14/Nov/2023:22:13:20 +0000", "29/Feb/2024:23:59:59 -0330"])),
    ("status", Origin::Log(&["200", "204", "499", "000", "009"])),
    ("body_bytes_sent", Origin::Log(&["0", "4294967296"])),
    ("request_time", Origin::Log(&["0.000", "12.345"])),
    ("pipe", Origin::Log(&[".", "p"])),
    ("request_method", Origin::Own(&["GET", "POST", "OPTIONS", "M-SEARCH"])),
    ("remote_addr", Origin::Own(&["203.0.113.7", "2001:db8::1", "unix:"])),
    ("realip_remote_addr", Origin::Own(&["192.0.2.1"])),
    ("remote_port", Origin::Own(&["49152"])),
    ("server_protocol", Origin::Own(&["HTTP/1.1", "HTTP/2.0"])),
    ("request_id", Origin::Own(&["0123456789abcdef0123456789abcdef"])),
    ("upstream_response_time", Origin::Own(&["0.001, 0.002 : 0.003", "-"])),
    ("request_uri", Origin::Uri),
    ("args", Origin::Uri),
    ("host", Origin::Host),
    ("uri", Origin::Any),
    ("remote_user", Origin::User),
    ("request", Origin::Line),
    ("http_user_agent", Origin::Header),
    ("http_referer", Origin::Header),
    ("http_cookie", Origin::Header),
    ("http_x_forwarded_for", Origin::Header),
    ("http_x_custom", Origin::Header),
    ("cookie_kameleoonVisitorCode", Origin::Cookie),
    ("request_body", Origin::Any),
    ("some_map", Origin::Header),
];

fn origin(name: &str) -> Origin {
    VARIABLES.iter().find(|(of, _)| *of == name).unwrap().1
}

/// What stands between variables: what people write, and what makes trouble.
const TEXTS: &[&str] = &[
    " ",
    "\t",
    "\"",
    " \"",
    "\" ",
    "\" \"",
    " [",
    "] \"",
    "|",
    ",",
    "\",\"k\":\"",
    "\",\"n\":",
    ",\"k\":\"",
    " - ",
    "\"}",
    "{\"k\":\"",
    "\\",
    "\\\"",
    "x",
    "",
    ";",
    "$(",
    "é",
    "\r",
    "-",
    "' '",
    ": ",
];

pub(crate) fn format() -> impl Strategy<Value = Format> {
    let names: Vec<&'static str> = VARIABLES.iter().map(|(name, _)| *name).collect();
    let times = select(&["msec", "time_iso8601", "time_local"][..]);
    let uris = select(&["request_uri", "request", "uri"][..]);
    // One separator in most places, as people do; now and then another one.
    let usual = select(&["\t", "\" \"", " ", "|", "\",\"k\":\"", "\"\t\""][..]);
    let text = (usual, prop::collection::vec(prop::option::weighted(0.3, select(TEXTS)), 12));
    let more = prop::collection::vec(select(names), 0..6);
    let escapes = select(&["default", "default", "json", "none"][..]);
    (times, uris, more, text, escapes, any::<prop::sample::Index>(), any::<u64>()).prop_map(
        |(time, uri, mut names, (usual, other), escape, cut, order)| {
            names.extend([time, uri, "status"]);
            if uri == "uri" {
                names.push("args");
            }
            let mut order = order;
            for at in (1..names.len()).rev() {
                names.swap(at, usize::try_from(order % (at as u64 + 1)).unwrap());
                order = order.rotate_right(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            }
            let mut pieces = Vec::new();
            let around = |at: usize| other[at].unwrap_or(if usual.starts_with('"') { "\"" } else { "" });
            pieces.push(Piece::Text(around(0)));
            for (at, name) in names.iter().enumerate() {
                pieces.push(Piece::Variable(name));
                pieces.push(Piece::Text(other[at + 1].unwrap_or(usual)));
            }
            if cut.index(2) == 0 {
                pieces.pop();
                pieces.push(Piece::Text(around(11)));
            }
            pieces.retain(|piece| *piece != Piece::Text(""));
            Format { escape, pieces }
        },
    )
}

impl Format {
    /// As it stands in nginx.conf, in one string or in several.
    pub(crate) fn directive(&self, split: bool) -> String {
        let mut text = format!("log_format name escape={} '", self.escape);
        for piece in &self.pieces {
            match piece {
                Piece::Variable(name) => text += &format!("${{{name}}}"),
                Piece::Text(literal) => {
                    for c in literal.chars() {
                        match c {
                            '\t' => text += "\\t",
                            '\r' => text += "\\r",
                            // `$(` is no text in nginx; it has no way to say a dollar.
                            '$' => text.push('('),
                            '\'' | '\\' => text.extend(['\\', c]),
                            other => text.push(other),
                        }
                    }
                }
            }
            if split {
                text += "'\n    '";
            }
        }
        text + "';"
    }

    fn names(&self) -> Vec<&'static str> {
        let name = |piece: &Piece| if let Piece::Variable(name) = piece { Some(*name) } else { None };
        self.pieces.iter().filter_map(name).collect()
    }

    /// The text of a piece of the format, as it is in the log.
    pub(crate) fn literal(text: &str) -> String {
        text.replace('$', "(")
    }

    /// What nginx writes for a request.
    pub(crate) fn line(&self, request: &Request) -> Vec<u8> {
        let mut line = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.extend_from_slice(Self::literal(text).as_bytes()),
                Piece::Variable(name) => line.extend(written(self.escape, name, request)),
            }
        }
        line
    }

    /// A request with values that try to look like what stands around them.
    pub(crate) fn request(&self, is_recent: bool) -> impl Strategy<Value = Request> + use<> {
        let mut words: Vec<Vec<u8>> = WORDS.iter().map(|word| word.as_bytes().to_vec()).collect();
        words.push(b"\xFF\x80".to_vec());
        for piece in &self.pieces {
            if let Piece::Text(text) = piece {
                words.push(text.as_bytes().to_vec());
                words.push(text.as_bytes()[..text.len() / 2].to_vec());
            }
        }
        let words = prop::collection::vec(select(words), 0..7).prop_map(|words| words.concat());
        let plain = select(PLAIN).prop_map(|text| text.as_bytes().to_vec());
        let value = prop::option::weighted(0.85, prop_oneof![3 => words, 1 => plain]);
        let names = self.names();
        let values = prop::collection::vec((value, any::<prop::sample::Index>()), names.len());
        values.prop_map(move |values| {
            let mut request = Request::new();
            for (name, (value, pick)) in names.iter().zip(values) {
                if let Some(value) = possible(origin(name), value, pick, is_recent) {
                    request.entry(name).or_insert(value);
                }
            }
            request
        })
    }
}

/// What values are made of, beside the format's own text.
const WORDS: &[&str] = &[
    "\"",
    "\\",
    "\\\"",
    "\\\\\"",
    " ",
    "\t",
    "-",
    "\\x22",
    "\\u0022",
    "é",
    "\u{1}",
    "204",
    "x",
    "?",
    ",",
    "\r",
    "\n",
    "\0",
    "\x7F",
    "/visit/events?siteCode=s&eventType=activity",
    "GET /visit/events?siteCode=s HTTP/1.1",
    "14/Nov/2023:22:13:20 +0000",
    "1700000000.123",
    "203.0.113.7",
    "kameleoonVisitorCode=v",
];
/// Values as they usually are.
const PLAIN: &[&str] = &[
    "/visit/events?siteCode=s&eventType=page",
    "agent",
    "a b",
    "GET /visit/events?siteCode=s HTTP/1.1",
    "/visit/events",
    "siteCode=s&eventType=page",
];

/// What of a value a variable can have.
fn possible(
    origin: Origin,
    value: Option<Vec<u8>>,
    pick: prop::sample::Index,
    is_recent: bool,
) -> Option<Vec<u8>> {
    let never: &[u8] = match origin {
        Origin::Log(texts) => return Some(texts[pick.index(texts.len())].as_bytes().to_vec()),
        Origin::Own(texts) => return value.map(|_| texts[pick.index(texts.len())].as_bytes().to_vec()),
        Origin::Header | Origin::Uri => b"\0\r\n",
        Origin::Cookie => b"\0\r\n;",
        Origin::Host => b"\0\r\n/",
        Origin::Line => b"\r\n",
        Origin::Any => b"\0",
        Origin::User => b"\0:",
    };
    let is_strict = is_recent && matches!(origin, Origin::Uri | Origin::Host);
    let may = |byte: u8| !never.contains(&byte) && !(is_strict && (byte <= b' ' || byte == 0x7F));
    value.map(|bytes| bytes.into_iter().filter(|byte| may(*byte)).collect())
}

/// What nginx writes for a variable.
pub(crate) fn written(escape: &str, name: &str, request: &Request) -> Vec<u8> {
    let Some(value) = request.get(name) else {
        return if escape == "default" { b"-".to_vec() } else { Vec::new() };
    };
    if matches!(origin(name), Origin::Log(_)) {
        return value.clone();
    }
    let one = |b: u8| match (escape, b) {
        ("default", b) if !(32..=126).contains(&b) || b == b'"' || b == b'\\' => {
            format!("\\x{b:02X}").into_bytes()
        }
        ("json", b'"' | b'\\') => vec![b'\\', b],
        ("json", b'\n') => b"\\n".to_vec(),
        ("json", b'\r') => b"\\r".to_vec(),
        ("json", b'\t') => b"\\t".to_vec(),
        ("json", 8) => b"\\b".to_vec(),
        ("json", 12) => b"\\f".to_vec(),
        ("json", b) if b < 32 => format!("\\u{b:04X}").into_bytes(),
        (_, b) => vec![b],
    };
    value.iter().flat_map(|b| one(*b)).collect()
}
