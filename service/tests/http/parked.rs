//! Connections without a request for seconds: their buffers are given back, and nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanal_service::http::{HttpLimits, Listener, bind, serve};
use fanal_service::stop::Stop;
use fanal_service::tls::{TlsHandle, local_certificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::protocols::tls_client;
use crate::support::{BIG_BYTES, BLOCK, Example, start};

const REQUEST: &[u8] = b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n";
/// Bytes of a socket's buffer.
const SMALL: usize = 16 << 10;
/// Longer than a connection keeps its buffers without a request.
const LONG: Duration = Duration::from_millis(2600);

async fn answered(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed: {answer:?}");
    }
    assert!(answer.starts_with(b"HTTP/1.1 204"), "{answer:?}");
}

#[tokio::test]
async fn a_connection_that_waited_long_is_served_as_before() {
    let running = start(HttpLimits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(REQUEST).await.unwrap();
        answered(&mut stream).await;
        sleep(LONG).await;
        // In pieces, the first of which is all that shows that something comes.
        for piece in [&REQUEST[..1], &REQUEST[1..9], &REQUEST[9..]] {
            stream.write_all(piece).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        answered(&mut stream).await;
        sleep(LONG).await;
    }
    // Two at once, and one more.
    stream.write_all(&[REQUEST, REQUEST].concat()).await.unwrap();
    answered(&mut stream).await;
}

#[tokio::test]
async fn a_request_that_takes_longer_than_that_is_answered() {
    let running = start(HttpLimits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    sleep(LONG).await;
    stream.write_all(b"cd").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"abcd") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed: {answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_waits_too_long_is_closed() {
    let limits = HttpLimits { idle_timeout: Duration::from_secs(4), ..HttpLimits::default() };
    let running = start(limits).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    answered(&mut stream).await;
    let begun = Instant::now();
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    let after = begun.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(8)).contains(&after), "{after:?}");
}

#[tokio::test]
async fn a_stop_ends_connections_that_wait() {
    let running = start(HttpLimits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    answered(&mut stream).await;
    sleep(LONG).await;
    running.stop.stop();
    let begun = Instant::now();
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    running.served.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// How many answers come until the connection ends, or nothing has come for long.
async fn answers(stream: &mut TcpStream) -> usize {
    let mut text = Vec::new();
    timeout(2 * BLOCK, stream.read_to_end(&mut text)).await.ok();
    String::from_utf8_lossy(&text).matches("HTTP/1.1 ").count()
}

/// A server on a thread of its own, so that a test goes on while it is held up.
async fn start_apart() -> (SocketAddr, Stop) {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let running = start(HttpLimits::default()).await;
            tell.send((running.address, running.stop)).unwrap();
            running.served.await.unwrap().unwrap();
        });
    });
    told.await.unwrap()
}

#[tokio::test]
async fn a_body_that_nobody_read_is_never_taken_for_the_next_request() {
    let (address, stop) = start_apart().await;
    let inner = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let head =
        |bytes: usize| format!("POST /long-way HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n\r\n");
    // All of it at once, and with an end that never comes.
    for sent in [head(inner.len()) + inner, head(inner.len() + 1) + inner, head(inner.len())] {
        let mut blocking = TcpStream::connect(address).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        for stream in [&mut blocking, &mut stream] {
            stream.write_all(REQUEST).await.unwrap();
            answered(stream).await;
        }
        // While the worker is held up the request arrives and a look is due: it comes right after
        // the request was answered and before the library sees what became of the body.
        blocking.write_all(b"GET /block HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        sleep(BLOCK / 4).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        answered(&mut blocking).await;
        if !sent.ends_with(inner) {
            sleep(BLOCK).await;
            stream.write_all(inner.as_bytes()).await.ok();
        }
        assert_eq!(answers(&mut stream).await, 1, "{sent:?}");
    }
    stop.stop();
}

#[tokio::test]
async fn the_end_of_a_large_answer_over_tls_comes_without_another_request() {
    let folder = tempfile::tempdir().unwrap();
    let made = local_certificate(folder.path(), "shop.test").unwrap();
    let tcp = bind("127.0.0.1:0".parse().unwrap(), "--https").unwrap();
    // What the kernel holds is little, so that the last piece stays in the TLS library.
    socket2::SockRef::from(&tcp).set_send_buffer_size(SMALL).unwrap();
    let (address, stop) = (tcp.local_addr().unwrap(), Stop::new());
    let listener = Listener::tls(tcp, TlsHandle::load(&made.files).unwrap());
    tokio::spawn(serve(listener, Arc::new(Example), HttpLimits::default(), stop));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(u32::try_from(SMALL).unwrap()).unwrap();
    let name = rustls_pki_types::ServerName::try_from("data.shop.test").unwrap();
    let client = tls_client(&made.authority, b"http/1.1");
    let mut stream = client.connect(name, socket.connect(address).await.unwrap()).await.unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (mut read, mut piece) = (0, vec![0; SMALL]);
    while read < BIG_BYTES {
        if BIG_BYTES.saturating_sub(read) < 8 * SMALL {
            sleep(BLOCK).await;
        }
        let count = timeout(Duration::from_secs(5), stream.read(&mut piece)).await;
        let count = count.unwrap_or_else(|_| panic!("nothing comes after {read} bytes")).unwrap();
        assert!(count > 0, "closed after {read} bytes");
        read += count;
    }
}
