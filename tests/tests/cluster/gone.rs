//! Kafka does not answer for a minute, at thousands of beacons per second.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use fanal_tests::{Folder, Node, Role, Stack, eventually, fanal_bench_with_many_files};
use serde_json::Value;

use crate::support::{LIMIT, Servers, create_site, on_servers, reconciles, start};

const SITE: &str = "gone01";
const RATE: &str = "5000";
/// More than can be waiting when the outage begins: as with browsers, nobody waits for another's answer.
const CONNECTIONS: &str = "2500";
/// Before and after.
const CALM: &str = "4s";
const GONE: &str = "60s";
const BEGUN: Duration = Duration::from_millis(500);
/// A disk that others use as well syncs slowly now and then; docs/spool.md has what was measured.
const P99_MAX_US: u64 = 250_000;
/// What the spool's own buffers may add.
const GROWTH_MIB_MAX: u64 = 100;
/// What waits is drained at several times the rate at which it came.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// What a load came to.
struct Ended {
    sent: u64,
    p99_us: u64,
    text: String,
}

/// Waits for its end; each request must have got 204.
fn ended(load: Child) -> Ended {
    let output = load.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let sent = number("/requests_sent");
    assert_eq!((number("/by_status/204"), number("/broken")), (sent, 0), "{text}");
    Ended { sent, p99_us: number("/schedule_latency_us/p99"), text }
}

#[test]
fn while_kafka_is_gone_for_a_minute_every_beacon_is_answered_quickly_and_none_is_lost() {
    let folder = Folder::new("gone");
    let stack = Stack::start(&folder.path().join("stack"), &["kafka"]);
    let mut servers = Servers::new("gone");
    servers.kafka = stack.kafka().to_owned();
    // As operators get them.
    servers.confirm_timeouts = ["2s", "300ms"];
    let mut node = Node::new(folder.path(), "collector", Role::Ingest, &servers.toml(), "node = \"n1\"");
    node.start();
    eventually(LIMIT, "the collector", || node.unready().is_none().then_some(()));
    create_site(&node, SITE);

    let acked = folder.path().join("acked");
    let load = |seed: &str, seconds: &str| {
        let mut load = fanal_bench_with_many_files();
        load.args(["load", "--json", "--method", "get", "--site", SITE, "--rate", RATE, "--seed", seed]);
        load.args(["--connections", CONNECTIONS, "--duration", seconds]);
        load.args(["--url", &format!("http://{}", node.listen()), "--acked"]).arg(&acked);
        load.stdout(Stdio::piped()).spawn().unwrap()
    };
    // A broker that has just started is slow by itself.
    let mut sent = ended(load("1", CALM)).sent;
    let before = node.resident_mib();
    let measured = load("2", GONE);
    sleep(BEGUN);
    stack.pause("kafka");
    let report = ended(measured);
    let grown = node.resident_mib().saturating_sub(before);
    let spooling = node.metric("ingest_spool_state");
    let after = load("3", CALM);
    stack.resume("kafka");
    sent += report.sent + ended(after).sent;

    assert_eq!(spooling, Some(1.0), "the spool took them");
    assert!(report.sent > 290_000, "{}", report.text);
    assert!(report.p99_us <= P99_MAX_US, "p99 {} µs: {}", report.p99_us, report.text);
    assert!(grown <= GROWTH_MIB_MAX, "{grown} MiB more after a minute");
    let drained = || (node.metric("ingest_spool_records_waiting") == Some(0.0)).then_some(());
    eventually(DRAINED_WITHIN, &format!("an empty spool; see {}", node.log_file().display()), drained);
    assert_eq!(node.stop(), 0);

    let mut etl = on_servers(folder.path(), &servers, "");
    start(&mut etl);
    reconciles(&etl);
    let tables = servers.tables();
    let sent = sent.to_string();
    assert_eq!(tables.query("SELECT count(), uniqExact(nonce) FROM events"), format!("{sent}\t{sent}"));
    let listed = std::fs::read_to_string(&acked).unwrap().lines().count();
    assert_eq!(listed.to_string(), sent, "each of them was acknowledged");
    assert_eq!(etl.stop(), 0);
    servers.remove();
}
