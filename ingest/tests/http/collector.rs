//! A collector on a port of its own, and what a sender and a reader of its log see.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use fanal_ingest::rules::RulesHandle;
use fanal_ingest::{AddressKey, Ingest, Settings};
use fanal_model::{AddressPolicy, Beacon, DeadLetter, Receipt, SiteCode};
use fanal_service::health::Health;
use fanal_service::http::{HttpLimits, Listener, bind, serve};
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Site, SiteDirectory, VisitorCookie};
use fanal_storage::log::{Clock, EventLog, EventSource, MemoryLog, Topic};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const NOW_MS: u64 = 1_700_000_030_000;
pub(crate) const LINE: &str = "eventType=activity&nonce=0123456789ABCDEF&visitorCode=v1";

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) log: MemoryLog,
    pub(crate) health: Health,
    pub(crate) stop: Stop,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

pub(crate) fn sites() -> SiteDirectory {
    let site = |code: &str| Site::new(SiteCode::parse(code).unwrap());
    SiteDirectory::of([
        site("shop"),
        Site { address_policy: AddressPolicy::Keep, ..site("keeps") },
        Site { address_policy: AddressPolicy::Hash, ..site("hashes") },
        Site {
            visitor_cookie: Some(VisitorCookie { domain: Some("shop.example".to_owned()) }),
            ..site("cookies")
        },
    ])
}

pub(crate) async fn serve_on<L: EventLog>(
    log: L,
    settings: Settings,
    health: Health,
    stop: &Stop,
) -> SocketAddr {
    serve_with(log, settings, health, stop, RulesHandle::default()).await
}

pub(crate) async fn serve_with<L: EventLog>(
    log: L,
    settings: Settings,
    health: Health,
    stop: &Stop,
    rules: RulesHandle,
) -> SocketAddr {
    let clock: Clock = Arc::new(|| NOW_MS);
    let key = AddressKey::of(&Secret::new("test"));
    let ingest = Arc::new(Ingest::new(log, sites(), settings, key, clock, health).with_rules(rules));
    let listener = Listener::clear(bind("127.0.0.1:0".parse().unwrap(), "test").unwrap());
    let address = listener.local_addr().unwrap();
    let (watching, watch_stop) = (Arc::clone(&ingest), stop.clone());
    tokio::spawn(async move { watching.watch_log(&watch_stop).await });
    tokio::spawn(serve(listener, ingest, HttpLimits::default(), stop.clone()));
    address
}

pub(crate) async fn start(settings: Settings) -> Collector {
    let (log, health, stop) = (MemoryLog::new(Arc::new(|| NOW_MS)), Health::new(), Stop::new());
    let address = serve_on(log.clone(), settings, health.clone(), &stop).await;
    Collector { address, log, health, stop }
}

/// What stands in the log.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    /// Visitor, line, address, user agent of each beacon.
    pub(crate) beacons: Vec<(String, String, String, String)>,
    /// What each beacon says of robots.
    pub(crate) robots: Vec<String>,
    /// Reason and bytes of each dead letter.
    pub(crate) dead: Vec<(String, Vec<u8>)>,
    /// Site, received, accepted, rejected.
    pub(crate) receipts: Vec<(String, u64, u64, u64)>,
}

pub(crate) fn logged(source: &mut impl EventSource) -> Logged {
    let mut logged = Logged::default();
    while let Some(chunk) = source.try_next(1 << 20).unwrap() {
        for record in chunk.records() {
            match record.topic {
                Topic::Beacons => {
                    let b = Beacon::decode(record.value).unwrap();
                    assert_eq!(b.received_at_ms, NOW_MS);
                    assert_eq!(record.key, [b.site_code.as_bytes(), b"\0", b.visitor().as_bytes()].concat());
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    logged.robots.push(b.robot.expect("every beacon is judged").to_owned());
                    logged.beacons.push((
                        b.visitor().to_owned(),
                        text(b.line),
                        b.client_address.to_owned(),
                        text(b.user_agent),
                    ));
                }
                Topic::Dead => {
                    let letter = DeadLetter::decode(record.value).unwrap();
                    logged.dead.push((letter.reason.to_owned(), letter.bytes.to_vec()));
                }
                Topic::Receipts => {
                    let r = Receipt::decode(record.value).unwrap();
                    assert_eq!(r.minute_ms, NOW_MS - NOW_MS % 60_000);
                    logged.receipts.push((r.site_code.to_owned(), r.received, r.accepted, r.rejected));
                }
                _ => {}
            }
        }
    }
    logged
}

impl Collector {
    pub(crate) fn logged(&self) -> Logged {
        logged(&mut self.log.reader(0).unwrap())
    }
}

pub(crate) type Answer = (StatusCode, HeaderMap, Bytes);

pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "data.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    assert_eq!(parts.headers["access-control-allow-origin"], "*", "{method} {path}: {}", parts.status);
    (parts.status, parts.headers, bytes)
}

/// An HTTP/2 connection to it.
pub(crate) async fn http2(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn post(
    address: SocketAddr,
    query: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    send(address, "POST", &format!("/visit/events?{query}"), headers, body).await
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn code(answer: &Answer) -> String {
    let value: serde_json::Value = serde_json::from_slice(&answer.2).unwrap();
    assert_eq!(answer.1["content-type"], "application/problem+json");
    value["code"].as_str().unwrap().to_owned()
}

/// The whole answer to a GET, as text.
pub(crate) async fn ask(address: SocketAddr, path: &str) -> String {
    let mut raw = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    answer
}
