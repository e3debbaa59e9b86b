//! The short way and the long way through the collector: the same answers, the same records.

use bytes::Bytes;
use fanal_ingest::Settings;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::collector::{Collector, LINE, http2, start};

/// An answer whose headers stand in the order of their names, without the date.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let end = loop {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "closed: {bytes:?}");
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let status = lines.next().unwrap();
    let mut headers: Vec<String> = lines.collect();
    assert!(headers.iter().any(|line| line.starts_with("date: ") && line.ends_with(" gmt")), "{headers:?}");
    headers.retain(|line| !line.starts_with("date: "));
    headers.sort();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |text| text.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.unwrap() > 0);
    }
    assert_eq!(body.len(), length);
    Answer { status, headers, body }
}

/// The answer to each request, on a connection of its own: `in_pieces` sends it the long way.
async fn answers(collector: &Collector, requests: &[String], in_pieces: bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    for request in requests {
        let mut stream = TcpStream::connect(collector.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (first, rest) = request.as_bytes().split_at(if in_pieces { 9 } else { 0 });
        if in_pieces {
            stream.write_all(first).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        stream.write_all(rest).await.unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), read_answer(&mut stream));
        answers.push(answer.await.unwrap_or_else(|_| panic!("no answer: {request:.200}")));
    }
    answers
}

/// The same as streams of one HTTP/2 connection.
async fn answers_of_streams(collector: &Collector, requests: &[String]) -> Vec<Answer> {
    let mut sender = http2(collector.address).await;
    let mut answers = Vec::new();
    for request in requests {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let (first, fields) = head.split_once("\r\n").unwrap();
        let (method, target) = first.split_once(' ').unwrap();
        let target = target.split_once(' ').unwrap().0;
        let mut made = http::Request::builder().method(method).uri(format!("http://x{target}"));
        for (name, value) in fields.split("\r\n").map(|field| field.split_once(": ").unwrap()) {
            if !matches!(name, "Host" | "Connection") {
                made = made.header(name, value);
            }
        }
        let answer =
            sender.send_request(made.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let (status, mut headers) = (parts.status, Vec::new());
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "date") {
            headers.push(format!("{name}: {}", value.to_str().unwrap()).to_ascii_lowercase());
        }
        headers.sort();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        answers.push(Answer { status: format!("http/1.1 {status}").to_ascii_lowercase(), headers, body });
    }
    answers
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: Firefox\r\n{headers}\r\n")
}

fn post(query: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /visit/events?{query} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn whole_requests_cut_ones_and_streams_get_the_same_answers_and_leave_the_same_records() {
    let requests = [
        get(&format!("/visit/events?siteCode=shop&{LINE}"), ""),
        get(&format!("/visit/events.gif?siteCode=shop&{LINE}"), "Referer: https://a.example/b\r\n"),
        get("/visit/events?siteCode=nobody&visitorCode=v", ""),
        get("/visit/events?visitorCode=v", ""),
        get("/visit/events?siteCode=shop&eventType=activity", "Cookie: kameleoonVisitorCode=abc\r\n"),
        post("siteCode=shop", "", &format!("{LINE}\n{LINE}\neventType=activity")),
        post("siteCode=shop", "Connection: keep-alive\r\n", ""),
        post("siteCode=shop&bodyUa=true", "", &format!("{LINE}&userAgent=curl/8.5.0")),
        post("siteCode=shop", "", &vec![LINE; 1_100].join("\n")),
        post("siteCode=cookies", "Cookie: kameleoonVisitorCode=abc\r\n", LINE),
        get("/visit/events", ""),
    ];
    let (short, long) = (start(Settings::default()).await, start(Settings::default()).await);
    let streams = start(Settings::default()).await;
    let of_short = answers(&short, &requests, false).await;
    let of_long = answers(&long, &requests, true).await;
    let of_streams = answers_of_streams(&streams, &requests).await;
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(of_short[index], of_long[index], "{}", &request[..request.len().min(200)]);
        assert_eq!(of_streams[index], of_long[index], "{}", &request[..request.len().min(200)]);
    }
    assert_eq!(of_short[0].status, "http/1.1 204 no content");
    assert_eq!(of_short[1].body.len(), 43);
    let (short, long) = (short.logged(), long.logged());
    assert_eq!(format!("{short:?}"), format!("{long:?}"));
    assert_eq!(format!("{:?}", streams.logged()), format!("{long:?}"));
    assert!(short.beacons.len() >= 6, "{:?}", short.beacons);
}
