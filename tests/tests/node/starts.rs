//! What a start refuses before it makes anything, and the sample that two starts have in common.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanal_tests::{Folder, Output, Start, fanal, run, run_ok};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const SERVERS: &str = "[event_log]\nkind = \"kafka\"\n[event_log.kafka]\nbrokers = [\"127.0.0.1:9\"]\n";

fn call(words: &[&str]) -> Output {
    run(Command::new(fanal()).args(words), LIMIT)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_folder_of_embedded_parts_is_not_taken_to_servers_without_a_word() {
    let folder = Folder::new("embedded-to-servers");
    let file = folder.join("cluster.toml");
    std::fs::write(&file, SERVERS).unwrap();
    let start = Start::new(&folder.join("data"));
    assert_eq!(start.dev().stop(), 0);
    let failure = start.clone().arguments(&["--cluster", text(&file)]).must_fail();
    assert_eq!(failure.code, 2, "{}", failure.output);
    for word in ["log", "cluster.toml", "without --cluster", "--data-dir"] {
        assert!(failure.output.contains(word), "no {word} in\n{}", failure.output);
    }
    assert!(!folder.join("data/servers.toml").exists(), "a refused start has changed the folder");
    assert_eq!(start.dev().stop(), 0);
}

#[test]
fn a_folder_whose_servers_are_forgotten_is_not_taken_for_an_empty_one() {
    let folder = Folder::new("servers-to-embedded");
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("spool")).unwrap();
    let failure = Start::new(&data).must_fail();
    assert_eq!(failure.code, 2, "{}", failure.output);
    let reconcile = call(&["reconcile", "--data-dir", text(&data)]);
    assert_eq!(reconcile.code, 2, "{}{}", reconcile.stdout, reconcile.stderr);
    for said in [&failure.output, &reconcile.stderr] {
        assert!(said.contains("servers.toml") && said.contains("--cluster FILE"), "{said}");
    }
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["spool"], "a refused start has made something");
}

#[test]
fn a_start_that_is_refused_leaves_nothing_behind() {
    let folder = Folder::new("refused");
    let data = folder.join("data");
    let wrong = folder.join("wrong.toml");
    std::fs::write(&wrong, "[event_logg]\n").unwrap();
    let absent = folder.join("absent.pem");
    for (words, code, named) in [
        (["--cluster", text(&wrong)].as_slice(), 64, "event_logg"),
        (&["--cluster", text(&folder.join("absent.toml"))], 64, "absent.toml"),
        (&["--tls-cert", text(&absent), "--tls-key", text(&wrong)], 1, "absent.pem"),
        (&["--clickhouse", "0.0.0.0:0"], 2, "clickhouse.listen"),
    ] {
        let output = call(&[&["dev", "--data-dir", text(&data)], words].concat());
        assert_eq!(output.code, code, "{words:?}: {}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains(named), "{words:?}: {}", output.stderr);
        assert!(!data.exists(), "{words:?} has made the data folder");
    }
}

#[test]
fn wrong_rules_are_refused_with_their_place_before_anything_is_made() {
    let folder = Folder::new("wrong-rules");
    let (data, file, rules) = (folder.join("data"), folder.join("fanal.toml"), folder.join("rules.toml"));
    let ingest = format!(
        "[ingest]\nlisten = \"127.0.0.1:0\"\nrules_file = {rules:?}\naddress_key_file = {:?}",
        data.join("key")
    );
    std::fs::write(&file, format!("data_dir = {data:?}\n{ingest}\n")).unwrap();
    let wrong = "[[quota]]\nsite = \"s\"\nlines_per_s = \"many\"\n";
    std::fs::write(&rules, wrong).unwrap();
    let check_rules = ["config", "check", "--rules", text(&rules)];
    for words in
        [&check_rules as &[&str], &["config", "check", text(&file)], &["run", "--config", text(&file)]]
    {
        let output = call(words);
        assert_eq!(output.code, 64, "{words:?}: {}{}", output.stdout, output.stderr);
        for word in ["rules.toml", "line 3", "quota.lines_per_s", "a number"] {
            assert!(output.stderr.contains(word), "{words:?}: no {word} in {}", output.stderr);
        }
        assert!(!data.exists(), "{words:?} has made the data folder");
    }
    std::fs::write(folder.join("next.toml"), wrong.replace("\"many\"", "5")).unwrap();
    let next = folder.join("next.toml");
    let good = call(&["--json", "config", "check", "--rules", text(&next)]);
    assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
    let said: Value = serde_json::from_str(good.stdout.trim()).unwrap();
    assert_eq!((&said["quotas"], &said["kill_rules"]), (&1.into(), &0.into()), "{said}");
    // With a configuration, the file in place of the one that it names.
    assert_eq!(call(&["config", "check", text(&file), "--rules", text(&next)]).code, 0);
    assert_eq!(call(&["config", "check", "--rules", text(&folder.join("absent.toml"))]).code, 64);
    assert_eq!(call(&["config", "check"]).code, 2);
}

/// The table of a sample that ends after it, as JSON.
fn sampled(data: &Path, words: &[&str]) -> Value {
    let mut command = Command::new(fanal());
    command.args(["--json", "dev", "--sample", "--once", "--data-dir"]).arg(data).args(words);
    for listener in ["--http", "--https", "--sse", "--admin", "--clickhouse"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    let said = run_ok(&mut command, LIMIT);
    serde_json::from_str(said.lines().last().unwrap()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn the_sample_is_the_same_in_every_folder_and_another_one_with_another_seed() {
    let folder = Folder::new("same-sample");
    let first = sampled(&folder.join("a"), &[]);
    assert_eq!(first["round"], 1);
    let visits: u64 = (0..2).map(|n| first["variations"][n]["visits"].as_u64().unwrap()).sum();
    assert_eq!(visits, 400, "{first}");
    assert_eq!(first, sampled(&folder.join("b"), &[]));
    assert_ne!(first["variations"], sampled(&folder.join("c"), &["--seed", "2"])["variations"]);
    // The same folder again: new visitors beside the old ones.
    let again = sampled(&folder.join("a"), &[]);
    let visits: u64 = (0..2).map(|n| again["variations"][n]["visits"].as_u64().unwrap()).sum();
    assert_eq!((&again["round"], visits), (&2.into(), 800), "{again}");
}
