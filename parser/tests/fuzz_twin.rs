//! The fuzz target: bytes of any kind through the parser and its twin.
//!
//! Runs a bounded number of inputs in every `cargo test`. A long run on the
//! stable toolchain:
//!
//! ```text
//! BOLERO_RANDOM_ITERATIONS=100000000 cargo test --release -p fanal-parser --test fuzz_twin
//! ```
//!
//! and guided by coverage, where `cargo-bolero` is installed:
//! `cargo bolero test --manifest-path parser/Cargo.toml --test fuzz_twin a_line_of_any_bytes`.

#[path = "twin/log_format.rs"]
mod log_format;
mod twin;

use std::sync::atomic::{AtomicUsize, Ordering};

use fanal_model::Source;
use fanal_parser::log_format::{LogFormat, Part, Scratch};
use fanal_parser::{Limits, Receiver, Request, cookie_visitor, counts, line};
use twin::request::Kept;

const ITERATIONS: usize = 100_000;

/// What one byte of input stands for, so that random bytes come near the grammar.
const TOKENS: [&str; 44] = [
    "&",
    "&",
    "=",
    "%",
    "%2",
    "%20",
    "%C3%A9",
    "%FF",
    "\r",
    "\n",
    "\n",
    "\n",
    "+",
    "-1",
    "0",
    "7",
    "&eventType=page&href=h",
    "&eventType=conversion&goalId=3",
    "&eventType=customData&index=1",
    "&eventType=staticData",
    "&eventType=experiment&id=1&variationId=2",
    "&eventType=activity",
    "&eventType=geolocation",
    "&eventType=",
    "&goalId=",
    "&id=",
    "&variationId=",
    "&index=",
    "&href=",
    "&visitorCode=a",
    "&visitorCode=",
    "&mappingValue=a",
    "&mappingValue=",
    "&userAgent=",
    "&revenue=",
    "1e+2",
    "&browserIndex=",
    "&latitude=",
    "&overwrite=",
    "true",
    "&nonce=",
    "&bodyUa=true",
    "&siteCode=s",
    "&x=",
];

fn near_the_grammar(input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for byte in input {
        match TOKENS.get(usize::from(*byte) % (TOKENS.len() + 4)) {
            Some(token) => bytes.extend_from_slice(token.as_bytes()),
            None => bytes.push(*byte),
        }
    }
    bytes
}

/// Whether the line is one that both accept.
fn check_line(bytes: &[u8]) -> bool {
    match (line::parse(bytes), twin::parse(bytes)) {
        (Ok(fast), Ok(plain)) => {
            assert_eq!(fast.event(), plain.event);
            true
        }
        (fast, plain) => {
            assert_eq!(fast.err(), plain.err());
            false
        }
    }
}

#[test]
fn a_line_of_any_bytes_means_what_the_twin_says() {
    let (tried, accepted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    bolero::check!().with_iterations(ITERATIONS).with_max_len(60).for_each(|input: &[u8]| {
        check_line(input);
        tried.fetch_add(1, Ordering::Relaxed);
        accepted.fetch_add(usize::from(check_line(&near_the_grammar(input))), Ordering::Relaxed);
    });
    // A target that meets only the first reason to reject would prove nothing.
    let (tried, accepted) = (tried.into_inner(), accepted.into_inner());
    assert!(tried < 1_000 || accepted > tried / 10, "{accepted} of {tried} inputs were accepted");
}

#[test]
fn a_request_of_any_bytes_gives_what_the_twin_says() {
    bolero::check!().with_iterations(ITERATIONS / 5).with_max_len(100).for_each(|input: &[u8]| {
        let half = input.len() / 4;
        let (query, body) = (near_the_grammar(&input[..half]), near_the_grammar(&input[half..]));
        let request = Request {
            site_code: "s",
            received_at_ms: 1,
            query: &query,
            body: (!input.len().is_multiple_of(4)).then_some(&body),
            cookie_visitor: None,
            header_user_agent: b"",
            referer: b"",
            client_address: "",
            source: Source::Http,
            node: "",
        };
        let mut kept = Kept::default();
        let counts = Receiver::new(Limits::default()).receive(&request, &mut kept).unwrap();
        assert!(counts.is_balanced());
        assert_eq!(kept.0, twin::request::receive(&request, &Limits::default()));
    });
}

#[test]
fn no_bytes_break_a_reader() {
    bolero::check!().with_iterations(ITERATIONS).with_max_len(200).for_each(|input: &[u8]| {
        let _ = cookie_visitor(input);
        let text = String::from_utf8_lossy(input);
        let _ = (counts::values(&text), counts::metadata(&text));
    });
}

const FORMATS: [&str; 12] = [
    "fanal",
    "combined",
    "main",
    "$msec $request_uri $status $request_method \"$http_cookie\" $request_body",
    "[$time_local]|$remote_user|$request_method|$status|\"$uri$is_args$args\"|$http_x_forwarded_for",
    "$time_iso8601 $request_method $uri $is_args$args $status $realip_remote_addr",
    "escape=json {\"t\":$msec,\"r\":\"$request\",\"s\":\"$status\",\"c\":\"$cookie_kameleoonVisitorCode\",\"b\":\"$request_body\"}",
    "escape=json \"$http_x\" $status \"$http_user_agent\" $request_method \"$request_uri\" $msec \"$request_body\"",
    "escape=json $msec $status $http_user_agent\",\"$request_method\",\"$request_uri\" - $http_y",
    "escape=none $msec $status $request_method $request_uri \"$http_cookie\"",
    "escape=none $msec\t$request_method\t$http_user_agent\t$request_uri\t$status",
    "escape=none $status $msec \"$request\"",
];

/// What one byte of input stands for in a line of a log.
const LOG_TOKENS: [&str; 40] = [
    "\t",
    "\t",
    " ",
    " ",
    "\"",
    "\"",
    "|",
    "\\",
    "\\\"",
    "\\x22",
    "\\n",
    "\\u00e9",
    "\\ud834\\udd1e",
    "-",
    "?",
    "=",
    "[",
    "] \"",
    "\" \"",
    " - ",
    "1700000000.123",
    "14/Nov/2023:22:13:20 +0000",
    "2023-11-14T22:13:20-03:30",
    "204",
    "204",
    "404",
    "203.0.113.7",
    "GET",
    "POST",
    "GET ",
    "POST ",
    " HTTP/1.1",
    "/visit/events",
    "/visit/events?siteCode=s",
    "siteCode=s&eventType=page",
    "kameleoonVisitorCode=v",
    "{\"t\":",
    ",\"r\":\"",
    "\",\"s\":\"",
    "https://h/visit/events.gif?siteCode=%41",
];

/// A line that begins as one of the format does.
fn near_the_format(format: &LogFormat, input: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), input);
    for part in format.explanation().parts {
        match part {
            Part::Literal { text } => bytes.extend_from_slice(text.as_bytes()),
            Part::Variable { name, .. } => {
                let usual = match name.as_str() {
                    "msec" => "1700000000.123",
                    "time_local" => "14/Nov/2023:22:13:20 +0000",
                    "time_iso8601" => "2023-11-14T22:13:20+00:00",
                    "status" => "204",
                    "request" => "POST /visit/events?siteCode=s HTTP/1.1",
                    "request_method" => "POST",
                    "request_uri" | "uri$is_args$args" => "/visit/events?siteCode=s",
                    "uri" => "/visit/events",
                    "is_args$args" => "?siteCode=s",
                    _ => "",
                };
                let (tokens, behind) = rest.split_at(rest.len().min(3));
                rest = behind;
                // The last byte of three says whether they are the value.
                match tokens {
                    [first, second, third] if third % 4 == 0 => [first, second].iter().for_each(|byte| {
                        match LOG_TOKENS.get(usize::from(**byte) % (LOG_TOKENS.len() + 4)) {
                            Some(token) => bytes.extend_from_slice(token.as_bytes()),
                            None => bytes.push(**byte),
                        }
                    }),
                    _ => bytes.extend_from_slice(usual.as_bytes()),
                }
            }
        }
    }
    bytes.extend_from_slice(rest);
    bytes
}

#[test]
fn a_log_line_of_any_bytes_means_what_the_plain_reader_says() {
    let formats =
        FORMATS.map(|text| LogFormat::compile(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    let explained: Vec<_> = formats.iter().map(LogFormat::explanation).collect();
    let (tried, requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
    bolero::check!().with_iterations(ITERATIONS).with_max_len(60).for_each(|input: &[u8]| {
        let Some((first, rest)) = input.split_first() else { return };
        let at = usize::from(*first) % formats.len();
        let mut scratch = Scratch::default();
        for line in [rest, &near_the_format(&formats[at], rest)] {
            let fast = log_format::fast(&formats[at], line, &mut scratch);
            assert_eq!(fast, log_format::meaning(&explained[at], line), "{}", String::from_utf8_lossy(line));
            let (fields, misfit) = formats[at].fields(line);
            let fields =
                fields.iter().map(|field| (field.variable.to_lowercase(), field.raw.to_vec())).collect();
            assert_eq!(misfit.is_none().then_some(fields), log_format::values(&explained[at], line));
            requests.fetch_add(
                usize::from(matches!(fast, log_format::Meaning::Request { .. })),
                Ordering::Relaxed,
            );
        }
        let mut out = Vec::new();
        assert!(formats[at].read(rest).is_ok_and(|read| read.write_fanal("", &mut out)) || out.is_empty());
        tried.fetch_add(1, Ordering::Relaxed);
    });
    let (tried, requests) = (tried.into_inner(), requests.into_inner());
    assert!(tried < 1_000 || requests > tried / 50, "{requests} of {tried} lines were requests");
}

#[test]
fn a_format_of_any_bytes_is_compiled_or_refused() {
    const WORDS: [&str; 24] = [
        "log_format ",
        "x ",
        "escape=json ",
        "escape=none ",
        "'",
        "'",
        "\"",
        ";",
        " ",
        "\t",
        "\\t",
        "\\",
        "$",
        "${",
        "}",
        "#\n",
        "$msec",
        "$status",
        "$request_uri",
        "$http_user_agent",
        "$request_body",
        "$is_args",
        "$args",
        "$uri",
    ];
    let (tried, compiled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    bolero::check!().with_iterations(ITERATIONS).with_max_len(30).for_each(|input: &[u8]| {
        let near: String = input.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
        let needed = format!("$msec\t$status\t$request_uri\t{near}");
        for text in [String::from_utf8_lossy(input).into_owned(), near, needed] {
            match LogFormat::compile(&text) {
                Ok(format) => {
                    let _ = format.explain(input);
                    compiled.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    assert!(error.place.offset.is_none_or(|at| at <= text.len()), "{text}: {error}")
                }
            }
        }
        tried.fetch_add(1, Ordering::Relaxed);
    });
    let (tried, compiled) = (tried.into_inner(), compiled.into_inner());
    assert!(tried < 1_000 || compiled > tried / 20, "{compiled} of {tried} formats compile");
}
