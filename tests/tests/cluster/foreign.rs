//! What others write on the topics stops nothing, and is kept: counted, listed, read
//! again, dropped.

use fanal_tests::{Folder, Node};
use serde_json::Value;

use crate::support::{
    Servers, command, create_site, on_servers, other_client, reconciles, report, start, track,
};

const SITE: &str = "foreign01";

fn letters(node: &Node, words: &[&str]) -> Vec<Value> {
    let output = command(node, &[&["dead-letters", "list", "--json"], words].concat());
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Site, reason, bytes and their beginning, of every letter.
fn shown(letters: &[Value]) -> Vec<(String, String, u64, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |letter: &Value| {
        let bytes = letter["bytes"].as_u64().unwrap();
        (text(&letter["site"]), text(&letter["reason"]), bytes, text(&letter["sample"]))
    };
    let mut shown: Vec<_> = letters.iter().map(of).collect();
    shown.sort();
    shown
}

fn line(visitor: &str, nonce: u32) -> String {
    format!(
        "eventType=page&href=https%3A%2F%2Fshop.example%2F&nonce=00000000{nonce:08X}&visitorCode={visitor}"
    )
}

/// Records of the topics of beacons, dead letters and overflow.
fn records(servers: &Servers) -> Vec<u64> {
    let counts = other_client(&[&servers.kafka, "records", &servers.name]);
    counts.lines().map(|count| count.parse().unwrap()).collect()
}

#[test]
fn records_that_are_not_ours_become_dead_letters_and_stop_nothing() {
    let folder = Folder::new("foreign");
    let servers = Servers::new("foreign");
    let tables = servers.tables();
    let mut node = on_servers(folder.path(), &servers, "");
    start(&mut node);
    create_site(&node, SITE);
    track(&node, SITE, &line("before", 1));
    let events = "SELECT count() FROM events";
    tables.settle(&node, events, 1);

    other_client(&[&servers.kafka, "foreign", &servers.name, SITE]);
    track(&node, SITE, &line("after", 2));
    // Ours, before and after, and the beacon of another client by the published format.
    tables.settle(&node, events, 3);
    assert_eq!(tables.count("SELECT count() FROM visits WHERE visitor_code = 'other-1'"), 1);
    // Beacons by the format whose lines no collector would have accepted.
    let no_lines = "SELECT sum(count) FROM ledger WHERE stage = 'load' AND outcome = 'dead_letter'";
    tables.settle(&node, no_lines, 2);
    reconciles(&node);

    let of = |site: &str, reason: &str, bytes: u64| (site.to_owned(), reason.to_owned(), bytes);
    let mut expected = vec![
        of(SITE, "unreadable_record", 100),
        of(SITE, "unreadable_record", 0),
        of("", "unreadable_record", 4),
        of("", "unreadable_record", 16),
        of(SITE, "unknown_version", 0),
        of(SITE, "unknown_version", 17),
    ];
    let all = shown(&letters(&node, &[]));
    let version_2 = all.iter().find(|letter| letter.3.contains("later.example"));
    let version_2 = version_2.unwrap_or_else(|| panic!("the record of version 2 is not in {all:?}")).clone();
    assert_eq!((version_2.0.as_str(), version_2.1.as_str()), (SITE, "unknown_version"));
    expected.push(of(SITE, "unknown_version", version_2.2));
    expected.sort();
    let found: Vec<_> = all.iter().map(|(site, reason, bytes, _)| of(site, reason, *bytes)).collect();
    assert_eq!(found, expected);
    assert!(
        all.iter().any(|letter| letter.3.contains("xfe") && letter.3.contains("without a key")),
        "{all:?}"
    );
    let counted = "SELECT sum(count) FROM ledger WHERE stage = 'accept' AND outcome IN \
                   ('unreadable_record', 'unknown_version')";
    assert_eq!(tables.count(counted), expected.len() as u64);

    // What names another version is not taken for a beacon, although it could be read as one.
    replay_feeds_nothing(&node, &servers, expected.len());
    assert_eq!(tables.count("SELECT count() FROM visits WHERE visitor_code = 'other-2'"), 0);
    assert_eq!(tables.count(events), 3);
    assert_eq!(tables.count(counted), expected.len() as u64, "a replay counted its own failures");
    drops_what_is_left(&node);

    // A restart reads all of it again from its checkpoint, and makes nothing twice.
    assert_eq!(node.stop(), 0);
    start(&mut node);
    track(&node, SITE, &line("restarted", 3));
    tables.settle(&node, events, 4);
    reconciles(&node);
    assert_eq!(node.stop(), 0);
    servers.remove();
}

/// A replay that accepts nothing writes nothing.
fn replay_feeds_nothing(node: &Node, servers: &Servers, left: usize) {
    let before = records(servers);
    let again = report(node, &["dead-letters", "replay", "--json"]);
    assert_eq!((&again["accepted"], &again["handled"]), (&0.into(), &0.into()), "{again}");
    assert_eq!(letters(node, &[]).len(), left);
    assert_eq!(records(servers), before, "the replay fed itself");
}

fn drops_what_is_left(node: &Node) {
    let dropped = report(node, &["dead-letters", "drop", "--json", "--reason", "unreadable_record"]);
    assert_eq!(dropped["handled"], 4);
    assert!(letters(node, &[]).iter().all(|letter| letter["reason"] == "unknown_version"));
    let dropped = report(node, &["dead-letters", "drop", "--json", "--all"]);
    assert_eq!(dropped["handled"], 3);
    assert_eq!(letters(node, &[]).len(), 0);
    reconciles(node);
}
