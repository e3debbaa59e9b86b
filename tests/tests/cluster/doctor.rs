//! `fanal doctor` names what is not as it should be on servers, and the way out.

use fanal_tests::{Folder, Node};
use serde_json::Value;

use crate::support::{Servers, command, on_servers, other_client, start};

/// Verdict and details of all findings of a kind.
fn findings(node: &Node, expected: i32) -> Vec<(String, bool, String)> {
    let output = command(node, &["doctor", "--json"]);
    assert_eq!(output.code, expected, "{}{}", output.stdout, output.stderr);
    let report: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    let of = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        (text("what"), finding["is_good"].as_bool().unwrap(), text("detail"))
    };
    report["findings"].as_array().unwrap().iter().map(of).collect()
}

fn bad(found: &[(String, bool, String)]) -> Vec<(&str, &str)> {
    found
        .iter()
        .filter(|(_, good, _)| !good)
        .map(|(what, _, detail)| (what.as_str(), detail.as_str()))
        .collect()
}

#[test]
fn servers_that_are_as_configured_are_good_while_it_runs_and_while_it_does_not() {
    let folder = Folder::new("doctor-good");
    let servers = Servers::new("doctor");
    let mut node = on_servers(folder.path(), &servers, "");
    start(&mut node);
    for is_running in [true, false] {
        let found = findings(&node, 0);
        for what in
            ["Kafka", "Kafka topics", "spool", "HDFS", "Cassandra", "catalogue", "ClickHouse", "tables"]
        {
            assert!(found.iter().any(|(name, _, _)| name == what), "no {what} in {found:?}");
        }
        if is_running {
            assert!(found.iter().any(|(name, _, _)| name == "readiness"), "{found:?}");
            assert_eq!(node.stop(), 0);
        }
    }
    servers.remove();
}

#[test]
fn a_topic_with_other_settings_is_named_with_both_values_and_the_command() {
    let folder = Folder::new("doctor-topics");
    let mut servers = Servers::new("doctor_topics");
    let settings = ["retention.ms=3600000", "cleanup.policy=compact", "message.timestamp.type=CreateTime"];
    other_client(&[&[&servers.kafka as &str, "topic", &servers.name, "3"], &settings[..]].concat());
    servers.kafka_keys = "retention = \"3d\"".to_owned();
    let node = on_servers(folder.path(), &servers, "");
    let found = findings(&node, 1);
    let bad = bad(&found);
    for (setting, has, wants) in [
        ("retention.ms", "3600000", "259200000"),
        ("cleanup.policy", "compact", "delete"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
    ] {
        let named = bad.iter().find(|(what, detail)| {
            *what == "Kafka topics" && detail.contains(&format!("`{}`: {setting} is {has}", servers.name))
        });
        let (_, detail) = named.unwrap_or_else(|| panic!("no {setting} in {bad:?}"));
        assert!(detail.contains(&format!("--add-config {setting}={wants}")), "{detail}");
    }
    servers.remove();
}

#[test]
fn a_topic_with_other_partitions_and_too_few_brokers_are_named() {
    let folder = Folder::new("doctor-partitions");
    let mut servers = Servers::new("doctor_partitions");
    other_client(&[&servers.kafka, "topic", &servers.name, "5"]);
    let node = on_servers(folder.path(), &servers, "");
    let found = findings(&node, 1);
    let named = |found: &[(String, bool, String)], kind: &str, words: &[&str]| {
        let is =
            |(what, detail): &&(&str, &str)| *what == kind && words.iter().all(|word| detail.contains(word));
        assert!(bad(found).iter().any(|finding| is(&finding)), "no {words:?} in {found:?}");
    };
    named(&found, "Kafka topics", &["partitions is 5", "says 3", "topic_prefix"]);
    servers.kafka_keys = "# three copies on one broker\n".to_owned();
    let text = servers.toml().replace("\nreplication = 1\nmin", "\nreplication = 3\nmin");
    let copies = Node::new(&folder.join("copies"), "copies", fanal_tests::Role::Etl, &text, "");
    let found = findings(&copies, 1);
    named(&found, "Kafka", &["brokers: 1, replication 3", "event_log.kafka.replication"]);
    servers.remove();
}

#[test]
fn every_server_that_is_away_is_named_beside_the_others() {
    let folder = Folder::new("doctor-away");
    let servers = Servers::new("doctor_away");
    // Nobody listens on the port of discard.
    let away = Servers {
        kafka: "127.0.0.1:9".to_owned(),
        hdfs: "hdfs://127.0.0.1:9".to_owned(),
        clickhouse: "http://127.0.0.1:9".to_owned(),
        cassandra: "127.0.0.1:9".to_owned(),
        mariadb: "127.0.0.1:9".to_owned(),
        ..servers.clone()
    };
    let node = on_servers(folder.path(), &away, "");
    let found = findings(&node, 1);
    let bad: Vec<&str> = bad(&found).iter().map(|(what, _)| *what).collect();
    for what in ["Kafka", "HDFS", "Cassandra", "catalogue", "ClickHouse"] {
        assert!(bad.contains(&what), "{what} is not bad in {found:?}");
    }
    servers.remove();
}
