//! Acknowledged means durable: the whole process group is killed under load,
//! again and again, and nothing that was acknowledged is missing or there twice.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use fanal_tests::{Folder, Start, fanal, fanal_bench, finish, run, run_ok, within};

const KILLS: u32 = 10;
const SITE: &str = "crash00001";
/// Requests per second, each with some lines.
const RATE: &str = "1000";
const LINES_PER_REQUEST: &str = "3";
/// Ten restarts take less.
const LOAD: &str = "60s";
const LOAD_LIMIT: Duration = Duration::from_secs(120);
const SETTLE_LIMIT: Duration = Duration::from_secs(90);
/// The longest that a process lives before it is killed.
const LIFE_MS_MAX: u64 = 2_500;
/// Repeats a run that failed.
const SEED_VARIABLE: &str = "FANAL_TESTS_SEED";

/// Moments of death: a small generator, so that a seed repeats a run.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Duration::from_millis((x ^ (x >> 31)) % LIFE_MS_MAX)
    }
}

fn seed() -> u64 {
    if let Ok(text) = std::env::var(SEED_VARIABLE) {
        return text.parse().expect("FANAL_TESTS_SEED is a number");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() ^ u64::from(now.subsec_nanos())
}

#[test]
fn ten_kills_lose_nothing_that_was_acknowledged() {
    let seed = seed();
    let again = format!("repeat with {SEED_VARIABLE}={seed}");
    let mut moments = Moments(seed);
    let folder = Folder::new("crash");
    let start = Start::new(&folder.join("data"));
    let mut dev = start.dev();
    dev.create_site(SITE);
    let acked = folder.join("acked.tsv");
    let mut load = Command::new(fanal_bench());
    load.args(["load", "--url", &dev.url(""), "--site", SITE, "--connections", "16", "--rate", RATE]);
    load.args(["--lines-per-request", LINES_PER_REQUEST, "--duration", LOAD, "--retry", "--acked"])
        .arg(&acked);
    load.args(["--seed", &seed.to_string()]);
    let mut load = load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    for kill in 1..=KILLS {
        std::thread::sleep(moments.next());
        dev.kill();
        dev = start.dev();
        assert!(load.try_wait().unwrap().is_none(), "the load ended before kill {kill}; {again}");
    }
    let report = finish(load, "the load", LOAD_LIMIT);
    assert_eq!(report.code, 0, "{}{}", report.stdout, report.stderr);

    let text = std::fs::read_to_string(&acked).unwrap();
    let acknowledged: Vec<&str> = text.lines().collect();
    assert!(acknowledged.len() > 10_000, "only {} lines were acknowledged", acknowledged.len());
    // What was written before a kill but not acknowledged may be there too.
    let missing = || {
        let rows = dev.query("SELECT visitor_code, nonce, count() FROM events GROUP BY ALL");
        let stored = stored(&rows);
        acknowledged.iter().filter(|line| !stored.contains_key(**line)).count()
    };
    within(SETTLE_LIMIT, &0, missing);
    let twice = dev.query(
        "SELECT visitor_code, nonce, count() AS rows FROM events GROUP BY ALL HAVING rows > 1 ORDER BY ALL LIMIT 5",
    );
    assert_eq!(twice, "", "events that are there twice; {again}");
    let conserved = run(
        Command::new(fanal()).args(["reconcile", "--data-dir"]).arg(dev.folder()),
        Duration::from_secs(120),
    );
    assert_eq!(conserved.code, 0, "{}{}\n{again}", conserved.stdout, conserved.stderr);
    // What ten interrupted streams left is what one undisturbed reading of the archive makes.
    let days = dev.query("SELECT toDate(min(event_at)), toDate(max(event_at)) FROM events");
    let (from, to) = days.split_once('\t').unwrap();
    let mut rebuild = Command::new(fanal());
    rebuild.args(["rebuild", "--all", "--dry-run", "--json", "--from", from, "--to", to, "--data-dir"]);
    let report = run_ok(rebuild.arg(dev.folder()), SETTLE_LIMIT);
    let report: serde_json::Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    for table in ["events", "visits"] {
        for change in ["added", "changed", "gone"] {
            assert_eq!(report[table][change], 0, "{table} {change}: {report}; {again}");
        }
    }
    assert_eq!(dev.stop(), 0);
}

/// Rows by visitor and nonce, written as the list of acknowledged lines has them.
fn stored(rows: &str) -> HashMap<&str, u64> {
    rows.lines()
        .filter_map(|row| row.rsplit_once('\t'))
        .map(|(key, count)| (key, count.parse().unwrap()))
        .collect()
}
