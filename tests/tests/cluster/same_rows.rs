//! The same access logs give the same rows, on servers and embedded, streamed and rebuilt.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fanal_tests::{Folder, Node, Start, fanal_bench, run_ok, within};
use serde_json::Value;

use crate::support::{LIMIT, Servers, Tables, create_site, embedded, on_servers, reconciles, report, start};

const EVENTS: &str = "40000";
const DAY: &str = "2026-10-01";
/// Long enough that nothing of the day is late when it is imported, so that streaming
/// makes the rows and no rebuild does.
const STREAMED: &str = "allowed_lateness = \"400d\"";
/// All of the day is late: the automatic rebuild makes the rows.
const REBUILT: &str = "";

/// What is compared, and how it is asked for: all that does not say when or where a row
/// was written.
const COMPARED: [(&str, &str); 4] = [
    (
        "visits",
        "SELECT * EXCEPT (loaded_at) FROM visits ORDER BY site_code, started_at, visitor_code, visit_id",
    ),
    (
        "events",
        "SELECT * EXCEPT (loaded_at) FROM events ORDER BY site_code, event_at, visitor_code, line_number, event_id",
    ),
    (
        "ledger",
        "SELECT minute, site_code, stage, outcome, sum(count) AS count FROM ledger \
         GROUP BY ALL HAVING count > 0 ORDER BY ALL",
    ),
    ("visitor_links", "SELECT * FROM visitor_links ORDER BY ALL"),
];

/// The logs of a day: several sites and nodes, repeats, late and bad lines.
struct Day {
    logs: Vec<PathBuf>,
    sites: Vec<String>,
}

fn generate(folder: &Path) -> Day {
    let mut command = Command::new(fanal_bench());
    command.arg("day").arg("--out").arg(folder).args(["--events", EVENTS, "--sites", "3", "--nodes", "3"]);
    run_ok(command.args(["--seed", "11", "--date", DAY]), LIMIT);
    let truth = std::fs::read_to_string(folder.join("truth.json")).unwrap();
    let truth: Value = serde_json::from_str(&truth).unwrap();
    let sites = truth["sites"].as_object().unwrap().keys().cloned().collect();
    let mut logs: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    assert!(logs.len() >= 3, "{logs:?}");
    Day { logs, sites }
}

/// Imports every file under the name of the node that wrote it, and waits for the rows.
fn import(node: &Node, day: &Day) -> u64 {
    for site in &day.sites {
        create_site(node, site);
    }
    let mut accepted = 0;
    for log in &day.logs {
        let name = log.file_stem().unwrap().to_str().unwrap();
        let wrote = name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
        let said = report(node, &["import", "--json", "--node", &wrote, log.to_str().unwrap()]);
        accepted += said["accepted"].as_u64().unwrap();
    }
    reconciles(node);
    accepted
}

fn dump(tables: &Tables) -> Vec<(&'static str, String)> {
    let ask = |(name, sql): (&'static str, &str)| (name, tables.query(&format!("{sql} FORMAT JSONEachRow")));
    COMPARED.into_iter().map(ask).collect()
}

/// Fails with the first row that is not the same.
fn assert_same(expected: &[(&str, String)], found: &[(&str, String)], what: &str) {
    for ((table, expected), (_, found)) in expected.iter().zip(found) {
        assert!(expected.lines().count() > 10, "{table} has hardly a row to compare");
        let (mut left, mut right) = (expected.lines(), found.lines());
        let mut number = 0;
        loop {
            let (left, right) = (left.next(), right.next());
            assert!(
                left == right,
                "{what}: {table} differs at row {number} of {} and {}\nembedded: {}\n servers: {}",
                expected.lines().count(),
                found.lines().count(),
                left.unwrap_or("no row"),
                right.unwrap_or("no row"),
            );
            if left.is_none() {
                break;
            }
            number += 1;
        }
    }
}

fn compare(test: &str, etl: &str) {
    let folder = Folder::new(test);
    let day = generate(&folder.join("day"));
    let (mut alone, tables) = embedded(folder.path(), etl);
    start(&mut alone);
    let accepted = import(&alone, &day);
    let expected = dump(&tables);
    assert_eq!(alone.stop(), 0);

    let servers = Servers::new(test);
    let mut node = on_servers(folder.path(), &servers, etl);
    // Hashes of client addresses are keyed.
    std::fs::copy(folder.join("embedded/data/address.key"), folder.join("servers/data/address.key")).unwrap();
    start(&mut node);
    assert_eq!(import(&node, &day), accepted);
    assert_same(&expected, &dump(&servers.tables()), "after the import");

    assert_eq!(import(&node, &day), 0, "the second import of the same files added lines");
    assert_same(&expected, &dump(&servers.tables()), "after the second import");

    let all = ["rebuild", "--json", "--all", "--from", "2026-09-30", "--to", "2026-10-02"];
    let differences = report(&node, &[&all[..], &["--dry-run"]].concat());
    for (table, change) in
        ["events", "visits"].iter().flat_map(|t| ["added", "changed", "gone"].map(|c| (t, c)))
    {
        assert_eq!(differences[table][change], 0, "{table} {change}: {differences}");
    }
    assert!(differences["visits"]["same"].as_u64().unwrap() > 1000, "{differences}");
    assert_eq!(node.stop(), 0);
    servers.remove();
}

#[test]
fn a_day_that_is_rebuilt_has_the_same_rows_on_servers_as_embedded() {
    compare("rebuilt", REBUILT);
}

#[test]
fn a_day_that_is_streamed_has_the_same_rows_on_servers_as_embedded() {
    compare("streamed", STREAMED);
}

#[test]
fn the_sample_ends_well_on_servers_and_its_folder_stays_on_them() {
    let folder = Folder::new("sample-on-servers");
    let servers = Servers::new("sample");
    let file = folder.join("servers.toml");
    std::fs::write(&file, servers.toml()).unwrap();
    let data = folder.join("data");
    let start = Start::new(&data);
    let dev = start.clone().arguments(&["--sample", "--cluster", file.to_str().unwrap()]).dev();
    let sampled = "SELECT count() FROM visits ARRAY JOIN exposures.variation_id AS variation_id";
    within(LIMIT, &true, || servers.tables().count(sampled) > 100);
    within(LIMIT, &true, || dev.output().contains("visits per variation"));
    assert_eq!(dev.stop(), 0);

    // Without a word about servers: the folder knows them.
    let visits = servers.tables().count("SELECT count() FROM visits");
    let mut reconcile = Command::new(fanal_tests::fanal());
    run_ok(reconcile.args(["reconcile", "--data-dir"]).arg(&data), Duration::from_secs(90));
    let dev = start.dev();
    dev.create_site("later");
    let line = "eventType=page&href=https%3A%2F%2Fshop.example%2F&nonce=00000000000000B1&visitorCode=later";
    assert_eq!(dev.track("later", line).status, 204);
    within(LIMIT, &(visits + 1), || servers.tables().count("SELECT count() FROM visits"));
    assert!(!data.join("log").exists() && !data.join("clickhouse").exists(), "embedded parts were made");
    assert_eq!(dev.stop(), 0);
    servers.remove();
}
