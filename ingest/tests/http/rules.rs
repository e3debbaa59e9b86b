//! Quotas, kill rules and the access log, as senders and operators see them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanal_ingest::Settings;
use fanal_ingest::rules::RulesHandle;
use fanal_service::health::Health;
use fanal_service::stop::Stop;
use fanal_storage::log::MemoryLog;
use tokio::io::AsyncWriteExt;

use crate::collector::{Collector, LINE, NOW_MS, code, post, send, serve_with};

async fn start(rules: &Path, settings: Settings) -> Collector {
    let (log, health, stop) = (MemoryLog::new(Arc::new(|| NOW_MS)), Health::new(), Stop::new());
    let handle = RulesHandle::read(rules).unwrap();
    tokio::spawn(handle.clone().watch(rules.to_owned(), stop.clone()));
    let address = serve_with(log.clone(), settings, health.clone(), &stop, handle).await;
    Collector { address, log, health, stop }
}

async fn with_rules(text: &str) -> (Collector, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    std::fs::write(&path, text).unwrap();
    (start(&path, Settings::default()).await, folder)
}

async fn status(at: SocketAddr, site: &str) -> u16 {
    post(at, &format!("siteCode={site}"), &[], LINE).await.0.as_u16()
}

#[tokio::test]
async fn a_site_above_its_quota_gets_429_with_the_time_to_wait_and_others_do_not() {
    let (collector, _folder) = with_rules("[[quota]]\nsite = 'shop'\nlines_per_s = 0.5\nburst_s = 4").await;
    let at = collector.address;
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(post(at, "siteCode=shop", &[], LINE).await);
    }
    let let_in = answers.iter().filter(|answer| answer.0 == 204).count();
    assert!((3..=4).contains(&let_in), "4 s at half a line per second: {let_in}");
    let refused = answers.last().unwrap();
    assert_eq!((refused.0.as_u16(), code(refused)), (429, "site_over_quota".to_owned()));
    let wait: u64 = refused.1["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=8).contains(&wait), "{wait}");
    assert_eq!(refused.1["access-control-allow-origin"], "*", "pages can read why");
    assert_eq!(status(at, "keeps").await, 204);
    let logged = collector.logged();
    assert_eq!(logged.beacons.len(), let_in + 1, "what was refused is not stored");
    assert_eq!(logged.receipts.iter().map(|r| r.1).sum::<u64>(), let_in as u64 + 1);
}

#[tokio::test]
async fn lines_of_a_body_count_each_against_the_quota() {
    let (collector, _folder) = with_rules("[[quota]]\nsite = '*'\nlines_per_s = 10\nburst_s = 1").await;
    let body = [LINE; 1000].join("\n");
    assert_eq!(post(collector.address, "siteCode=shop", &[], body).await.0, 204);
    let refused = post(collector.address, "siteCode=shop", &[], LINE).await;
    assert_eq!(refused.0, 429);
    let wait: u64 = refused.1["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((9..=11).contains(&wait), "1,000 lines at 10 per second, bounded: {wait}");
    assert_eq!(status(collector.address, "keeps").await, 204, "each site has its own");
}

#[tokio::test]
async fn a_kill_rule_holds_within_five_seconds_and_ends_as_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    let collector = start(&path, Settings::default()).await;
    let at = collector.address;
    let becomes = async |wanted: u16| {
        let until = Instant::now() + Duration::from_secs(5);
        while status(at, "shop").await != wanted {
            assert!(Instant::now() < until, "not {wanted} after 5 s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    becomes(204).await;
    std::fs::write(&path, "[[rule]]\nname = 'stop'\nsite = 'shop'\naddresses = ['127.0.0.0/8']").unwrap();
    becomes(429).await;
    let refused = post(at, "siteCode=shop", &[], LINE).await;
    assert_eq!(code(&refused), "refused_by_rule");
    assert_eq!(refused.1["retry-after"], "60");
    assert_eq!(send(at, "GET", &format!("/visit/events?siteCode=shop&{LINE}"), &[], "").await.0, 429);
    assert_eq!(status(at, "keeps").await, 204);
    std::fs::remove_file(&path).unwrap();
    becomes(204).await;
}

#[tokio::test]
async fn a_refused_kind_of_event_costs_its_neighbours_nothing_and_no_line_is_counted_as_received() {
    let (collector, _folder) =
        with_rules("[[rule]]\nname = 'no activity'\nsite = 'shop'\nevent = 'activity'").await;
    let at = collector.address;
    let page = "eventType=page&href=https%3A%2F%2Fshop.example&nonce=0123456789ABCDEE&visitorCode=v1";
    let body = format!("{LINE}\n{page}\nvisitorCode=v2");
    assert_eq!(post(at, "siteCode=shop", &[], body).await.0, 204);
    let logged = collector.logged();
    assert_eq!(logged.beacons.iter().map(|b| &*b.1).collect::<Vec<_>>(), [page]);
    assert_eq!(logged.receipts, [("shop".to_owned(), 2, 1, 1)]);
    let refused = post(at, "siteCode=shop", &[], LINE).await;
    assert_eq!((refused.0.as_u16(), code(&refused)), (429, "refused_by_rule".to_owned()));
    assert_eq!(collector.logged().beacons.len(), 1);
}

#[tokio::test]
async fn a_visitor_outside_of_a_sample_gets_the_cookie_that_keeps_it_outside() {
    let (collector, _folder) = with_rules("[[rule]]\nname = 'some'\nsite = 'cookies'\nkeep = 0.000001").await;
    let line = "eventType=activity&nonce=0123456789ABCDEF";
    let refused = post(collector.address, "siteCode=cookies", &[], line).await;
    assert_eq!(code(&refused), "refused_by_rule");
    let cookie = refused.1["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..3 {
        let again = post(collector.address, "siteCode=cookies", &[("cookie", &cookie)], line).await;
        assert_eq!(again.0, 429);
        assert!(again.1["set-cookie"].to_str().unwrap().starts_with(&cookie), "the same visitor");
    }
    assert_eq!(collector.logged().beacons.len(), 0);
    // A line that names its visitor makes nobody new.
    let body = format!("{LINE}\n{line}");
    let answer = post(collector.address, "siteCode=cookies", &[], body).await;
    assert_eq!((answer.0.as_u16(), answer.1.get("set-cookie")), (204, None));
    assert_eq!(collector.logged().dead.len(), 1);
}

#[tokio::test]
async fn many_lines_with_a_huge_user_agent_are_refused_quickly() {
    let (collector, _folder) = with_rules("[[rule]]\nname = 'bots'\nuser_agent = '*a*a*a*a*b*'").await;
    let first = format!("eventType=staticData&visitorCode=v&userAgent={}", "a".repeat(900_000));
    let body = format!("{first}\n{}", ["eventType=activity"; 50_000].join("\n"));
    let began = Instant::now();
    let answer = post(collector.address, "siteCode=shop&bodyUa=true&visitorCode=v", &[], body).await;
    assert_eq!(code(&answer), "request_too_large");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Collects what the access log says.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_access_log_has_a_line_per_request_and_names_no_visitor() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { access_log_share: 1.0, ..Settings::default() };
    let collector = start(&folder.path().join("none"), settings).await;
    assert_eq!(status(collector.address, "shop").await, 204);
    let secret = "siteCode=unknown&visitorCode=secret-visitor";
    assert_eq!(
        post(collector.address, secret, &[("cookie", "kameleoonVisitorCode=secret-visitor")], "").await.0,
        404
    );
    // Who goes away before its body has come is there too.
    let mut gone = tokio::net::TcpStream::connect(collector.address).await.unwrap();
    gone.write_all(b"POST /visit/events?siteCode=shop HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")
        .await
        .unwrap();
    let lines_now =
        || String::from_utf8(written.0.lock().unwrap().clone()).unwrap().matches("fanal::access").count();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(gone);
    for _ in 0..100 {
        if lines_now() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("secret-visitor"), "{text}");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["target"] == "fanal::access")
        .collect();
    let of = |name: &str| lines.iter().map(|line| line["fields"][name].clone()).collect::<Vec<_>>();
    assert_eq!(of("site"), ["shop", "unknown", "shop"]);
    assert_eq!(of("status"), [204, 404, 400]);
    assert_eq!(lines[1]["fields"]["problem"], "site_unknown");
    assert_eq!(of("path"), ["/visit/events"; 3]);
    assert_eq!(lines[0]["fields"]["body_bytes"], LINE.len());
    assert!(lines[0]["fields"]["duration_us"].as_u64().unwrap() < 10_000_000);
}
