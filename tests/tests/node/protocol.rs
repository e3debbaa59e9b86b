//! The tracking door as an SDK meets it: recorded requests, freshness, bad input.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use fanal_tests::{Call, Dev, Folder, Start, eventually, posts, within};
use serde_json::{Map, Value, json};

/// Time from the answer to the row, as the contract promises it.
const FRESHNESS: Duration = Duration::from_secs(5);
/// Where freshness is not the subject: rows come within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program with one site.
fn dev_with_site(folder: &Folder, code: &str) -> Dev {
    let dev = Start::new(&folder.join("data")).dev();
    dev.create_site(code);
    dev
}

/// Every column that a request decides, with the value of a row that leaves it out.
fn defaults() -> Map<String, Value> {
    let defaults = json!({
        "page_url": "", "page_title": "", "goal_id": 0, "revenue": "0", "is_negative": false,
        "experiment_id": 0, "variation_id": 0, "segment_id": 0, "personalization_id": 0,
        "custom_data_index": 0, "custom_data_values": {}, "goal_metadata": {}, "extra": {},
        "is_heartbeat": false, "is_bot": false, "source": "http",
    });
    defaults.as_object().unwrap().clone()
}

const COLUMNS: &str = "site_code, sdk_name, sdk_version, source, nonce, line_number, event_type, visitor_code, \
    is_heartbeat, page_url, page_title, goal_id, toString(revenue) AS revenue, is_negative, experiment_id, \
    variation_id, segment_id, personalization_id, custom_data_index, custom_data_values, goal_metadata, extra, is_bot";

/// Rows by site and nonce, as `expected/events.json` has them.
fn expected() -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected/events.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut rows = BTreeMap::new();
    for (capture, of_capture) in file.as_object().unwrap() {
        for row in of_capture["rows"].as_array().unwrap() {
            let mut full = defaults();
            for name in ["site_code", "sdk_name", "sdk_version"] {
                full.insert(name.to_owned(), of_capture[name].clone());
            }
            full.extend(row.as_object().unwrap().clone());
            let nonce = row["nonce"].as_str().unwrap().to_owned();
            assert!(rows.insert(nonce, Value::Object(full)).is_none(), "{capture}: nonce twice");
        }
    }
    rows
}

fn stored(dev: &Dev) -> BTreeMap<String, Value> {
    let sql = format!("SELECT {COLUMNS} FROM events FORMAT JSONEachRow");
    dev.query(&sql)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (row["nonce"].as_str().unwrap().to_owned(), row))
        .collect()
}

#[test]
fn every_recorded_body_arrives_field_by_field() {
    let folder = Folder::new("captures");
    let dev = dev_with_site(&folder, "abcdefghij");
    dev.create_site("consent001");
    let posts = posts();
    assert_eq!(posts.len(), 33, "recorded tracking requests");
    for post in &posts {
        let mut call = Call::new("POST", &dev.url(&post.target)).body(post.body.clone());
        for (name, value) in &post.headers {
            call = call.header(name, value);
        }
        call.expect(204);
    }
    let expected = expected();
    let count = expected.len() as u64;
    within(PATIENCE, &count, || dev.count("SELECT count() FROM events"));
    let stored = stored(&dev);
    for (nonce, row) in &expected {
        assert_eq!(stored.get(nonce), Some(row), "the row of nonce {nonce}");
    }
    assert_eq!(stored.len(), expected.len(), "rows that no expectation names");
    // One visit per visitor, and every event in it.
    let visitors = "SELECT uniqExact(site_code, visitor_code) FROM events";
    within(PATIENCE, &dev.count(visitors), || dev.count("SELECT count() FROM visits"));
    let outside = "SELECT count() FROM events WHERE (site_code, visitor_code, visit_id) NOT IN \
        (SELECT site_code, visitor_code, visit_id FROM visits)";
    within(PATIENCE, &0, || dev.count(outside));
}

#[test]
fn an_event_and_its_visit_are_visible_within_five_seconds() {
    let folder = Folder::new("freshness");
    let dev = dev_with_site(&folder, "fresh00001");
    for round in 0..5 {
        let visitor = format!("visitor-{round}");
        let line = format!(
            "eventType=page&href=https%3A%2F%2Fa.test%2F{round}&nonce=00000000000000A{round}&visitorCode={visitor}"
        );
        assert_eq!(dev.track("fresh00001", &line).status, 204);
        let answered = Instant::now();
        let both = format!(
            "SELECT (SELECT count() FROM events WHERE visitor_code = '{visitor}'), \
             (SELECT page_view_count FROM visits WHERE visitor_code = '{visitor}')"
        );
        within(FRESHNESS, &"1\t1".to_owned(), || dev.query(&both));
        assert!(answered.elapsed() <= FRESHNESS, "visible after {:?}", answered.elapsed());
    }
}

#[test]
fn one_bad_line_costs_its_neighbours_nothing() {
    let folder = Folder::new("bad-line");
    let dev = dev_with_site(&folder, "badline001");
    let body = [
        "eventType=page&href=https%3A%2F%2Fa.test%2F&nonce=0000000000000001&visitorCode=v1",
        "eventType=conversion&goalId=none&nonce=0000000000000002&visitorCode=v1",
        "nonce=0000000000000003&visitorCode=v1",
        "eventType=page&href=https%3A%2F%2Fa.test%2F%zz&nonce=0000000000000004&visitorCode=v1&title=50%",
        "eventType=page&href=https%3A%2F%2Fa.test%2F2&nonce=0000000000000005",
        "eventType=conversion&goalId=7&revenue=2.5&nonce=0000000000000006&visitorCode=v2",
    ];
    assert_eq!(dev.track("badline001", &body.join("\n")).status, 204);
    let good = "0000000000000001\n0000000000000004\n0000000000000006".to_owned();
    within(PATIENCE, &good, || dev.query("SELECT nonce FROM events ORDER BY nonce"));
    // The command brings the counts of the unfinished archive file into the ledger.
    let mut reconcile = std::process::Command::new(fanal_tests::fanal());
    fanal_tests::run_ok(reconcile.args(["reconcile", "--data-dir"]).arg(dev.folder()), PATIENCE);
    let outcomes = "SELECT outcome, sum(count) FROM ledger WHERE site_code = 'badline001' AND stage = 'accept' \
        GROUP BY outcome ORDER BY outcome";
    let counted = "accepted\t3\ninvalid_parameter\t1\nmissing_event_type\t1\nmissing_visitor\t1".to_owned();
    within(PATIENCE, &counted, || dev.query(outcomes));
}

#[test]
fn requests_that_cannot_be_served_say_why_and_keep_the_browser_able_to_read_it() {
    let folder = Folder::new("refused");
    let dev = dev_with_site(&folder, "refused001");
    let url = dev.url("/visit/events?siteCode=refused001");
    let line = "eventType=activity&nonce=0000000000000001&visitorCode=v";
    let refused = |call: Call, status: u16| {
        let answer = call.header("Origin", "https://shop.test").expect(status);
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        assert!(kind.starts_with("application/problem+json"), "{status}: {kind}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{status}");
        let problem = answer.json();
        assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|text| text.len() > 20), "no remedy in {problem}");
    };
    let oversized = format!("{line}&x={}", "x".repeat(5 << 20));
    refused(Call::new("POST", &url).body(oversized), 413);
    refused(Call::new("POST", &url).header("Content-Encoding", "gzip").body("not gzip at all"), 400);
    refused(Call::new("POST", &url).header("Content-Encoding", "zstd").body("not zstd at all"), 400);
    refused(Call::new("POST", &dev.url("/visit/events?siteCode=nosuchsite")).body(line), 404);
    refused(Call::new("GET", &dev.url("/v3/nosuchsite")), 404);
    refused(Call::new("GET", &dev.url("/no/such/path")), 404);
    // Nothing of it was stored, and the door is open as before.
    assert_eq!(dev.track("refused001", line).status, 204);
    within(PATIENCE, &1, || dev.count("SELECT count() FROM events"));
}

#[test]
fn bodies_arrive_compressed_chunked_and_as_any_type() {
    let folder = Folder::new("encodings");
    let dev = dev_with_site(&folder, "encoded001");
    let url = dev.url("/visit/events?siteCode=encoded001");
    let line = |nonce: u8| format!("eventType=activity&nonce=000000000000000{nonce}&visitorCode=v");
    let file = folder.join("body");
    std::fs::write(&file, line(1)).unwrap();
    fanal_tests::run_ok(std::process::Command::new("gzip").arg(&file), PATIENCE);
    let zipped = std::fs::read(folder.join("body.gz")).unwrap();
    Call::new("POST", &url).header("Content-Encoding", "gzip").body(zipped).expect(204);
    Call::new("POST", &url).header("Transfer-Encoding", "chunked").body(line(2)).expect(204);
    for (nonce, kind) in [(3, "text/plain;charset=UTF-8"), (4, "application/x-www-form-urlencoded"), (5, "")]
    {
        // An empty value makes curl leave the header out.
        let call = Call::new("POST", &url).option(&["-H", &format!("Content-Type: {kind}")]);
        call.body(line(nonce)).expect(204);
    }
    within(PATIENCE, &5, || dev.count("SELECT uniqExact(nonce) FROM events"));
}

#[test]
fn a_gzip_bomb_is_refused_and_takes_no_memory() {
    let folder = Folder::new("bomb");
    let dev = dev_with_site(&folder, "bomb000001");
    let bomb = folder.join("bomb.gz");
    // 2 GiB of zeros in 2 MB: below the limit of a body as it is sent.
    let make = format!("head -c 2147483648 /dev/zero | gzip -1 > '{}'", bomb.display());
    fanal_tests::run_ok(std::process::Command::new("sh").args(["-c", &make]), Duration::from_secs(60));
    let bytes = std::fs::read(&bomb).unwrap();
    // The last 3 MiB of a deflate stream are missing: it is over the limit long before.
    let sent = bytes[..bytes.len().min(3 << 20)].to_vec();
    let before = peak_memory_mib(dev.pid());
    for _ in 0..8 {
        let url = dev.url("/visit/events?siteCode=bomb000001");
        Call::new("POST", &url).header("Content-Encoding", "gzip").body(sent.clone()).expect(413);
    }
    let grown = peak_memory_mib(dev.pid()) - before;
    assert!(grown < 96, "eight bombs took {grown} MiB");
}

/// The most memory that the process ever held.
fn peak_memory_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn tls_with_the_local_ca_speaks_http2_and_http1() {
    let folder = Folder::new("tls");
    let dev = Start::new(&folder.join("data")).arguments(&["--network-domain", "shop.test"]).dev();
    dev.create_site("tls0000001");
    let port = dev.address("https").rsplit(':').next().unwrap().to_owned();
    let ca = dev.folder().join("tls/ca.pem");
    let ca = ca.to_str().unwrap();
    for (nonce, option, version) in [("1", "--http2", "2"), ("2", "--http1.1", "1.1")] {
        let host = "data.shop.test";
        let call = Call::new("POST", &format!("https://{host}:{port}/visit/events?siteCode=tls0000001"))
            .option(&["--cacert", ca, "--resolve", &format!("{host}:{port}:127.0.0.1"), option])
            .body(format!("eventType=activity&nonce=000000000000000{nonce}&visitorCode=v"));
        assert_eq!(call.expect(204).version, version);
    }
    let cleartext = Call::new("POST", &dev.url("/visit/events?siteCode=tls0000001"))
        .option(&["--http2-prior-knowledge"])
        .body("eventType=activity&nonce=0000000000000003&visitorCode=v");
    assert_eq!(cleartext.expect(204).version, "2");
    within(PATIENCE, &3, || dev.count("SELECT count() FROM events"));
}

#[test]
fn a_preflight_is_answered_for_a_day_and_the_pixel_is_a_picture() {
    let folder = Folder::new("preflight");
    let dev = dev_with_site(&folder, "pixel00001");
    let url = dev.url("/visit/events?siteCode=pixel00001");
    let preflight = Call::new("OPTIONS", &url)
        .header("Origin", "https://shop.test")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type")
        .expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    let allowed = preflight.header("access-control-allow-headers").unwrap_or_default().to_lowercase();
    assert!(allowed.contains("content-type") || allowed == "*", "{allowed}");
    let age: u32 = preflight.header("access-control-max-age").unwrap().parse().unwrap();
    assert!(age >= 600, "{age} s: every heartbeat would cost two requests");
    let line =
        "siteCode=pixel00001&eventType=page&href=https%3A%2F%2Fa.test%2F&visitorCode=g&nonce=000000000000000";
    Call::new("GET", &dev.url(&format!("/visit/events?{line}1"))).expect(204);
    let pixel = Call::new("GET", &dev.url(&format!("/visit/events.gif?{line}2"))).expect(200);
    assert_eq!(pixel.header("content-type"), Some("image/gif"));
    assert!(pixel.body.starts_with(b"GIF89a"));
    let nonces = "0000000000000001\n0000000000000002".to_owned();
    within(PATIENCE, &nonces, || dev.query("SELECT nonce FROM events ORDER BY nonce"));
}

#[test]
fn readiness_and_metrics_are_there_for_operators() {
    let folder = Folder::new("health");
    let dev = dev_with_site(&folder, "health0001");
    let get = |path: &str| dev.admin("GET", path);
    get("/health/live").expect(200);
    eventually(PATIENCE, "readiness", || (get("/health/ready").send().status == 200).then_some(()));
    assert_eq!(
        dev.track("health0001", "eventType=activity&nonce=0000000000000001&visitorCode=v").status,
        204
    );
    let metrics = get("/metrics").expect(200).text();
    assert!(metrics.lines().any(|line| line.starts_with("# TYPE ingest_")), "{metrics}");
    let without = Call::new("GET", &format!("http://{}/api/v1/sites", dev.address("admin"))).send();
    assert_eq!(without.status, 401, "{}", without.text());
}
