//! Rejected lines are listed, read again and dropped through the real program, while it
//! runs and while it does not; what was counted stays counted.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fanal_tests::{Dev, Folder, Output, Start, fanal, run};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const KNOWN: &str = "letters01";
const NEW: &str = "letters02";
const LINES: usize = 6;

fn on(data: &Path, words: &[&str]) -> Output {
    run(Command::new(fanal()).args(words).arg("--data-dir").arg(data), LIMIT)
}

fn letters(data: &Path, words: &[&str]) -> Output {
    on(data, &[&["dead-letters"], words].concat())
}

/// The letters that are left, as JSON, newest first.
fn listed(data: &Path, words: &[&str]) -> Vec<Value> {
    let output = letters(data, &[&["list", "--json"], words].concat());
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn report(output: &Output) -> Value {
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap()
}

/// Access-log lines of a site, an hour ago, each with an event of its own.
fn access_log(site: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let line = |n: usize| {
        format!(
            "{}.{n:03}\t203.0.113.9\tPOST\t/visit/events?siteCode={site}\t204\tagent\t-\t-\t\
             eventType=activity&visitorCode=visitor-{n}&nonce=A1B2C3D4E5F6{n:04}\n",
            now - 3600
        )
    };
    (0..LINES).map(line).collect()
}

fn reconciles(data: &Path) {
    let output = on(data, &["reconcile"]);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
}

fn settles(dev: &Dev, sql: &str, expected: u64) {
    let end = Instant::now() + LIMIT;
    while dev.count(sql) != expected {
        assert!(Instant::now() < end, "{sql}: {}, not {expected}\n{}", dev.count(sql), dev.output());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn lines_of_a_site_that_was_created_too_late_are_replayed_once_however_often_it_is_tried() {
    let folder = Folder::new("dead-letters");
    let data = folder.join("data");
    let dev = Start::new(&data).dev();
    dev.create_site(KNOWN);
    let log = folder.join("access.log");
    std::fs::write(&log, access_log(NEW)).unwrap();
    let imported = on(&data, &["import", "--json", log.to_str().unwrap()]);
    assert_eq!(report(&imported)["rejected"], LINES);
    let bad = "eventType=conversion&visitorCode=visitor-1&nonce=A1B2C3D4E5F60719\u{7}";
    assert_eq!(dev.track(KNOWN, bad).status, 204);

    let all = listed(&data, &[]);
    assert_eq!(all.len(), LINES + 1, "{all:?}");
    let of_known = listed(&data, &["--site", KNOWN]);
    assert_eq!(of_known.len(), 1);
    assert_eq!(of_known[0]["reason"], "missing_parameter");
    assert!(of_known[0]["sample"].as_str().unwrap().ends_with("F60719\\x07"), "{of_known:?}");

    let early = report(&letters(&data, &["replay", "--json"]));
    assert_eq!((&early["handled"], &early["still_rejected"]["unknown_site"]), (&0.into(), &LINES.into()));
    dev.create_site(NEW);
    let replayed = report(&letters(&data, &["replay", "--json", "--reason", "unknown_site"]));
    assert_eq!((&replayed["accepted"], &replayed["handled"]), (&LINES.into(), &LINES.into()));
    let events = format!("SELECT count() FROM events WHERE site_code = '{NEW}'");
    settles(&dev, &events, LINES as u64);
    assert_eq!(listed(&data, &[]).len(), 1);
    reconciles(&data);

    // As a kill after the append and before the marks: the same is appended again.
    std::fs::remove_dir_all(data.join("archive/handled")).unwrap();
    let again = report(&letters(&data, &["replay", "--json", "--site", NEW]));
    assert_eq!(again["accepted"], LINES);
    reconciles(&data);
    assert_eq!(dev.count(&events), LINES as u64, "an event is there twice");
    let visits = format!("SELECT count() FROM visits WHERE site_code = '{NEW}'");
    assert_eq!(dev.count(&visits), LINES as u64);
    assert_eq!(report(&letters(&data, &["replay", "--json", "--site", NEW]))["letters"], 0);
    assert_eq!(dev.stop(), 0);

    // Without a process.
    assert_eq!(listed(&data, &[]).len(), 1);
    let still = report(&letters(&data, &["replay", "--json"]));
    assert_eq!((&still["handled"], &still["still_rejected"]["missing_parameter"]), (&0.into(), &1.into()));
    let dropped = report(&letters(&data, &["drop", "--json", "--reason", "missing_parameter"]));
    assert_eq!(dropped["handled"], 1);
    let none = letters(&data, &["list"]);
    assert_eq!((none.code, none.stdout.trim()), (0, "no dead letters"));
    reconciles(&data);
}

#[test]
fn what_is_meant_is_said_exactly_or_refused() {
    for (words, name) in [
        (&["drop", "--data-dir", "x"] as &[&str], "--all"),
        (&["drop", "--all", "--site", "a", "--data-dir", "x"], "--site"),
        (&["list", "--reason", "no_such_reason", "--data-dir", "x"], "missing_visitor"),
        (&["replay", "--from", "yesterday", "--data-dir", "x"], "yesterday"),
        (&["replay", "--from", "2026-10-02", "--to", "2026-10-01", "--data-dir", "x"], "before"),
        (&["list", "--id", "7", "--data-dir", "x"], "`7`"),
        (&["list", "--limit", "0", "--data-dir", "x"], "--limit"),
        (&["list"], "--data-dir"),
    ] {
        let output = run(Command::new(fanal()).arg("dead-letters").args(words), LIMIT);
        assert_eq!(output.code, 2, "{words:?}: {}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains(name), "{words:?}: {}", output.stderr);
    }
}
