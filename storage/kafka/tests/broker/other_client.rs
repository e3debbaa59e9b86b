//! Another client, in another language, with the published `.proto` alone, reads what
//! Fanal wrote and writes what Fanal reads.

use std::path::{Path, PathBuf};
use std::process::Command;

use fanal_kafka::partition_of;
use fanal_model::{Beacon, DeadLetter, Source, record_key};
use fanal_storage::log::{Batch, Family, Topic};

use crate::support::{broker, clean, config, connect, read_all};

const VISITORS: usize = 200;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs `tests/other_client.py`; its output is what it read.
fn python(arguments: &[&str]) -> String {
    let python = root().join(".cache/clients/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/install.sh clients", python.display());
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/other_client.py"))
        .arg(root().join("model/proto"))
        .arg(broker())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn beacon<'a>(site: &'a str, visitor: &'a str, line: &'a [u8]) -> Beacon<'a> {
    Beacon {
        received_at_ms: 1_700_000_000_123,
        site_code: site,
        visitor_code: visitor,
        user_agent: b"agent/1",
        source: Source::Http,
        node: "node-1",
        line,
        visitor_lines: 1,
        ..Beacon::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_reads_beacons_and_dead_letters_by_the_published_format() {
    let kafka = connect(config("public")).await;
    let mut batch = Batch::new();
    let mut expected = Vec::new();
    for n in 0..VISITORS {
        let (visitor, line) = (format!("visitor-é{n}"), format!("eventType=page&n={n}"));
        let mut key = Vec::new();
        record_key(&mut key, "site", &visitor);
        let beacon = beacon("site", &visitor, line.as_bytes());
        batch.push(Topic::Beacons, &key, |out| beacon.encode(out)).unwrap();
        let partition = partition_of(&key, 4);
        expected.push(format!("beacon {partition} site {visitor} 1700000000123 SOURCE_HTTP {line}"));
    }
    let letter = DeadLetter {
        site_code: "site",
        reason: "missing_visitor",
        rules_version: 1,
        bytes: b"raw",
        ..DeadLetter::default()
    };
    batch.push(Topic::Dead, b"site", |out| letter.encode(out)).unwrap();
    expected.push("dead 0 site missing_visitor 1 raw".to_owned());
    kafka.log().append(batch).await.unwrap();
    let output = python(&["read", &kafka.config().topic_prefix]);
    let mut read: Vec<_> = output.lines().map(str::to_owned).collect();
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
    clean(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_writes_is_in_the_partition_where_fanal_would_put_it() {
    let kafka = connect(config("written")).await;
    python(&["write", &kafka.config().topic_prefix, &VISITORS.to_string()]);
    let mut seen = 0;
    for partition in kafka.partitions_of(&[Family::Beacons]) {
        for (_, topic, key, value) in read_all(&kafka, partition).await {
            assert_eq!(topic, Topic::Beacons);
            let beacon = Beacon::decode(&value).unwrap();
            let mut own = Vec::new();
            record_key(&mut own, beacon.site_code, beacon.visitor());
            assert_eq!(own, key, "the key is site, NUL, visitor");
            assert_eq!(partition_of(&key, 4), partition.index());
            assert_eq!(beacon.line, b"eventType=page");
            seen += 1;
        }
    }
    assert_eq!(seen, VISITORS);
    clean(&kafka).await;
}
