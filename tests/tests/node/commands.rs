//! The commands as people and scripts call them: exit codes, output, help.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanal_tests::{Folder, Output, Start, fanal, run, within};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const SITE: &str = "commands01";

fn call(words: &[&str]) -> Output {
    run(Command::new(fanal()).args(words), LIMIT)
}

fn on(data: &Path, words: &[&str]) -> Output {
    run(Command::new(fanal()).args(words).arg("--data-dir").arg(data), LIMIT)
}

/// The last line of output as JSON.
fn json(output: &Output) -> Value {
    let line = output.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr))
}

#[test]
fn every_command_explains_itself() {
    for command in ["run", "dev", "import", "parse", "rebuild", "reconcile", "doctor", "config"] {
        let help = call(&[command, "--help"]);
        assert_eq!(help.code, 0, "{command}");
        assert!(help.stdout.contains("Usage:"), "{command}: {}", help.stdout);
    }
    assert!(call(&["--version"]).stdout.starts_with("fanal "));
}

#[test]
fn unknown_words_are_refused_by_name() {
    for (words, name) in [
        (&["dev", "--no-such-flag"] as &[&str], "--no-such-flag"),
        (&["no-such-command"], "no-such-command"),
        (&["reconcile"], "--data-dir"),
        (&["rebuild", "--all", "--data-dir", "x", "--from", "yesterday", "--to", "2026-10-01"], "yesterday"),
        (&["import", "--data-dir", "x"], "<FILE>"),
        (&["import", "--data-dir", "x", "--log-format", "$msec $status $uri", "f"], "add `$args`"),
        (
            &["parse", "--explain", "--log-format", "$msec $status\\t$uri$http_x_y \"$args\""],
            "byte 19 (line 1, column 20)",
        ),
        (&["parse"], "name the log"),
    ] {
        let output = call(words);
        assert_eq!(output.code, 2, "{words:?}: {}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains(name), "{words:?}: {}", output.stderr);
    }
}

#[test]
fn the_reference_is_a_configuration_that_passes_the_check() {
    let folder = Folder::new("reference");
    let reference = call(&["config", "reference"]);
    assert_eq!(reference.code, 0, "{}", reference.stderr);
    let file = folder.join("reference.toml");
    std::fs::write(&file, &reference.stdout).unwrap();
    let check = call(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
}

#[test]
fn a_wrong_key_is_refused_by_name_before_anything_starts() {
    let folder = Folder::new("wrong-key");
    let file = folder.join("fanal.toml");
    let data = folder.join("data");
    let name = file.to_str().unwrap();
    for (text, word) in [
        ("drain_timeot = \"20s\"", "drain_timeot"),
        ("drain_timeout = \"soon\"", "drain_timeout"),
        ("[ingest]\nlisten = \"127.0.0.1:0\"\nbody_bytes_maximum = \"4MiB\"", "body_bytes_maximum"),
        ("[no_such_role]", "no_such_role"),
    ] {
        std::fs::write(&file, format!("data_dir = {:?}\n{text}\n", data.to_str().unwrap())).unwrap();
        for words in [&["config", "check", name] as &[&str], &["run", "--config", name]] {
            let output = call(words);
            assert_eq!(output.code, 64, "{words:?}: {}{}", output.stdout, output.stderr);
            assert!(output.stderr.contains(word), "{words:?}: no {word} in {}", output.stderr);
        }
    }
    assert!(!data.exists(), "a refused configuration made its data folder");
    let absent = call(&["config", "check", folder.join("absent.toml").to_str().unwrap()]);
    assert!(absent.code == 64 || absent.code == 1, "{}", absent.code);
    assert!(absent.stderr.contains("absent.toml"), "{}", absent.stderr);
}

#[test]
fn reconcile_and_doctor_tell_what_holds_while_it_runs_and_while_it_does_not() {
    let folder = Folder::new("doctor");
    let data = folder.join("data");
    let dev = Start::new(&data).dev();
    dev.create_site(SITE);
    let lines = "eventType=activity&nonce=0000000000000001&visitorCode=v\neventType=conversion&goalId=x&visitorCode=v";
    assert_eq!(dev.track(SITE, lines).status, 204);
    within(LIMIT, &1, || dev.count("SELECT count() FROM events"));

    let doctor = on(&data, &["doctor"]);
    assert_eq!(doctor.code, 0, "{}{}", doctor.stdout, doctor.stderr);
    let doctor = on(&data, &["doctor", "--json"]);
    assert_eq!(doctor.code, 0, "{}{}", doctor.stdout, doctor.stderr);
    json(&doctor);
    // The doctor's own events are on a site of its own.
    let mine = format!("SELECT count() FROM visits WHERE site_code = '{SITE}'");
    assert_eq!(dev.count(&mine), 1, "the doctor touched a site of the user");
    let others = dev.query(&format!("SELECT DISTINCT site_code FROM visits WHERE site_code != '{SITE}'"));
    assert!(others.is_empty() || (others.contains("doctor") && !others.contains('\n')), "{others}");

    let running = on(&data, &["reconcile", "--json", "--site", SITE]);
    assert_eq!(running.code, 0, "{}{}", running.stdout, running.stderr);
    assert_eq!(json(&running)["conserved"], true);
    let stages = json(&running)["stages"].to_string();
    for word in ["received", "accepted", "invalid_parameter", "archived", "loaded"] {
        assert!(stages.contains(word), "no {word} in {stages}");
    }
    assert_eq!(dev.stop(), 0);

    let stopped = on(&data, &["reconcile"]);
    assert_eq!(stopped.code, 0, "{}{}", stopped.stdout, stopped.stderr);
    let doctor = on(&data, &["doctor"]);
    assert_eq!(doctor.code, 0, "{}{}", doctor.stdout, doctor.stderr);
}

#[test]
fn reconcile_says_no_where_an_event_is_missing() {
    let folder = Folder::new("missing");
    let data = folder.join("data");
    let dev = Start::new(&data).dev();
    dev.create_site(SITE);
    for number in 0..3 {
        let line = format!("eventType=activity&nonce=000000000000000{number}&visitorCode=v{number}");
        assert_eq!(dev.track(SITE, &line).status, 204);
    }
    within(LIMIT, &3, || dev.count("SELECT count() FROM events"));
    assert_eq!(on(&data, &["reconcile"]).code, 0);
    let _ = dev.query("ALTER TABLE event_rows DELETE WHERE visitor_code = 'v1' SETTINGS mutations_sync = 2");
    within(LIMIT, &2, || dev.count("SELECT count() FROM events"));
    let broken = on(&data, &["reconcile", "--json"]);
    assert_eq!(broken.code, 1, "{}{}", broken.stdout, broken.stderr);
    let report = json(&broken);
    assert_eq!(report["conserved"], false);
    assert_eq!(report["broken"][0]["site_code"], SITE, "{report}");
}

#[test]
fn a_drain_ends_with_zero_and_a_restart_goes_on() {
    let folder = Folder::new("drain");
    let start = Start::new(&folder.join("data"));
    for round in 0..3_u64 {
        let dev = start.dev();
        dev.create_site(SITE);
        let line = format!("eventType=activity&nonce=000000000000000{round}&visitorCode=v{round}");
        assert_eq!(dev.track(SITE, &line).status, 204);
        // Stopped at once: what was acknowledged is loaded by the next round at the latest.
        assert_eq!(dev.stop(), 0);
    }
    let dev = start.dev();
    within(LIMIT, &3, || dev.count("SELECT count() FROM events"));
}

#[test]
fn the_sample_ends_with_a_table_of_visits_per_variation() {
    let folder = Folder::new("sample");
    let dev = Start::new(&folder.join("data")).arguments(&["--sample"]).dev();
    let sampled = "SELECT count() FROM visits ARRAY JOIN exposures.variation_id AS variation_id";
    within(LIMIT, &true, || dev.count(sampled) > 100);
    within(LIMIT, &true, || dev.output().contains("variation"));
}
