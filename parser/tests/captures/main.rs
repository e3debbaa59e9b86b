//! Every recorded SDK request through the receiver, compared with what the
//! protocol page says it means.
//!
//! `golden/*.json` hold the expectations; `GOLDEN=write cargo test -p fanal-parser
//! --test captures` rewrites them, and the difference is read in review.
//! [`by_hand`] says the same for the richest captures, written without the parser.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by panicking")]

mod by_hand;
mod record;

use std::path::{Path, PathBuf};

use fanal_model::Source;
use fanal_parser::log_format::{LogFormat, LogOutcome, Scratch};
use fanal_parser::{Limits, Receiver, Request, body, parse_query};
use record::{Records, Value};

/// One `POST /visit/events` of a capture file.
pub(crate) struct Post {
    pub(crate) query: String,
    pub(crate) user_agent: String,
    pub(crate) referer: String,
    pub(crate) body: String,
}

pub(crate) fn captures() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// Reads the notation of the capture files: `[+seconds] METHOD URL -> status`,
/// indented headers, a blank line, the indented body.
pub(crate) fn posts(capture: &str) -> Vec<Post> {
    let mut posts = Vec::new();
    for block in capture.split("\n[+").skip(1) {
        let (head, rest) = block.split_once('\n').unwrap();
        let Some((_, url)) = head.split_once("] POST https://") else { continue };
        let (url, _) = url.split_once("   ->").unwrap();
        let Some((_, query)) = url.split_once("/visit/events?") else { continue };
        let (headers, body) = rest.split_once("\n\n").unwrap();
        let header = |wanted: &str| {
            let found = headers.lines().filter_map(|line| line.trim_start().split_once(": "));
            let mut found = found.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.next().map_or(String::new(), |(_, value)| value.to_owned())
        };
        let body: Vec<&str> = body.lines().map_while(|line| line.strip_prefix("    ")).collect();
        let post = Post {
            query: query.to_owned(),
            user_agent: header("user-agent"),
            referer: header("referer"),
            body: body.join("\n"),
        };
        // The length proves this reading of the notation; bodies sent from a page
        // were shortened afterwards (the page's origin was normalised).
        let length = header("content-length");
        let is_verbatim = post.referer.is_empty() && !length.is_empty();
        assert!(!is_verbatim || length == post.body.len().to_string(), "body of {head}");
        posts.push(post);
    }
    posts
}

pub(crate) fn receive(post: &Post) -> Records {
    let query = parse_query(post.query.as_bytes());
    let request = Request {
        site_code: query.site_code.as_deref().unwrap(),
        received_at_ms: 1_700_000_000_000,
        query: post.query.as_bytes(),
        body: Some(post.body.as_bytes()),
        cookie_visitor: None,
        header_user_agent: post.user_agent.as_bytes(),
        referer: post.referer.as_bytes(),
        client_address: "192.0.2.0",
        source: Source::Http,
        node: "node-1",
    };
    let mut records = Records::default();
    let counts = Receiver::new(Limits::default()).receive(&request, &mut records).unwrap();
    assert_eq!(counts.received, body::lines(post.body.as_bytes()).count() as u64);
    assert_eq!((counts.accepted, counts.rejected), (counts.received, 0), "an SDK's line was rejected");
    records
}

#[test]
fn every_recorded_body_means_what_its_golden_file_says() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (mut bodies, mut lines) = (0, 0);
    for (name, capture) in captures() {
        let posts = posts(&capture);
        let path = golden.join(format!("{name}.json"));
        let read: Vec<Value> = posts.iter().map(|post| Value::Array(receive(post).0)).collect();
        bodies += posts.len();
        lines += read.iter().map(|records| records.as_array().unwrap().len()).sum::<usize>();
        if posts.is_empty() {
            assert!(!path.exists(), "{name} tracks nothing, but has a golden file");
            continue;
        }
        let read = Value::Array(read);
        if std::env::var("GOLDEN").is_ok_and(|mode| mode == "write") {
            std::fs::write(&path, serde_json::to_string_pretty(&read).unwrap() + "\n").unwrap();
        }
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; write it with GOLDEN=write", path.display()));
        let expected: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, expected, "{name} reads differently from its golden file");
    }
    assert_eq!((bodies, lines), (BODIES, LINES), "captures were added or lost");
}

/// What nginx writes for a value under `escape=default`.
fn escaped(value: &str) -> String {
    let plain = |b: u8| (32..=126).contains(&b) && b != b'"' && b != b'\\';
    let text =
        value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("\\x{b:02X}") });
    if value.is_empty() { "-".to_owned() } else { text.collect() }
}

#[test]
fn a_recorded_request_means_the_same_out_of_an_access_log() {
    let (format, mut scratch) = (LogFormat::fanal(), Scratch::default());
    for (name, capture) in captures() {
        for post in posts(&capture) {
            let columns = [
                "1700000000.000",
                "192.0.2.0",
                "POST",
                &format!("/visit/events?{}", post.query),
                "204",
                &escaped(&post.user_agent),
                &escaped(&post.referer),
                "-",
                &escaped(&post.body),
            ];
            let line = columns.join("\t");
            let outcome = format.read(line.as_bytes()).unwrap().outcome(&mut scratch).unwrap();
            let LogOutcome::Request(read) = outcome else { unreachable!("{name}: {outcome:?}") };
            assert_eq!(read.body, Some(post.body.as_bytes()), "{name}");
            let address = read.client_address.unwrap().to_string();
            let request = Request {
                site_code: &read.site_code,
                received_at_ms: read.received_at_ms,
                query: read.query,
                body: read.body,
                cookie_visitor: read.cookie_visitor.as_deref(),
                header_user_agent: read.user_agent,
                referer: read.referer,
                client_address: &address,
                source: Source::Http,
                node: "node-1",
            };
            let mut records = Records::default();
            assert!(Receiver::new(Limits::default()).receive(&request, &mut records).unwrap().is_balanced());
            assert_eq!(records.0, receive(&post).0, "{name}");
        }
    }
}

/// Tracking requests and their lines in `tests/captures`, counted by hand:
/// `grep -c 'POST .*/visit/events'` and `grep -cE '^    (nonce|eventType)='`.
const BODIES: usize = 33;
const LINES: usize = 141;
