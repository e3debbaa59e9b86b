//! The collector over real sockets: what SDKs and browsers send, and what goes wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

mod collector;
mod rules;
mod short;
mod spool;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanal_ingest::{AddressKey, Ingest, Settings};
use fanal_service::health::Health;
use fanal_service::http::{BodyLimits, HttpLimits, Listener, bind};
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::log::{AppendError, Log, LogConfig, MemoryLog};
use http::StatusCode;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::collector::{LINE, NOW_MS, ask, code, gzip, http2, logged, post, send, serve_on, sites, start};

#[tokio::test]
async fn one_bad_line_costs_its_neighbours_nothing() {
    let collector = start(Settings::default()).await;
    let body =
        format!("{LINE}\neventType=activity\n\nvisitorCode=v2\neventType=activity&visitorCode=v3&x=%zz");
    let answer = post(collector.address, "siteCode=shop", &[("user-agent", "agent")], body).await;
    assert_eq!(answer.0, 204);
    let logged = collector.logged();
    let visitors: Vec<_> = logged.beacons.iter().map(|b| (&*b.0, &*b.1)).collect();
    assert_eq!(visitors, [("v1", LINE), ("v3", "eventType=activity&visitorCode=v3&x=%zz")]);
    assert_eq!(logged.beacons[0].3, "agent");
    let reasons: Vec<_> = logged.dead.iter().map(|(reason, bytes)| (&**reason, &**bytes)).collect();
    assert_eq!(
        reasons,
        [("missing_visitor", &b"eventType=activity"[..]), ("missing_event_type", b"visitorCode=v2")]
    );
    assert_eq!(logged.receipts, [("shop".to_owned(), 4, 2, 2)]);
}

#[tokio::test]
async fn a_robot_is_answered_as_anybody_and_its_record_says_why_it_is_one() {
    let collector = start(Settings::default()).await;
    let googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let script = "siteCode=shop&sdkName=javascript&sdkVersion=4.17.1";
    let python = "siteCode=shop&sdkName=PYTHON&sdkVersion=3.22.2&bodyUa=true";
    let of_body = |agent: &str| format!("{LINE}&userAgent={agent}");
    let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36";
    let cases = [
        (script, chrome, LINE.to_owned(), ""),
        (script, googlebot, LINE.to_owned(), "declared"),
        ("siteCode=shop", "curl/8.5.0", LINE.to_owned(), "http_library"),
        (script, "Mozilla/5.0 HeadlessChrome/126.0", LINE.to_owned(), "headless"),
        (script, "Mozilla/5.0+(compatible; UptimeRobot/2.0)", LINE.to_owned(), "monitor"),
        (script, "node", LINE.to_owned(), ""),
        ("siteCode=shop&sdkName=JAVA", "Java/17.0.11", LINE.to_owned(), ""),
        // The body speaks of the visitor, whatever the header says.
        (python, "Python/3.11 aiohttp/3.14.5", of_body(chrome), ""),
        (python, googlebot, of_body(chrome), ""),
        (python, "Python/3.11 aiohttp/3.14.5", of_body(googlebot), "declared"),
        (python, googlebot, LINE.to_owned(), ""),
    ];
    for (query, agent, body, _) in &cases {
        let answer = post(collector.address, query, &[("user-agent", agent)], body.clone()).await;
        assert_eq!(answer.0, 204, "{agent}");
    }
    assert_eq!(post(collector.address, script, &[], LINE).await.0, 204);
    let mut reasons: Vec<_> = cases.iter().map(|case| case.3).collect();
    reasons.push("");
    assert_eq!(collector.logged().robots, reasons);
}

#[tokio::test]
async fn every_way_to_send_a_line_arrives_as_the_same_line() {
    let collector = start(Settings::default()).await;
    let at = collector.address;
    let zstd = zstd::encode_all(LINE.as_bytes(), 3).unwrap();
    for (headers, body) in [
        (&[][..], LINE.as_bytes().to_vec()),
        (&[("content-type", "*/*")], LINE.into()),
        (&[("content-type", "text/plain;charset=UTF-8")], LINE.into()),
        (&[("content-type", "application/x-www-form-urlencoded")], LINE.into()),
        (&[("content-encoding", "gzip")], gzip(LINE.as_bytes())),
        (&[("content-encoding", "zstd")], zstd),
    ] {
        assert_eq!(post(at, "sdkName=PYTHON&siteCode=shop&bodyUa=true", headers, body).await.0, 204);
    }
    let mut raw = TcpStream::connect(at).await.unwrap();
    let (head, tail) = LINE.split_at(10);
    let chunked = format!(
        "POST /visit/events?siteCode=shop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         {:x}\r\n{head}\r\n{:x}\r\n{tail}\r\n0\r\n\r\n",
        head.len(),
        tail.len()
    );
    raw.write_all(chunked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let mut h2 = http2(at).await;
    let request = http::Request::post("http://data.example/visit/events?siteCode=shop");
    let answer = h2.send_request(request.body(Full::new(Bytes::from(LINE))).unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::NO_CONTENT, http::Version::HTTP_2));
    let logged = collector.logged();
    assert_eq!(logged.beacons.len(), 8);
    assert!(logged.beacons.iter().all(|b| b.0 == "v1" && b.1 == LINE));
}

#[tokio::test]
async fn a_line_in_the_query_is_answered_with_nothing_or_with_a_pixel() {
    let collector = start(Settings::default()).await;
    let query = format!("siteCode=shop&{LINE}");
    let answer = send(collector.address, "GET", &format!("/visit/events?{query}"), &[], "").await;
    assert_eq!(answer.0, 204);
    for method in ["GET", "POST"] {
        let body = if method == "GET" { "" } else { LINE };
        let path = format!("/visit/events.gif?{query}");
        let (status, headers, bytes) = send(collector.address, method, &path, &[], body).await;
        assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &"image/gif".parse().unwrap()));
        assert_eq!(headers["cache-control"], "no-store");
        assert!(bytes.starts_with(b"GIF89a"));
    }
    assert_eq!(collector.logged().beacons.len(), 3);
}

#[tokio::test]
async fn a_preflight_is_answered_and_cached() {
    let collector = start(Settings::default()).await;
    let headers = [("origin", "https://x"), ("access-control-request-headers", "content-type")];
    let answer = send(collector.address, "OPTIONS", "/visit/events?siteCode=shop", &headers, "").await;
    assert_eq!(answer.0, 204);
    assert!(answer.1["access-control-allow-headers"].to_str().unwrap().contains("content-type"));
    assert!(answer.1["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    assert!(answer.1["access-control-max-age"].to_str().unwrap().parse::<u32>().unwrap() >= 600);
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_a_code_and_leaves_nothing() {
    let settings = Settings {
        body: BodyLimits { bytes_max: 64 << 10, timeout: Duration::from_secs(5), ..BodyLimits::default() },
        request_bytes_max: 256 << 10,
        ..Settings::default()
    };
    let collector = start(settings).await;
    let at = collector.address;
    let bomb = gzip(&vec![b'x'; 10 << 20]);
    assert!(bomb.len() < 64 << 10);
    let many = "eventType=activity&visitorCode=v\n".repeat(1900);
    let agent = "a".repeat(1000);
    for (query, headers, body, status, wanted) in [
        ("", &[][..], LINE.into(), 400, "site_code_missing"),
        ("siteCode=nobody", &[], LINE.into(), 404, "site_unknown"),
        ("siteCode=shop", &[], vec![b'x'; 65 << 10], 413, "body_too_large"),
        ("siteCode=shop", &[("content-encoding", "gzip")], bomb, 413, "body_too_large"),
        (
            "siteCode=shop",
            &[("content-encoding", "gzip")],
            b"not gzip".to_vec(),
            400,
            "body_encoding_invalid",
        ),
        ("siteCode=shop", &[("content-encoding", "br")], b"x".to_vec(), 415, "body_encoding_unsupported"),
        ("siteCode=shop", &[("user-agent", &*agent)], many.into(), 413, "request_too_large"),
    ] {
        let answer = post(at, query, headers, body).await;
        assert_eq!((answer.0.as_u16(), &*code(&answer)), (status, wanted));
    }
    let answer = send(at, "PUT", "/visit/events?siteCode=shop", &[], LINE).await;
    assert_eq!((answer.0.as_u16(), &*code(&answer)), (405, "method_not_allowed"));
    let answer = send(at, "POST", "/visit/other?siteCode=shop", &[], LINE).await;
    assert_eq!((answer.0.as_u16(), &*code(&answer)), (404, "path_unknown"));
    assert_eq!(collector.log.end_offset(), 0);
}

#[tokio::test]
async fn a_full_body_of_short_lines_from_a_browser_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    let stop = Stop::new();
    let address = serve_on(log.appender(), Settings::default(), Health::new(), &stop).await;
    let line = "eventType=activity&nonce=0123456789ABCDEF&visitorCode=0123456789abcdef\n";
    let lines = (4 << 20) / line.len();
    let agent = format!("Mozilla/5.0 {}", "a".repeat(180));
    let page = format!("https://shop.example/{}", "p".repeat(100));
    let headers = [("user-agent", &*agent), ("referer", &*page)];
    assert_eq!(post(address, "siteCode=shop", &headers, line.repeat(lines)).await.0, 204);
    assert_eq!(logged(&mut log.reader(0).unwrap()).beacons.len(), lines);
    stop.stop();
}

#[tokio::test]
async fn bodies_that_never_end_are_bounded_and_give_back_what_they_held() {
    let settings = Settings { bodies_bytes_max: 300_000, ..Settings::default() };
    let collector = start(settings).await;
    let at = collector.address;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head = "POST /visit/events?siteCode=shop HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        held.push(stream);
    }
    let large = || post(at, "siteCode=shop", &[], vec![b'x'; 150_000]);
    let refused = async {
        while large().await.0 == 204 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        large().await
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), refused).await.expect("nothing is counted");
    assert_eq!((answer.0.as_u16(), &*code(&answer)), (503, "bodies_overloaded"));
    assert_eq!(answer.1["retry-after"], "1");
    assert_eq!(post(at, "siteCode=shop", &[], LINE).await.0, 204, "small ones still fit");
    drop(held);
    let taken = async {
        while large().await.0 != 204 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), taken).await.expect("nothing is given back");
}

#[tokio::test]
async fn a_log_that_takes_nothing_is_503_and_shows_in_readiness_until_it_heals() {
    let collector = start(Settings::default()).await;
    for (error, wanted, ready) in [
        (AppendError::Overloaded, "event_log_overloaded", true),
        (AppendError::Full, "event_log_full", false),
        (AppendError::Poisoned, "event_log_failed", false),
    ] {
        collector.log.refuse(Some(error));
        let answer = post(collector.address, "siteCode=shop", &[], LINE).await;
        assert_eq!((answer.0.as_u16(), &*code(&answer)), (503, wanted));
        assert!(answer.1["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        assert_eq!(collector.health.is_ready(), ready, "{wanted}");
    }
    collector.log.refuse(None);
    let healed = async {
        while !collector.health.is_ready() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), healed).await.expect("nobody asked the log again");
    assert_eq!(post(collector.address, "siteCode=shop", &[], LINE).await.0, 204);
    assert_eq!(collector.logged().beacons.len(), 1, "what was refused is not there");
}

#[tokio::test]
async fn addresses_come_from_trusted_proxies_only_and_are_reduced_before_they_are_written() {
    let collector = start(Settings::default()).await;
    let forwarded = [("x-forwarded-for", "198.51.100.7")];
    post(collector.address, "siteCode=keeps", &forwarded, LINE).await;
    assert_eq!(collector.logged().beacons[0].2, "127.0.0.1", "an untrusted peer is not believed");
    let trusted = fanal_service::config::Networks(vec!["127.0.0.0/8".parse().unwrap()]);
    let collector = start(Settings { trusted_proxies: trusted, ..Settings::default() }).await;
    for site in ["keeps", "shop", "hashes", "hashes"] {
        assert_eq!(post(collector.address, &format!("siteCode={site}"), &forwarded, LINE).await.0, 204);
    }
    let addresses: Vec<_> = collector.logged().beacons.into_iter().map(|b| b.2).collect();
    assert_eq!(addresses[..2], ["198.51.100.7", "198.51.100.0"]);
    assert!(addresses[2].len() == 16 && addresses[2] == addresses[3] && !addresses[2].contains('.'));
}

#[tokio::test]
async fn the_visitor_cookie_is_set_refreshed_and_left_alone_as_the_site_says() {
    let collector = start(Settings::default()).await;
    let at = collector.address;
    let nameless = "eventType=activity&nonce=1\neventType=activity&nonce=2";
    let answer = post(at, "siteCode=cookies", &[], nameless).await;
    let set = answer.1["set-cookie"].to_str().unwrap().to_owned();
    let made = set.strip_prefix("kameleoonVisitorCode=").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(made.len(), 16);
    assert!(set.contains("Domain=shop.example") && !set.contains("Secure"));
    let sent = [("cookie", "a=b; kameleoonVisitorCode=known")];
    let answer = post(at, "siteCode=cookies", &sent, nameless).await;
    assert!(
        answer.1["set-cookie"].to_str().unwrap().starts_with("kameleoonVisitorCode=known; Max-Age=31536000")
    );
    assert!(
        !post(at, "siteCode=cookies", &[], LINE).await.1.contains_key("set-cookie"),
        "the line names a visitor"
    );
    assert!(
        !post(at, "siteCode=shop", &sent, nameless).await.1.contains_key("set-cookie"),
        "the site asks for none"
    );
    let visitors: Vec<_> = collector.logged().beacons.into_iter().map(|b| b.0).collect();
    assert_eq!(visitors, [&*made, &made, "known", "known", "v1", "known", "known"]);
    assert!(collector.logged().dead.is_empty());
}

#[tokio::test]
async fn what_was_answered_204_is_there_after_reopening_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    let stop = Stop::new();
    let address = serve_on(log.appender(), Settings::default(), Health::new(), &stop).await;
    let mut acknowledged = 0;
    for _ in 0..20 {
        acknowledged += usize::from(post(address, "siteCode=shop", &[], LINE).await.0 == 204);
    }
    // A copy of the files as they are now is what a crash would leave.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(copy.path().join("segments")).unwrap();
    for entry in std::fs::read_dir(dir.path().join("segments")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join("segments").join(path.file_name().unwrap())).unwrap();
    }
    let reopened = Log::open(copy.path(), LogConfig::default()).unwrap();
    assert_eq!(logged(&mut reopened.reader(0).unwrap()).beacons.len(), acknowledged);
    assert_eq!(acknowledged, 20);
    stop.stop();
}

#[tokio::test]
async fn the_role_answers_health_beside_beacons_and_ends_with_the_stop() {
    let (log, health, stop) = (MemoryLog::new(Arc::new(|| NOW_MS)), Health::new(), Stop::new());
    let key = AddressKey::of(&Secret::new("test"));
    let ingest =
        Ingest::new(log.clone(), sites(), Settings::default(), key, Arc::new(|| NOW_MS), health.clone());
    let metrics = fanal_service::metrics::Metrics::install().unwrap();
    let operations = fanal_service::operations::Operations { health, metrics };
    let listener = Listener::clear(bind("127.0.0.1:0".parse().unwrap(), "test").unwrap());
    let address = listener.local_addr().unwrap();
    let running = tokio::spawn(fanal_ingest::run(
        Arc::new(ingest),
        operations,
        vec![listener],
        HttpLimits::default(),
        stop.clone(),
    ));
    assert_eq!(post(address, "siteCode=shop", &[], LINE).await.0, 204);
    let text = ask(address, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("ingest_lines_total{outcome=\"accepted\"} "), "{text}");
    assert!(ask(address, "/health/ready").await.starts_with("HTTP/1.1 200"));
    log.refuse(Some(AppendError::Full));
    assert_eq!(post(address, "siteCode=shop", &[], LINE).await.0, 503);
    let text = ask(address, "/health/ready").await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("full"), "{text}");
    stop.stop();
    tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
}
