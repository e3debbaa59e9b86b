//! Peers that are slow, many, or lie about lengths: HTTP/1 over raw sockets.

use std::time::{Duration, Instant};

use crate::support::{answer_to, ask, rest, start};
use fanal_service::config::Networks;
use fanal_service::http::{HttpLimits, RATE_GRACE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn the_header_timeout_holds_for_every_request_of_a_connection() {
    let header_timeout = Duration::from_millis(400);
    let server = start(HttpLimits { header_timeout, ..HttpLimits::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(ask(&mut stream, "/").await.unwrap().starts_with("HTTP/1.1 204"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(ask(&mut stream, "/").await.unwrap().starts_with("HTTP/1.1 204"), "idle is not slow");
    let began = Instant::now();
    // A byte now and then changes nothing.
    while began.elapsed() < Duration::from_secs(5) {
        if stream.write_all(b"G").await.is_err() {
            break;
        }
        let mut byte = [0];
        if let Ok(read) = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await {
            assert!(!matches!(read, Ok(1..)));
            break;
        }
    }
    let after = began.elapsed();
    assert!(after >= Duration::from_millis(350) && after < Duration::from_secs(3), "{after:?}");
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_is_given_up_before_its_timeout() {
    let server = start(HttpLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n").await.unwrap();
    let began = Instant::now();
    let (mut read, mut write) = stream.split();
    let mut answer = [0; 512];
    let count = loop {
        tokio::select! {
            count = read.read(&mut answer) => break count.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(200)) => write.write_all(b"12345678").await.unwrap(),
        }
    };
    let text = String::from_utf8_lossy(&answer[..count]);
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("body_too_slow"), "{text}");
    let after = began.elapsed();
    assert!(after >= RATE_GRACE && after < RATE_GRACE * 2, "{after:?}");
}

#[tokio::test]
async fn an_address_with_too_many_connections_gets_no_more_until_it_closes_some() {
    let few =
        HttpLimits { connections_per_address_max: 2, trusted: Networks::default(), ..HttpLimits::default() };
    let server = start(few.clone()).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    for stream in [&mut first, &mut second] {
        assert!(ask(stream, "/").await.unwrap().contains("204"));
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(rest(&mut third).await.as_deref(), Some(""));
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut again = TcpStream::connect(server.address).await.unwrap();
    assert!(ask(&mut again, "/").await.unwrap().contains("204"));

    let server = start(HttpLimits { trusted: Networks::loopback(), ..few }).await;
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert!(ask(&mut stream, "/").await.unwrap().contains("204"));
        kept.push(stream);
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_at_once_and_may_come_back() {
    let server = start(HttpLimits { requests_max: 1, ..HttpLimits::default() }).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let mut other = TcpStream::connect(server.address).await.unwrap();
    let slow = tokio::spawn(async move { ask(&mut slow, "/slow").await.unwrap() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let refused = ask(&mut other, "/").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("too_busy") && began.elapsed() < Duration::from_millis(200));
    assert!(slow.await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(&mut other, "/").await.unwrap().starts_with("HTTP/1.1 204"));
}

/// What stands after the dangerous request: seen as a request of its own, it answers with 200.
const SMUGGLED: &str = "GET /worker HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_request_whose_end_is_ambiguous_is_refused_and_nothing_after_it_is_read() {
    let server = start(HttpLimits::default()).await;
    let post = "POST /echo HTTP/1.1\r\nhost: x\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    for (name, request) in [
        ("length, then chunked", format!("{post}content-length: 4\r\n{chunked}\r\n0\r\n\r\n")),
        ("chunked, then length", format!("{post}{chunked}Content-Length: 4\r\n\r\n0\r\n\r\n")),
        ("capitals", format!("{post}TRANSFER-ENCODING: chunked\r\nCONTENT-LENGTH: 4\r\n\r\n0\r\n\r\n")),
        ("two lengths", format!("{post}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd")),
        ("two lengths in one", format!("{post}content-length: 3, 4\r\n\r\nabcd")),
        ("a length with a sign", format!("{post}content-length: +3\r\n\r\nabc")),
        ("a length that is none", format!("{post}content-length: 3x\r\n\r\nabc")),
        ("a length beyond all", format!("{post}content-length: 99999999999999999999\r\n\r\nabc")),
        ("another coding", format!("{post}transfer-encoding: gzip\r\n\r\nabc")),
        ("chunked is not last", format!("{post}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n")),
        ("a coding like chunked", format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("chunked in 1.0", format!("POST /echo HTTP/1.0\r\nhost: x\r\n{chunked}\r\n0\r\n\r\n")),
        ("a GET with chunks", format!("GET /echo HTTP/1.1\r\nhost: x\r\n{chunked}\r\n0\r\n\r\n")),
        ("a space before the colon", format!("{post}content-length : 3\r\n\r\nabc")),
        ("obs-fold", format!("{post}x-long: a\r\n b\r\ncontent-length: 3\r\n\r\nabc")),
        ("NUL in a value", format!("{post}x-nul: a\0b\r\n\r\n")),
        ("NUL in a name", format!("{post}x\0: a\r\n\r\n")),
        ("a lone CR in a value", format!("{post}x-cr: a\rcontent-length: 3\r\n\r\n")),
        ("a chunk size beyond all", format!("{post}{chunked}\r\nffffffffffffffffff\r\nab")),
        ("a chunk size that is none", format!("{post}{chunked}\r\nzz\r\nab\r\n0\r\n\r\n")),
        ("a chunk with a sign", format!("{post}{chunked}\r\n+2\r\nab\r\n0\r\n\r\n")),
        ("a chunk longer than it says", format!("{post}{chunked}\r\n2\r\nabcd\r\n0\r\n\r\n")),
        ("bare LF after a chunk size", format!("{post}{chunked}\r\n2\nab\r\n0\r\n\r\n")),
        (
            "an endless chunk extension",
            format!("{post}{chunked}\r\n2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(40_000)),
        ),
    ] {
        let answer = answer_to(server.address, format!("{request}{SMUGGLED}").as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{name}: the connection stays open"));
        assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name}: {answer}");
    }
}

#[tokio::test]
async fn what_is_odd_but_clear_is_answered() {
    let server = start(HttpLimits::default()).await;
    let end = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let post = "POST /echo HTTP/1.1\r\nhost: x\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    for (name, request, body, answers) in [
        (
            "the same length twice",
            format!("{post}content-length: 3\r\ncontent-length: 3\r\n\r\nabc"),
            "abc",
            2,
        ),
        ("bare LF in a head", "POST /echo HTTP/1.1\nhost: x\ncontent-length: 3\n\nabc".to_owned(), "abc", 2),
        ("a chunk extension", format!("{post}{chunked}\r\n3;a=b\r\nabc\r\n0\r\n\r\n"), "abc", 2),
        ("a trailer", format!("{post}{chunked}\r\n3\r\nabc\r\n0\r\ncontent-length: 9\r\n\r\n"), "abc", 2),
        // Nobody looked at the head of the second: its answer is the last.
        (
            "chunks behind another request",
            format!("GET / HTTP/1.1\r\nhost: x\r\n\r\n{post}{chunked}\r\n0\r\n\r\n"),
            "",
            2,
        ),
        (
            "chunks behind chunks",
            format!("{post}{chunked}\r\n3\r\nabc\r\n0\r\n\r\n{post}{chunked}\r\n0\r\n\r\n"),
            "abc",
            2,
        ),
    ] {
        let answer = answer_to(server.address, format!("{request}{end}").as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{name}: the connection stays open"));
        assert!(answer.contains("HTTP/1.1 200") && answer.contains(body), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), answers, "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_query_of_a_mebibyte_and_bytes_that_are_no_text_end_one_connection_only() {
    let server = start(HttpLimits::default()).await;
    let long = format!("GET /?{} HTTP/1.1\r\nhost: x\r\n\r\n", "q".repeat(1 << 20));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let _ = stream.write_all(long.as_bytes()).await;
    let answer = rest(&mut stream).await.unwrap();
    // A reset may overtake the answer: the rest of the request was never read.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    for bytes in [&b"\xff\xfe\x00\x01\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"] {
        let answer = answer_to(server.address, bytes).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let mut good = TcpStream::connect(server.address).await.unwrap();
    assert!(ask(&mut good, "/").await.unwrap().contains("204"));
}

#[tokio::test]
async fn a_panic_is_counted_and_requests_by_their_way() {
    // Of this thread alone, on which all of this server runs: other tests count as well.
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let server = start(HttpLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(ask(&mut stream, "/panic").await.unwrap().starts_with("HTTP/1.1 500"));
    assert!(ask(&mut stream, "/").await.unwrap().contains("204"));
    assert!(ask(&mut stream, "/long-way").await.unwrap().contains("204"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let text = recorder.handle().render();
    for line in [
        "http_handler_panics_total 1",
        "http_requests_total{way=\"short\"} 2",
        "http_requests_total{way=\"long\"} 1",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_slow_connections_leave_good_traffic_served() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    let server = start(HttpLimits { header_timeout: Duration::from_secs(60), ..HttpLimits::default() }).await;
    let mut slow = Vec::new();
    for _ in 0..5000 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-len").await.unwrap();
        slow.push(stream);
    }
    let mut took = Vec::new();
    for round in 0..200 {
        // Each of them goes on a little.
        for stream in slow.iter_mut().skip(round % 10).step_by(10) {
            stream.write_all(b"g").await.unwrap();
        }
        let began = Instant::now();
        let mut good = TcpStream::connect(server.address).await.unwrap();
        assert!(ask(&mut good, "/").await.unwrap().contains("204"));
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[197] < Duration::from_millis(100), "p99 {:?}", took[197]);
}

#[tokio::test]
async fn of_many_connections_at_once_each_one_is_served() {
    let running = start(HttpLimits::default()).await;
    // On one thread: all stand in the kernel's queue before the first is accepted.
    let streams: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(running.address).unwrap()).collect();
    for stream in streams {
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream).unwrap();
        stream.write_all(b"GET /here HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
}
