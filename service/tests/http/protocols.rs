//! The HTTP server over real sockets: protocols, limits, panics, draining.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanal_service::http::{
    Body, BodyLimits, Connection, Encoding, Handler, HttpLimits, Listener, Request, Response, bind, empty,
    read_body, serve,
};
use fanal_service::problem::Problem;
use fanal_service::stop::Stop;
use fanal_service::tls::{TlsHandle, local_certificate};
use futures_util::StreamExt;
use http::{StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Answers as the path asks: echoes, waits, panics.
struct Example {
    body: BodyLimits,
}

impl Handler for Example {
    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/panic" => panic!("asked for"),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                Response::new(Body::full("slow but done"))
            }
            "/for-ever" => std::future::pending().await,
            "/tls" => Response::new(Body::full(connection.tls.to_string())),
            "/stream" => {
                let chunks = futures_util::stream::iter(["one ", "two"]).map(Bytes::from);
                Response::new(Body::stream(chunks))
            }
            "/echo" => {
                let read = match Encoding::of(request.headers()) {
                    Ok(encoding) => read_body(request.into_body(), self.body, encoding).await,
                    Err(error) => Err(error),
                };
                read.map_or_else(
                    |error| Problem::from(&error).into_response(),
                    |bytes| Response::new(Body::full(bytes)),
                )
            }
            _ => empty(StatusCode::NO_CONTENT),
        }
    }
}

struct Running {
    address: SocketAddr,
    stop: Stop,
    served: JoinHandle<Result<(), fanal_service::http::ServeError>>,
}

async fn start(limits: HttpLimits, tls: Option<TlsHandle>) -> Running {
    start_with(
        limits,
        tls,
        BodyLimits { bytes_max: 1 << 20, timeout: Duration::from_millis(500), rate_min: 0 },
    )
    .await
}

async fn start_with(limits: HttpLimits, tls: Option<TlsHandle>, body: BodyLimits) -> Running {
    let tcp = bind("127.0.0.1:0".parse().unwrap(), "--http").unwrap();
    let address = tcp.local_addr().unwrap();
    let stop = Stop::new();
    let listener = Listener { tcp, tls };
    let served = tokio::spawn(serve(listener, Arc::new(Example { body }), limits, stop.clone()));
    Running { address, stop, served }
}

type Sender1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;
pub(crate) type Sender2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http1(address: SocketAddr) -> Sender1 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn http2(address: SocketAddr) -> Sender2 {
    http2_over(TcpStream::connect(address).await.unwrap()).await
}

async fn http2_over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender2 {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    http::Request::post(format!("http://shop.test{path}"))
        .header("host", "shop.test")
        .body(Full::new(body.into()))
        .unwrap()
}

async fn text(response: http::Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn post(address: SocketAddr, encoding: &str, body: Vec<u8>) -> (StatusCode, String) {
    let mut sent = request("/echo", body);
    sent.headers_mut().insert("content-encoding", encoding.parse().unwrap());
    let response = http1(address).await.send_request(sent).await.unwrap();
    (response.status(), text(response).await)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn http1_and_http2_are_served_on_one_cleartext_port() {
    let server = start(HttpLimits::default(), None).await;
    let mut one = http1(server.address).await;
    for body in ["first", "second on the same connection"] {
        let answer = one.send_request(request("/echo", body)).await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_11);
        assert_eq!(text(answer).await, body);
    }
    let mut two = http2(server.address).await;
    let both = tokio::join!(
        two.clone().send_request(request("/slow", "")),
        two.send_request(request("/echo", "side by side"))
    );
    assert_eq!(both.0.unwrap().version(), Version::HTTP_2);
    assert_eq!(text(both.1.unwrap()).await, "side by side");
}

#[tokio::test]
async fn a_stream_goes_out_in_chunks() {
    let server = start(HttpLimits::default(), None).await;
    let answer = http1(server.address).await.send_request(request("/stream", "")).await.unwrap();
    assert_eq!(answer.headers()["transfer-encoding"], "chunked");
    assert_eq!(text(answer).await, "one two");
}

#[tokio::test]
async fn a_panic_costs_one_answer_and_nothing_else() {
    let server = start(HttpLimits::default(), None).await;
    let mut sender = http2(server.address).await;
    let (panicked, other) = tokio::join!(
        sender.clone().send_request(request("/panic", "")),
        sender.clone().send_request(request("/slow", ""))
    );
    let panicked = panicked.unwrap();
    assert_eq!(panicked.status(), 500);
    assert_eq!(panicked.headers()["access-control-allow-origin"], "*");
    assert!(text(panicked).await.contains("internal_error"));
    assert_eq!(text(other.unwrap()).await, "slow but done");
    assert_eq!(sender.send_request(request("/", "")).await.unwrap().status(), 204);
}

/// Trusts this authority alone.
pub(crate) fn tls_client(authority: &Path, alpn: &[u8]) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for root in rustls_pki_types::CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

async fn tls_stream(
    address: SocketAddr,
    authority: &Path,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let name = rustls_pki_types::ServerName::try_from("data.shop.test").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    tls_client(authority, alpn).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn tls_chooses_the_protocol_by_alpn_and_takes_a_new_certificate_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let made = local_certificate(folder.path(), "shop.test").unwrap();
    let handle = TlsHandle::load(&made.files).unwrap();
    let server = start(HttpLimits::default(), Some(handle.clone())).await;

    let stream = tls_stream(server.address, &made.authority, b"http/1.1").await;
    let before = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let (mut one, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(text(one.send_request(request("/tls", "")).await.unwrap()).await, "true");

    let stream = tls_stream(server.address, &made.authority, b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut two = http2_over(stream).await;
    assert_eq!(two.send_request(request("/echo", "x")).await.unwrap().version(), Version::HTTP_2);

    std::fs::remove_file(&made.files.certificate).unwrap();
    assert!(handle.reload(&made.files).unwrap_err().to_string().contains("server.pem"));
    local_certificate(folder.path(), "shop.test").unwrap();
    handle.reload(&made.files).unwrap();
    let stream = tls_stream(server.address, &made.authority, b"h2").await;
    assert_ne!(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec(), before);
    assert_eq!(one.send_request(request("/", "")).await.unwrap().status(), 204, "old connections go on");
}

#[tokio::test]
async fn bodies_are_decoded_and_bounded() {
    let server = start(HttpLimits::default(), None).await;
    let plain = b"eventType=page&href=x\n".repeat(1000);
    let zstd_body = zstd::encode_all(&plain[..], 3).unwrap();
    let two_members = [gzip(&plain[..100]), gzip(&plain[100..])].concat();
    for (encoding, body) in [
        ("gzip", gzip(&plain)),
        ("GZIP", two_members),
        ("zstd", zstd_body.clone()),
        ("identity", plain.clone()),
    ] {
        let (status, answer) = post(server.address, encoding, body).await;
        assert_eq!((status.as_u16(), answer.len()), (200, plain.len()), "{encoding}");
    }
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1 << 17);
    let mut flipped = gzip(&plain);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let cases = [
        ("gzip", bomb, 413, "body_too_large"),
        ("zstd", zstd::encode_all(&vec![0; 64 << 20][..], 3).unwrap(), 413, "body_too_large"),
        ("identity", vec![b'x'; (1 << 20) + 1], 413, "body_too_large"),
        ("gzip", gzip(&plain)[..100].to_vec(), 400, "body_encoding_invalid"),
        ("gzip", flipped, 400, "body_encoding_invalid"),
        ("gzip", b"not gzip".to_vec(), 400, "body_encoding_invalid"),
        ("zstd", zstd_body[..20].to_vec(), 400, "body_encoding_invalid"),
        ("br", plain.clone(), 415, "body_encoding_unsupported"),
        ("gzip, gzip", gzip(&plain), 415, "body_encoding_unsupported"),
    ];
    for (encoding, body, status, code) in cases {
        let answer = post(server.address, encoding, body).await;
        assert_eq!(answer.0.as_u16(), status, "{encoding} {code}: {}", answer.1);
        assert!(answer.1.contains(code), "{}", answer.1);
    }
}

#[tokio::test]
async fn a_chunked_body_is_read_and_bounded_without_a_length() {
    let server = start(HttpLimits::default(), None).await;
    for (chunks, status) in [(3_usize, "200"), (40, "413")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head =
            "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("8000\r\n{}\r\n", "y".repeat(0x8000));
        for _ in 0..chunks {
            stream.write_all(chunk.as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{}", &answer[..100.min(answer.len())]);
    }
}

#[tokio::test]
async fn a_body_that_trickles_in_is_given_up() {
    let server = start(HttpLimits::default(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc").await.unwrap();
    let mut answer = vec![0; 2048];
    let n = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"), "{answer}");
}

async fn closed_after(address: SocketAddr, sent: &[u8]) -> Duration {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap();
    started.elapsed()
}

#[tokio::test]
async fn connections_that_say_nothing_or_headers_slowly_are_closed() {
    let limits = HttpLimits {
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(900),
        ..HttpLimits::default()
    };
    let server = start(limits, None).await;
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost", b"PRI * HTTP/2.0\r\n"] {
        let after = closed_after(server.address, sent).await;
        assert!(after >= Duration::from_millis(250) && after < Duration::from_secs(5), "{after:?}");
    }
    let after = closed_after(server.address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(after >= Duration::from_millis(850) && after < Duration::from_secs(5), "{after:?}");
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let server = start(HttpLimits::default(), None).await;
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "z".repeat(64 * 1024));
    for headers in [many, long] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let sent = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        // The server may answer and close before it has read all of it.
        let _ = stream.write_all(sent.as_bytes()).await;
        let mut answer = vec![0; 256];
        let n = stream.read(&mut answer).await.unwrap();
        assert!(answer[..n].starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer[..n]));
    }
}

#[tokio::test]
async fn a_stop_finishes_requests_in_flight_and_refuses_new_ones() {
    for version in [1, 2] {
        let server = start(HttpLimits::default(), None).await;
        let idle = TcpStream::connect(server.address).await.unwrap();
        let in_flight = if version == 1 {
            let mut sender = http1(server.address).await;
            tokio::spawn(async move { sender.send_request(request("/slow", "")).await })
        } else {
            let mut sender = http2(server.address).await;
            tokio::spawn(async move { sender.send_request(request("/slow", "")).await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stopped_at = Instant::now();
        server.stop.stop();
        assert_eq!(text(in_flight.await.unwrap().unwrap()).await, "slow but done");
        server.served.await.unwrap().unwrap();
        assert!(stopped_at.elapsed() < Duration::from_secs(5), "{:?}", stopped_at.elapsed());
        assert!(TcpStream::connect(server.address).await.is_err());
        drop(idle);
    }
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_a_stop_for_long() {
    let limits = HttpLimits { drain_timeout: Duration::from_millis(300), ..HttpLimits::default() };
    let server = start(limits, None).await;
    let mut sender = http1(server.address).await;
    let lost = tokio::spawn(async move { sender.send_request(request("/for-ever", "")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.stop();
    tokio::time::timeout(Duration::from_secs(3), server.served).await.unwrap().unwrap().unwrap();
    assert!(lost.await.unwrap().is_err());
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_a_free_place() {
    let limits = HttpLimits { connections_max: 1, ..HttpLimits::default() };
    let server = start(limits, None).await;
    let mut first = http1(server.address).await;
    assert_eq!(first.send_request(request("/", "")).await.unwrap().status(), 204);
    let mut second = http1(server.address).await;
    let waiting = second.send_request(request("/", ""));
    let mut waiting = std::pin::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());
    drop(first);
    let answered = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(answered.status(), 204);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_way_out() {
    let taken = bind("127.0.0.1:0".parse().unwrap(), "--http").unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address, "--http").unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--http"), "{error}");
    let error = bind("203.0.113.1:80".parse().unwrap(), "http.listen").unwrap_err().to_string();
    assert!(error.contains("not an address of this machine"), "{error}");
}
