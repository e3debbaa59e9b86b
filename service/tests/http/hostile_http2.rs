//! HTTP/2 peers that cost much and send little, as raw frames.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{ask, resident_mib, start};
use fanal_service::http::HttpLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method GET`, `:scheme http`, `:path /`, `:authority x`.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'x'];
/// The same with `:path /slow`.
const GET_SLOW: &[u8] = &[0x82, 0x86, 0x44, 5, b'/', b's', b'l', b'o', b'w', 0x41, 1, b'x'];
const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;
/// What a flood may leave in memory, other tests of this program included.
const MEMORY_MIB: u64 = 48;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

async fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Kind, stream and the last four bytes of the payload's first eight: the error code of GOAWAY,
/// the only number of RST_STREAM.
async fn next_frame(stream: &mut TcpStream) -> Option<(u8, u32, u32)> {
    let mut head = [0; 9];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut head)).await;
    read.expect("the connection stays open and silent").ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    let number =
        payload.iter().take(8).skip(length.min(8).saturating_sub(4)).fold(0, |n, b| n << 8 | u32::from(*b));
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), number))
}

/// Reads until the connection is closed; the error code of GOAWAY if there was one.
async fn gone_away(stream: &mut TcpStream) -> Option<u32> {
    let mut code = None;
    while let Some((kind, _, number)) = next_frame(stream).await {
        if kind == GO_AWAY {
            code = Some(number);
        }
    }
    code
}

async fn is_well(address: SocketAddr) {
    let mut good = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut good, "/").await.unwrap().starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn streams_that_are_opened_and_cancelled_in_rapid_order_end_the_connection() {
    let server = start(HttpLimits::default()).await;
    let mut stream = connect(server.address).await;
    let mut flood = Vec::new();
    for id in (1..4000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, id, GET));
        flood.extend(frame(RESET, 0, id, &8_u32.to_be_bytes()));
    }
    let _ = stream.write_all(&flood).await;
    let code = gone_away(&mut stream).await;
    // A reset of the whole connection may overtake the frame that says why.
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{code:?}");
    is_well(server.address).await;
}

#[tokio::test]
async fn headers_that_never_end_end_the_connection() {
    let server = start(HttpLimits::default()).await;
    let mut stream = connect(server.address).await;
    let before = resident_mib();
    stream.write_all(&frame(HEADERS, 0, 1, GET)).await.unwrap();
    // `x: yyy…` as a literal that the table does not keep, again and again.
    let mut literal = vec![0x00, 1, b'x', 0x7f, 0xe1, 0x3e];
    literal.extend([b'y'; 127 + 0x61 + (0x3e << 7)]);
    let endless = frame(CONTINUATION, 0, 1, &literal);
    let mut sent = 0;
    while sent < 256 << 20 && stream.write_all(&endless).await.is_ok() {
        sent += endless.len();
    }
    assert!(sent < 256 << 20, "all of it was taken");
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < MEMORY_MIB, "{grown} MiB");
    gone_away(&mut stream).await;
    is_well(server.address).await;
}

#[tokio::test]
async fn floods_of_pings_and_settings_whose_answers_nobody_reads_stay_in_the_kernel() {
    let server = start(HttpLimits::default()).await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])] {
        let mut stream = connect(server.address).await;
        let before = resident_mib();
        let many = flood.repeat(4096);
        let mut taken = 0_u64;
        // Until the server takes no more: its answers fill the socket that nobody reads.
        while taken < 512 << 20 {
            match tokio::time::timeout(Duration::from_secs(1), stream.write_all(&many)).await {
                Ok(Ok(())) => taken += many.len() as u64,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        assert!(taken < 512 << 20, "there is no end");
        let grown = resident_mib().saturating_sub(before);
        assert!(grown < MEMORY_MIB, "{grown} MiB after {taken} bytes");
        is_well(server.address).await;
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_answered() {
    let server = start(HttpLimits { streams_max: 4, ..HttpLimits::default() }).await;
    let mut stream = connect(server.address).await;
    // Our own settings came before: those of the server must be known to be held to them.
    while !matches!(next_frame(&mut stream).await, Some((SETTINGS, ..))) {}
    stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for id in (1..20).step_by(2) {
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, GET_SLOW)).await.unwrap();
    }
    let (mut refused, mut answered) = (0, 0);
    while refused + answered < 10 {
        match next_frame(&mut stream).await.unwrap() {
            (RESET, _, code) => {
                assert_eq!(code, REFUSED_STREAM);
                refused += 1;
            }
            (DATA, ..) => answered += 1,
            _ => {}
        }
    }
    assert_eq!((refused, answered), (6, 4));
}

#[tokio::test]
async fn a_header_list_that_is_too_long_costs_one_stream() {
    let server = start(HttpLimits::default()).await;
    let mut stream = connect(server.address).await;
    let mut literal = vec![0x00, 1, b'x', 0x7f, 0xe1, 0x3e];
    literal.extend([b'y'; 127 + 0x61 + (0x3e << 7)]);
    stream.write_all(&frame(HEADERS, END_STREAM, 1, GET)).await.unwrap();
    for piece in 0..5 {
        let flags = if piece == 4 { END_HEADERS } else { 0 };
        stream.write_all(&frame(CONTINUATION, flags, 1, &literal)).await.unwrap();
    }
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, GET)).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&3) {
        let (kind, id, _) = next_frame(&mut stream).await.unwrap();
        if matches!(kind, HEADERS | RESET) {
            seen.push(id);
        }
    }
    assert!(seen.contains(&1), "{seen:?}");
}
