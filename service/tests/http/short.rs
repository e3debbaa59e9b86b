//! The short way: who goes it, and that limits and ends are the same on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanal_service::http::{HttpLimits, Listener, bind, serve};
use fanal_service::stop::Stop;
use fanal_service::tls::{TlsHandle, local_certificate};
use http_body_util::Full;
use rustls::{CipherSuite, HandshakeKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::protocols::{Sender2, http2, tls_client};
use crate::support::{Example, ask, rest, start};

const SHORT: &str = "x-way: short";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), pieces: &[&[u8]]) -> String {
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
        sleep(Duration::from_millis(30)).await;
    }
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test]
async fn whole_requests_go_the_short_way_and_come_back_to_it_soon_after_others() {
    let server = start(HttpLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    assert!(answer(&mut stream, &[REQUEST]).await.contains(SHORT));
    let in_pieces = answer(&mut stream, &[&REQUEST[..5], &REQUEST[5..]]).await;
    assert!(in_pieces.starts_with("HTTP/1.1 204") && !in_pieces.contains(SHORT), "{in_pieces}");
    sleep(Duration::from_millis(700)).await;
    assert!(answer(&mut stream, &[REQUEST]).await.contains(SHORT));
    let long = ask(&mut stream, "/long-way").await.unwrap();
    assert!(long.starts_with("HTTP/1.1 204") && !long.contains(SHORT), "{long}");
}

#[tokio::test]
async fn over_tls_it_is_the_same_and_a_client_that_comes_back_resumes_with_the_cheap_cipher() {
    let folder = tempfile::tempdir().unwrap();
    let made = local_certificate(folder.path(), "shop.test").unwrap();
    let tls = TlsHandle::load(&made.files).unwrap();
    let tcp = bind("127.0.0.1:0".parse().unwrap(), "--https").unwrap();
    let (address, stop) = (tcp.local_addr().unwrap(), Stop::new());
    let served =
        tokio::spawn(serve(Listener::tls(tcp, tls), Arc::new(Example), HttpLimits::default(), stop.clone()));
    let client = tls_client(&made.authority, b"http/1.1");
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let name = rustls_pki_types::ServerName::try_from("data.shop.test").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = client.connect(name, stream).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(kind));
        let suite = session.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert!(answer(&mut stream, &[REQUEST]).await.contains(SHORT));
    }
    // One that waits when the stop comes is told that it ends.
    let name = rustls_pki_types::ServerName::try_from("data.shop.test").unwrap();
    let mut waiting = client.connect(name, TcpStream::connect(address).await.unwrap()).await.unwrap();
    assert!(answer(&mut waiting, &[REQUEST]).await.contains(SHORT));
    stop.stop();
    // Without close_notify this is an error.
    assert_eq!(waiting.read(&mut [0; 10]).await.unwrap(), 0);
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn after_a_request_the_header_timeout_holds_whatever_the_next_bytes_look_like() {
    let header_timeout = Duration::from_millis(400);
    let server = start(HttpLimits { header_timeout, ..HttpLimits::default() }).await;
    for begun in ["P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost", "\r"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert!(ask(&mut stream, "/").await.unwrap().contains(SHORT));
        stream.write_all(begun.as_bytes()).await.unwrap();
        let began = Instant::now();
        // Some of these are no HTTP, which is answered.
        assert!(rest(&mut stream).await.is_some(), "{begun:?} is waited for");
        assert!(began.elapsed() < Duration::from_secs(3), "{begun:?}");
    }
}

/// The status of the answer and whether it came the short way.
async fn ask_stream(streams: &mut Sender2, path: &str, body: &'static str) -> (u16, bool) {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = http::Request::builder().method(method).uri(format!("http://x{path}"));
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
    let answer = streams.send_request(request).await.unwrap();
    (answer.status().as_u16(), answer.headers().contains_key("x-way"))
}

#[tokio::test]
async fn streams_without_a_body_go_the_short_way_too() {
    let server = start(HttpLimits::default()).await;
    let mut sender = http2(server.address).await;
    assert_eq!(ask_stream(&mut sender, "/", "").await, (204, true));
    assert_eq!(ask_stream(&mut sender, "/long-way", "").await, (204, false));
    assert_eq!(ask_stream(&mut sender, "/", "body").await, (204, false));
    for path in ["/panic", "/panic-later"] {
        assert_eq!(ask_stream(&mut sender, path, "").await, (500, false));
    }
    // A stop waits for the ones that wait.
    let slow = tokio::spawn(async move { ask_stream(&mut sender, "/slow", "").await });
    sleep(Duration::from_millis(100)).await;
    server.stop.stop();
    assert_eq!(slow.await.unwrap(), (200, false));
    server.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn streams_that_are_one_too_many_are_refused_until_there_is_room() {
    let server = start(HttpLimits { requests_max: 1, ..HttpLimits::default() }).await;
    let mut sender = http2(server.address).await;
    let mut other = sender.clone();
    let given_up = tokio::spawn(async move { ask_stream(&mut other, "/for-ever", "").await });
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ask_stream(&mut sender, "/", "").await, (503, false));
    // A stream that is reset counts no longer.
    given_up.abort();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ask_stream(&mut sender, "/", "").await, (204, true));
}

#[tokio::test]
async fn a_request_too_many_is_refused_on_the_short_way_and_the_next_one_goes_it() {
    let server = start(HttpLimits { requests_max: 1, ..HttpLimits::default() }).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let refused = ask(&mut stream, "/").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("too_busy"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    sleep(Duration::from_millis(500)).await;
    assert!(ask(&mut stream, "/").await.unwrap().contains(SHORT));
}

#[tokio::test]
async fn a_panic_on_the_short_way_costs_one_answer() {
    let server = start(HttpLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for path in ["/panic", "/panic-later"] {
        let answer = ask(&mut stream, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(ask(&mut stream, "/").await.unwrap().contains(SHORT));
    }
}
