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

mod twin;

use std::sync::atomic::{AtomicUsize, Ordering};

use fanal_model::Source;
use fanal_parser::log_format::{LogFormat, Scratch};
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
        let mut log = b"1700000000.123\t10.0.0.1\tPOST\t/visit/events?siteCode=s\t204\t".to_vec();
        log.extend_from_slice(input);
        for line in [input, &log] {
            if let Ok(columns) = LogFormat::fanal().read(line) {
                let _ = columns.outcome(&mut Scratch::default());
            }
        }
    });
}
