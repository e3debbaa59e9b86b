//! What must hold after every fault, without anybody's hand.

use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use fanal_tests::{eventually, run, run_ok};

use crate::installation::Installation;

/// Everything is in the tables within this time.
const ARRIVE_LIMIT: Duration = Duration::from_secs(90);
const RECONCILE_LIMIT: Duration = Duration::from_secs(120);
const REBUILD_LIMIT: Duration = Duration::from_secs(90);
const SPOOL_LIMIT: Duration = Duration::from_secs(60);
/// Differences that are shown.
const SHOWN: usize = 5;

/// How long it took, from the moment that the fault was over and the load had stopped.
pub(crate) struct Recovery {
    lines: usize,
    ready: Duration,
    arrived: Duration,
    reconciled: Duration,
    verified: Duration,
}

impl Display for Recovery {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { lines, ready, arrived, reconciled, verified } = self;
        let [ready, arrived, reconciled, verified] =
            [ready, arrived, reconciled, verified].map(|time| time.as_secs_f64());
        write!(
            f,
            "{lines} lines; in the tables after {arrived:.1} s, ready {ready:.1} s, reconciled {reconciled:.1} s, \
             verified {verified:.1} s"
        )
    }
}

/// Nothing acknowledged is missing, nothing is twice, the counts are conserved, the
/// visits are those of one undisturbed reading, the spool is empty, all are ready.
pub(crate) fn verify(whole: &Installation) -> Recovery {
    let began = Instant::now();
    let (nonces, plain) = whole.load.acknowledged(|known| (known.nonces.len(), known.plain.len()));
    let enough = || {
        let found = whole.query("SELECT countIf(nonce != ''), countIf(nonce = '') FROM events");
        let (with, without) = found.split_once('\t')?;
        (with.parse::<usize>().ok()? >= nonces && without.parse::<usize>().ok()? >= plain).then_some(())
    };
    eventually(ARRIVE_LIMIT, "everything acknowledged in the tables", enough);
    let arrived = began.elapsed();
    whole.until_ready();
    eventually(SPOOL_LIMIT, "an empty spool", || {
        (whole.collector.metric("ingest_spool_records_waiting")? == 0.0).then_some(())
    });
    let ready = began.elapsed();
    reconcile(whole);
    let reconciled = began.elapsed();
    exactly_once(whole);
    at_least_once_and_never_unsent(whole);
    rebuilt_visits_are_equal(whole);
    whole.until_ready();
    Recovery { lines: nonces + plain, ready, arrived, reconciled, verified: began.elapsed() }
}

fn reconcile(whole: &Installation) {
    let worker = whole.workers.iter().find(|worker| worker.is_running()).unwrap();
    let output = run(&mut worker.command(&["reconcile"]), RECONCILE_LIMIT);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
}

/// Every nonce that was acknowledged, and no other, with one row.
fn exactly_once(whole: &Installation) {
    let rows = whole.query(
        "SELECT site_code, visitor_code, nonce, count() FROM events WHERE nonce != '' GROUP BY ALL ORDER BY ALL",
    );
    let mut twice = Vec::new();
    let mut stored: HashMap<&str, ()> = HashMap::new();
    for row in rows.lines() {
        let (key, count) = row.rsplit_once('\t').unwrap();
        if count != "1" {
            twice.push(row);
        }
        stored.insert(key, ());
    }
    assert!(twice.is_empty(), "{} are there twice: {:?}", twice.len(), shown(&twice));
    whole.load.acknowledged(|known| {
        let missing: Vec<&String> =
            known.nonces.iter().filter(|key| stored.remove(key.as_str()).is_none()).collect();
        assert!(missing.is_empty(), "{} are missing: {:?}", missing.len(), shown(&missing));
    });
    let unknown: Vec<&&str> = stored.keys().collect();
    assert!(unknown.is_empty(), "{} were never acknowledged: {:?}", unknown.len(), shown(&unknown));
}

/// A line without nonce that was sent once is there once; one whose request was sent
/// again may be there as often as it was sent.
fn at_least_once_and_never_unsent(whole: &Installation) {
    let rows = whole.query("SELECT page_url, count() FROM events WHERE nonce = '' GROUP BY ALL");
    let mut stored: HashMap<&str, u64> = rows
        .lines()
        .filter_map(|row| row.split_once('\t'))
        .map(|(address, count)| (address, count.parse().unwrap()))
        .collect();
    whole.load.acknowledged(|known| {
        for (address, sent) in &known.plain {
            let found = stored.remove(address.as_str()).unwrap_or(0);
            assert!(
                (1..=*sent).contains(&found),
                "{address} was sent {sent} times and is there {found} times"
            );
        }
    });
    assert!(stored.is_empty(), "never acknowledged: {stored:?}");
}

/// What interrupted workers left is what one reading of the archive makes.
fn rebuilt_visits_are_equal(whole: &Installation) {
    let days = whole.query("SELECT toDate(min(event_at)), toDate(max(event_at)) FROM events");
    let (from, to) = days.split_once('\t').unwrap();
    let worker = whole.workers.iter().find(|worker| worker.is_running()).unwrap();
    let words = ["rebuild", "--all", "--dry-run", "--json", "--from", from, "--to", to];
    let report = run_ok(&mut worker.command(&words), REBUILD_LIMIT);
    let report: serde_json::Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    for table in ["events", "visits", "duplicates"] {
        for change in ["added", "changed", "gone"] {
            assert_eq!(report[table][change], 0, "{table} {change}: {report}");
        }
    }
}

fn shown<T>(found: &[T]) -> &[T] {
    &found[..found.len().min(SHOWN)]
}
