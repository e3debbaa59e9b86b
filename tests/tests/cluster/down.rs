//! A server that is away at the start: the process stays up, says so in its readiness,
//! takes what it can, and rejects nothing that is good; when the server comes, it goes on.

use std::thread::sleep;
use std::time::Duration;

use fanal_tests::{Folder, Node, Proxy, eventually, run};

use crate::support::{LIMIT, Servers, create_site, on_servers, reconciles, start, track};

const SITE: &str = "down01";
/// What a supervisor would take for a process that stays up.
const STAYS: Duration = Duration::from_secs(8);

/// Starts while `server` is away, sends a good and a bad line, lets the server come.
fn starts_without(server: &str, put: impl Fn(&mut Servers, &Proxy), reason: &[&str]) {
    let folder = Folder::new(&format!("down-{server}"));
    let mut servers = Servers::new(&format!("down_{server}"));
    let there = servers.clone();
    let proxy = Proxy::listen();
    put(&mut servers, &proxy);
    let mut node = on_servers(folder.path(), &servers, "");
    node.start();
    let up = || (node.admin_answers() && node.metric("http_connections").is_some()).then_some(());
    eventually(LIMIT, &format!("answers of a process without {server}: {}", node.log_file().display()), up);
    create_site(&node, SITE);
    if server != "kafka" {
        let topics = || node.health().contains("\"kafka\":\"ok\"").then_some(());
        eventually(LIMIT, "topics", topics);
    }
    let good = "eventType=page&href=https%3A%2F%2Fshop.example%2F&nonce=00000000000000C1&visitorCode=v1";
    let bad = "eventType=conversion&goalId=x&nonce=00000000000000C2&visitorCode=v1";
    track(&node, SITE, &format!("{good}\n{bad}"));

    let mut last = String::new();
    let told = || {
        last = node.health();
        reason.iter().any(|word| last.contains(word)).then_some(())
    };
    eventually(LIMIT, &format!("a reason with {reason:?}; see {}", node.log_file().display()), told);
    sleep(STAYS);
    assert!(reason.iter().any(|word| node.health().contains(word)), "{}", node.health());
    assert_eq!(node.said("panicked"), 0);

    let address = match server {
        "kafka" => there.kafka.clone(),
        "hdfs" => there.hdfs.trim_start_matches("hdfs://").to_owned(),
        "clickhouse" => there.clickhouse.trim_start_matches("http://").to_owned(),
        _ => there.cassandra.clone(),
    };
    proxy.connect_to(&address);
    let ready = || node.unready().is_none().then_some(());
    eventually(LIMIT, &format!("ready with {server}; see {}", node.log_file().display()), ready);
    let tables = there.tables();
    tables.settle(&node, "SELECT count() FROM events WHERE visitor_code = 'v1'", 1);
    tables.settle(&node, "SELECT count() FROM visits WHERE visitor_code = 'v1' AND page_view_count = 1", 1);
    reconciles(&node);
    let rejected = "SELECT sum(count) FROM ledger WHERE stage = 'accept' AND outcome != 'accepted'";
    assert_eq!(tables.count(rejected), 1, "only the bad line is rejected");
    assert_eq!(tables.count("SELECT sum(count) FROM ledger WHERE stage = 'receive'"), 2);
    assert_eq!(node.stop(), 0);
    there.remove();
}

trait Look {
    fn health(&self) -> String;
    fn admin_answers(&self) -> bool;
}

impl Look for Node {
    fn health(&self) -> String {
        self.admin("GET", "/health/ready").send().text()
    }

    fn admin_answers(&self) -> bool {
        self.config().with_file_name("data").join("admin.token").is_file()
            && self.admin("GET", "/api/v1/sites").send().status == 200
    }
}

#[test]
fn without_kafka_lines_wait_in_the_spool() {
    let to_proxy = |servers: &mut Servers, proxy: &Proxy| servers.kafka = proxy.address();
    starts_without("kafka", to_proxy, &["Kafka does not answer"]);
}

#[test]
fn without_hdfs_the_archive_waits() {
    let to_proxy =
        |servers: &mut Servers, proxy: &Proxy| servers.hdfs = format!("hdfs://{}", proxy.address());
    starts_without("hdfs", to_proxy, &["\"archive\":\"not_ready\"", "HDFS"]);
}

#[test]
fn without_clickhouse_the_tables_wait() {
    let to_proxy = |servers: &mut Servers, proxy: &Proxy| {
        servers.clickhouse = format!("http://{}", proxy.address());
    };
    starts_without("clickhouse", to_proxy, &["\"tables\":\"not_ready\"", "ClickHouse"]);
}

#[test]
fn without_cassandra_visits_wait() {
    let to_proxy = |servers: &mut Servers, proxy: &Proxy| servers.cassandra = proxy.address();
    starts_without("cassandra", to_proxy, &["assandra"]);
}

/// Who may send what is in the catalogue, so nothing can be judged without it.
#[test]
fn without_the_catalogue_it_ends_with_a_clear_error_and_starts_once_it_is_there() {
    let folder = Folder::new("down-mariadb");
    let mut servers = Servers::new("down_mariadb");
    let there = servers.mariadb.clone();
    let proxy = Proxy::listen();
    servers.mariadb = proxy.address();
    let mut node = on_servers(folder.path(), &servers, "");
    let output = run(&mut node.command(&["run"]), LIMIT);
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    let said = &output.stderr;
    let address = format!("mysql://{}", proxy.address());
    assert!(said.contains(&address) && said.contains("check that the server runs"), "{said}");
    let password = fanal_tests::shared_server("FANAL_STACK_MARIADB_PASSWORD_FILE");
    let password = std::fs::read_to_string(password).unwrap();
    assert!(!said.contains(password.trim()), "the password is in the log");

    proxy.connect_to(&there);
    start(&mut node);
    create_site(&node, SITE);
    track(&node, SITE, "eventType=activity&nonce=00000000000000C3&visitorCode=v1");
    servers.tables().settle(&node, "SELECT count() FROM events", 1);
    reconciles(&node);
    assert_eq!(node.stop(), 0);
    servers.remove();
}
