//! Connections without a request for seconds: their buffers are given back, and nobody notices.

use std::time::{Duration, Instant};

use crate::support::start;
use fanal_service::http::HttpLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

const REQUEST: &[u8] = b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n";
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
