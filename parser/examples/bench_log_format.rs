//! Speed of reading access logs on one thread: bytes of log to judged requests, and on to
//! beacons, beside counting the line feeds of the same bytes.
//!
//! Prints a JSON line per case. Arguments choose cases by parts of their names.
//! `cargo run --release -p fanal-parser --example bench_log_format`

#![expect(clippy::print_stdout, reason = "the result of a benchmark is its output")]

use std::hint::black_box;
use std::time::Instant;

use fanal_model::{Beacon, DeadLetter, Source};
use fanal_parser::log_format::{LogFormat, LogOutcome, Scratch};
use fanal_parser::{Limits, Receiver, Request, Sink};

const ROUNDS: usize = 15;
const CORPUS_BYTES: usize = 64 << 20;
const JSON: &str = r#"log_format j escape=json '{"time":"$msec","addr":"$remote_addr","method":"$request_method","uri":"$request_uri","status":$status,"agent":"$http_user_agent","referer":"$http_referer","cookie":"$http_cookie","body":"$request_body"}';"#;
const AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";

/// Bodies as SDKs send them: `@N` is a nonce, `@V` the visitor.
const BODIES: [&str; 5] = [
    "eventType=page&href=https%3A%2F%2Fwww.example.test%2Fproducts%2F@P&title=Product%20@P&nonce=@N&visitorCode=@V\neventType=staticData&browser=CHROME&browserIndex=0&browserVersion=156&visitNumber=0&timeSincePreviousVisit=0&os=LINUX&osIndex=3&deviceType=DESKTOP&nonce=@N&visitorCode=@V",
    "eventType=staticData&browser=CHROME&browserIndex=0&browserVersion=156&visitNumber=0&timeSincePreviousVisit=0&os=LINUX&osIndex=3&deviceType=DESKTOP&nonce=@N&visitorCode=@V",
    "eventType=experiment&id=3001&variationId=4002&nonce=@N&visitorCode=@V\neventType=page&href=https%3A%2F%2Fwww.example.test%2Fa%20path%2F@P&title=T%C3%AFtre&referrersIndices=[2,5]&nonce=@N&visitorCode=@V",
    "eventType=conversion&goalId=9002&revenue=12.5&negative=false&nonce=@N&visitorCode=@V",
    "eventType=customData&index=1&valuesCountMap=%7B%22gold%22%3A1%7D&overwrite=true&nonce=@N&visitorCode=@V",
];

/// The corpus: of 16 lines 13 are beacons in a body, one is a GET, two are none.
fn corpus(kind: &str) -> Vec<u8> {
    let mut log = Vec::with_capacity(CORPUS_BYTES + 4_096);
    let mut n = 0_u64;
    while log.len() < CORPUS_BYTES {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        let body = BODIES[usize::try_from(n % 5).unwrap_or(0)]
            .replace("@N", &format!("{mixed:016X}"))
            .replace("@V", &format!("{:016x}", (n / 5).wrapping_mul(0xD134_2543_DE82_EF95)))
            .replace("@P", &(mixed % 10_000).to_string());
        let (method, uri, body) = match n % 16 {
            3 => (
                "GET",
                format!("/visit/events.gif?siteCode=s1&{}", body.lines().next().unwrap_or_default()),
                "",
            ),
            7 => ("GET", format!("/v3/s1?ts={mixed}"), ""),
            11 => ("OPTIONS", "/visit/events?siteCode=s1".to_owned(), ""),
            _ => {
                ("POST", "/visit/events?siteCode=s1&sdkName=javascript&sdkVersion=4.17.1".to_owned(), &*body)
            }
        };
        let (time, address) = (1_700_000_000 + n / 1_000, format!("203.0.{}.{}", n % 100, mixed % 250));
        let (referer, cookie) =
            ("https://www.example.test/", format!("consent=1; _ga=GA1.2.{mixed}; theme=dark"));
        let line = match kind {
            "combined" => format!(
                "{address} - - [14/Nov/2023:22:13:20 +0000] \"{method} {uri} HTTP/1.1\" 204 0 \"{referer}\" \"{AGENT}\"\n"
            ),
            "json" => format!(
                "{{\"time\":\"{time}.{:03}\",\"addr\":\"{address}\",\"method\":\"{method}\",\"uri\":\"{uri}\",\"status\":204,\"agent\":\"{AGENT}\",\"referer\":\"{referer}\",\"cookie\":\"{cookie}\",\"body\":\"{}\"}}\n",
                n % 1_000,
                body.replace('\n', "\\n")
            ),
            _ => {
                let body = if body.is_empty() { "-".to_owned() } else { body.replace('\n', "\\x0A") };
                format!(
                    "{time}.{:03}\t{address}\t{method}\t{uri}\t204\t{AGENT}\t{referer}\t{cookie}\t{body}\n",
                    n % 1_000
                )
            }
        };
        log.extend_from_slice(line.as_bytes());
        n += 1;
    }
    log
}

#[derive(Default)]
struct Tally {
    beacons: u64,
    bytes: usize,
}

impl Sink for Tally {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        self.beacons += 1;
        self.bytes += beacon.line.len() + beacon.visitor().len();
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.bytes += letter.bytes.len();
    }
}

/// Lines, requests, beacons, and a number that no part of the work can be left out of.
fn read(format: &LogFormat, log: &[u8], mut receiver: Option<&mut Receiver>) -> (u64, u64, u64, usize) {
    let (mut scratch, mut tally) = (Scratch::default(), Tally::default());
    let (mut lines, mut requests, mut start) = (0, 0, 0);
    for end in memchr::memchr_iter(b'\n', log) {
        let line = &log[start..end];
        start = end + 1;
        lines += 1;
        let Ok(read) = format.read(line) else { continue };
        let Ok(LogOutcome::Request(request)) = black_box(read.outcome(&mut scratch)) else { continue };
        requests += 1;
        tally.bytes += request.site_code.len() + request.query.len() + request.body.map_or(0, <[u8]>::len);
        let Some(receiver) = &mut receiver else { continue };
        let request = Request {
            site_code: &request.site_code,
            received_at_ms: request.received_at_ms,
            query: request.query,
            body: request.body,
            cookie_visitor: request.cookie_visitor.as_deref(),
            header_user_agent: request.user_agent,
            referer: request.referer,
            client_address: "",
            source: Source::NginxLog,
            node: "n",
        };
        let _ = black_box(receiver.receive(&request, &mut tally));
    }
    (lines, requests, tally.beacons, tally.bytes)
}

fn report<T: PartialEq + std::fmt::Debug>(case: &str, bytes: usize, mut work: impl FnMut() -> T) {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    if !chosen.is_empty() && !chosen.iter().any(|part| case.contains(part.as_str())) {
        return;
    }
    let expected = work();
    let mut seconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(work(), expected, "the work differs between rounds");
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[ROUNDS / 2];
    println!(
        "{{\"bench\":\"log_format\",\"case\":\"{case}\",\"bytes\":{bytes},\"seconds\":{median:.4},\"mb_per_s\":{:.0},\"result\":\"{expected:?}\"}}",
        bytes as f64 / 1e6 / median
    );
}

fn main() {
    for (kind, format) in [("fanal", "fanal"), ("combined", "combined"), ("json", JSON)] {
        let log = corpus(kind);
        let format = match LogFormat::compile(format) {
            Ok(format) => format,
            Err(error) => return println!("{error}"),
        };
        let mut receiver = Receiver::new(Limits::default());
        report(&format!("{kind}: line feeds"), log.len(), || {
            memchr::memchr_iter(b'\n', black_box(&log)).count()
        });
        report(&format!("{kind}: columns"), log.len(), || {
            let (mut start, mut read) = (0, 0_u64);
            for end in memchr::memchr_iter(b'\n', &log) {
                read += u64::from(format.read(black_box(&log[start..end])).is_ok());
                start = end + 1;
            }
            read
        });
        report(&format!("{kind}: judged requests"), log.len(), || read(&format, black_box(&log), None));
        report(&format!("{kind}: beacons"), log.len(), || {
            read(&format, black_box(&log), Some(&mut receiver))
        });
    }
}
