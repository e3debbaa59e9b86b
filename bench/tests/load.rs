//! The load generator against a server of a few lines, real sockets.

#![expect(clippy::unwrap_used, reason = "a test states its invariants by panicking")]

use fanal_bench::load::{Method, Options, Report, run};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How the server behaves at its n-th request.
#[derive(Clone, Copy)]
enum Mood {
    Fine,
    /// Every tenth request is answered with 503.
    BusyAtTimes,
    /// Every tenth request ends the connection without an answer.
    DropsAtTimes,
}

#[derive(Default)]
struct Seen {
    requests: u64,
    /// Lines of all requests as they came, repeats included.
    lines: Vec<String>,
    /// Lines that were answered with 2xx.
    good: Vec<String>,
}

async fn serve(listener: TcpListener, mood: Mood, seen: Arc<Mutex<Seen>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(talk(stream, mood, Arc::clone(&seen)));
    }
}

async fn talk(mut stream: TcpStream, mood: Mood, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    loop {
        let (head, length) = loop {
            if let Some(head) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
                let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
                if bytes.len() >= head + 4 + length {
                    break (text, length);
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let body = String::from_utf8(bytes[head.len() + 4..head.len() + 4 + length].to_vec()).unwrap();
        bytes.drain(..head.len() + 4 + length);
        let lines: Vec<String> = if length == 0 {
            vec![head.split(' ').nth(1).unwrap().split_once('&').unwrap().1.to_owned()]
        } else {
            body.lines().map(str::to_owned).collect()
        };
        let unlucky = {
            let mut seen = seen.lock().unwrap();
            seen.requests += 1;
            seen.lines.extend(lines.clone());
            let unlucky = seen.requests.is_multiple_of(10);
            if matches!(mood, Mood::Fine) || !unlucky {
                seen.good.extend(lines);
            }
            unlucky
        };
        let answer: &[u8] = match mood {
            Mood::BusyAtTimes if unlucky => b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
            Mood::DropsAtTimes if unlucky => return,
            _ => b"HTTP/1.1 204 No Content\r\n\r\n",
        };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn start(mood: Mood) -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    tokio::spawn(serve(listener, mood, Arc::clone(&seen)));
    (address, seen)
}

fn options(address: &str, method: Method) -> Options {
    Options {
        address: address.to_owned(),
        site: "abcdefghij".to_owned(),
        connections: 4,
        rate: None,
        duration: Duration::from_millis(300),
        lines_per_request: if method == Method::Get { 1 } else { 5 },
        method,
        visitors: 50,
        retry: false,
        acked: None,
        seed: 9,
        tls: false,
        new_connections: false,
        resume: false,
        http2_streams: None,
        idle: false,
    }
}

/// `visitor<TAB>nonce` of a line.
fn key(line: &str) -> String {
    let field = |name: &str| line.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap().to_owned();
    format!("{}\t{}", field("visitorCode="), field("nonce="))
}

fn keys(lines: &[String]) -> Vec<String> {
    let mut keys: Vec<String> = lines.iter().map(|line| key(line)).collect();
    keys.sort();
    keys
}

async fn send_acked(address: &str, method: Method, retry: bool) -> (Report, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acked");
    let report =
        run(&Options { acked: Some(path.clone()), retry, ..options(address, method) }).await.unwrap();
    let mut acked: Vec<String> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    acked.sort();
    (report, acked)
}

#[tokio::test]
async fn every_acknowledged_line_is_written_down_and_no_other() {
    for method in [Method::Get, Method::Post] {
        let (address, seen) = start(Mood::BusyAtTimes).await;
        let (report, acked) = send_acked(&address, method, false).await;
        let seen = seen.lock().unwrap();
        assert!(report.requests_acked > 100, "{report:?}");
        assert_eq!(acked, keys(&seen.good));
        assert_eq!(report.lines_acked, acked.len() as u64);
        assert_eq!(report.by_status[&204] + report.by_status[&503], seen.requests);
        let distinct: HashSet<String> = keys(&seen.lines).into_iter().collect();
        assert_eq!(distinct.len(), seen.lines.len(), "no nonce may come twice without --retry");
    }
}

#[tokio::test]
async fn a_lost_connection_acknowledges_nothing_and_the_run_goes_on() {
    let (address, seen) = start(Mood::DropsAtTimes).await;
    let (report, acked) = send_acked(&address, Method::Post, false).await;
    let seen = seen.lock().unwrap();
    assert!(report.broken > 3 && report.requests_acked > 20, "{report:?}");
    assert_eq!(acked, keys(&seen.good));
}

#[tokio::test]
async fn a_retry_repeats_the_same_bytes_once() {
    let (address, seen) = start(Mood::BusyAtTimes).await;
    let (report, acked) = send_acked(&address, Method::Post, true).await;
    let seen = seen.lock().unwrap();
    assert!(report.retries > 5, "{report:?}");
    let distinct: HashSet<&String> = seen.lines.iter().collect();
    assert_eq!((seen.lines.len() - distinct.len()) as u64, report.retries * 5);
    assert_eq!(acked, keys(&seen.good));
}

#[tokio::test]
async fn refused_connections_are_counted_until_the_server_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let later = Arc::clone(&seen);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        serve(TcpListener::bind(address).await.unwrap(), Mood::Fine, later).await;
    });
    let duration = Duration::from_millis(1500);
    let report = run(&Options { duration, ..options(&address.to_string(), Method::Get) }).await.unwrap();
    assert!(report.connect_errors >= 4, "{report:?}");
    assert!(report.requests_acked > 10, "{report:?}");
    assert!((1.4..4.0).contains(&report.elapsed_s), "{report:?}");
}

#[tokio::test]
async fn the_rate_is_kept() {
    let (address, _seen) = start(Mood::Fine).await;
    let duration = Duration::from_millis(1000);
    let report =
        run(&Options { rate: Some(200.0), duration, ..options(&address, Method::Get) }).await.unwrap();
    assert!((190..=200).contains(&report.requests_acked), "{report:?}");
}

#[tokio::test]
async fn wrong_numbers_are_refused_by_name() {
    let lines =
        run(&Options { lines_per_request: 2, ..options("127.0.0.1:1", Method::Get) }).await.unwrap_err();
    assert!(lines.to_string().contains("--method post"), "{lines}");
    let none = run(&Options { connections: 0, ..options("127.0.0.1:1", Method::Get) }).await.unwrap_err();
    assert!(none.to_string().starts_with("--connections is 0"), "{none}");
}
