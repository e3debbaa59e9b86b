//! The short way beside the HTTP library, over bytes that are nearly requests.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{HeaderName, Method};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::request::{PlainRequest, parse};
use crate::http::{Body, Fields, HttpLimits, Response};

const NAMES: [&str; 10] = [
    "host",
    "user-agent",
    "cookie",
    "connection",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "expect",
    "upgrade",
    "x-a",
];

/// All that a handler may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    method: Method,
    path: String,
    query: String,
    headers: Vec<Vec<Vec<u8>>>,
    body: Vec<u8>,
}

fn headers(fields: &impl Fields) -> Vec<Vec<Vec<u8>>> {
    let values = |name| fields.all(&HeaderName::from_static(name)).map(<[u8]>::to_vec).collect();
    NAMES.into_iter().map(values).collect()
}

fn short_way(bytes: &[u8]) -> Option<Read> {
    parse(bytes, &HttpLimits::default(), |request| {
        let PlainRequest { method, path, query, body, .. } = request;
        Some(Read {
            method: method.clone(),
            path: (*path).to_owned(),
            query: (*query).to_owned(),
            headers: headers(request),
            body: body.unwrap_or_default().to_vec(),
        })
    })
}

/// What the library makes of the same bytes, when nothing comes after them.
async fn long_way(bytes: &[u8]) -> Vec<Read> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let read = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: crate::http::Request| {
        let read = Arc::clone(&read);
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                read.lock().unwrap().push(Read {
                    method: parts.method,
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    headers: headers(&parts.headers),
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    // Whether the end of the input pleases it is another question.
    http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await.ok();
    let read = read.lock().unwrap();
    read.clone()
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned),
        1 => "[a-zA-Z-]{1,12}",
    ];
    let value = prop_oneof![
        3 => "[ -~]{0,20}",
        1 => Just("keep-alive".to_owned()),
        1 => Just("close".to_owned()),
        1 => Just("chunked".to_owned()),
        1 => "[0-9]{1,2}",
    ];
    let fields = prop::collection::vec((name, value), 0..6);
    let body = prop_oneof![Just(String::new()), "[ -~]{0,12}"];
    let target = prop_oneof![4 => "/[a-z/.%]{0,9}(\\?[ -~]{0,12})?", 1 => "[ -~]{0,9}"];
    (prop::sample::select(vec!["GET", "POST"]), target, fields, body, any::<bool>()).prop_map(
        |(method, target, fields, body, has_length)| {
            let mut text = format!("{method} {target} HTTP/1.1\r\n");
            for (name, value) in fields {
                text += &format!("{name}: {value}\r\n");
            }
            if has_length && method == "POST" {
                text += &format!("Content-Length: {}\r\n", body.len());
            }
            (text + "\r\n" + &body).into_bytes()
        },
    )
}

/// A byte put anywhere, in the place of another or between two.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, bool)>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\r\n\t :?#/\0".to_vec())];
    prop::collection::vec((any::<prop::sample::Index>(), byte, any::<bool>()), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_short_way_takes_the_long_way_reads_as_the_same(mut bytes in request(), damage in damage()) {
        for (at, byte, replaces) in damage {
            let at = at.index(bytes.len());
            if replaces { bytes[at] = byte } else { bytes.insert(at, byte) }
        }
        if let Some(read) = short_way(&bytes) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(long_way(&bytes)), vec![read], "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn most_generated_requests_without_damage_and_close_are_taken() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let made = (0..400).map(|_| request().new_tree(&mut runner).unwrap().current());
    let taken = made.filter(|bytes| short_way(bytes).is_some()).count();
    assert!(taken > 40, "the property above looks at {taken} of 400");
}
