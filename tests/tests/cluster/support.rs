//! An installation of a test's own on the shared servers, and an embedded one to compare with.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanal_tests::{Answer, Call, Node, Output, Role, checkout, eventually, run, run_ok, shared_server};
use serde_json::Value;

/// One program run, imports and rebuilds included.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Where each server is; a test may put others in their place.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    /// Names topics, groups, folders, keyspaces and databases.
    pub(crate) name: String,
    pub(crate) kafka: String,
    pub(crate) hdfs: String,
    pub(crate) clickhouse: String,
    pub(crate) cassandra: String,
    pub(crate) mariadb: String,
    /// Further keys of `[event_log.kafka]`.
    pub(crate) kafka_keys: String,
    /// Kafka's and the spool's limits for a confirmation.
    pub(crate) confirm_timeouts: [&'static str; 2],
}

impl Servers {
    /// Those of `make test`, with names that nobody else uses.
    pub(crate) fn new(test: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let name = format!("{test}_{}_{:x}", NEXT.fetch_add(1, Ordering::Relaxed), now);
        let servers = Self {
            name: format!("fanal_{name}"),
            kafka: shared_server("FANAL_STACK_KAFKA"),
            hdfs: shared_server("FANAL_STACK_HDFS"),
            clickhouse: shared_server("FANAL_STACK_CLICKHOUSE"),
            cassandra: shared_server("FANAL_STACK_CASSANDRA"),
            mariadb: shared_server("FANAL_STACK_MARIADB_ADDRESS"),
            kafka_keys: String::new(),
            confirm_timeouts: ["10s", "12s"],
        };
        mariadb(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", servers.name));
        servers
    }

    /// The sections of a configuration that name servers. What is not confirmed in time is
    /// sent again and stored twice; a busy machine must not bring that into a comparison.
    pub(crate) fn toml(&self) -> String {
        let Self { name, kafka, hdfs, clickhouse, cassandra, mariadb, kafka_keys, confirm_timeouts } = self;
        let [kafka_timeout, spool_timeout] = confirm_timeouts;
        let (user, password) =
            (shared_server("FANAL_STACK_HDFS_USER"), shared_server("FANAL_STACK_MARIADB_PASSWORD_FILE"));
        format!(
            r#"
[event_log]
kind = "kafka"
[event_log.kafka]
brokers = ["{kafka}"]
topic_prefix = "{name}"
group = "{name}"
partitions = 3
dead_partitions = 2
overflow_partitions = 2
replication = 1
min_insync_replicas = 1
confirm_timeout = "{kafka_timeout}"
{kafka_keys}
[spool]
confirm_timeout = "{spool_timeout}"
[archive]
store = "hdfs"
[archive.hdfs]
url = "{hdfs}"
root = "/tests/{name}"
user = "{user}"
replication = 2
[clickhouse]
url = "{clickhouse}"
database = "{name}"
[profiles]
store = "cassandra"
[profiles.cassandra]
nodes = ["{cassandra}"]
keyspace = "{name}"
replication = "simple"
replication_factor = 1
[catalogue]
url = "mysql://fanal@{mariadb}/{name}"
password_file = "{password}"
"#
        )
    }

    /// Rows of this installation's tables.
    pub(crate) fn tables(&self) -> Tables {
        Tables { url: self.clickhouse.clone(), database: self.name.clone() }
    }

    /// Removes what would only take room on the shared servers. Not after a failure:
    /// then it is there for a look.
    pub(crate) fn remove(&self) {
        mariadb(&format!("DROP DATABASE {}", self.name));
        let drop = format!("DROP DATABASE IF EXISTS {} SYNC", self.name);
        let _ = Call::new("POST", &format!("{}/", self.clickhouse)).body(drop).expect(200);
        let python = other_client(&[&self.kafka, "remove", &self.name]);
        assert_eq!(python, "");
    }
}

/// A statement for MariaDB, through its own client.
fn mariadb(sql: &str) {
    let address = shared_server("FANAL_STACK_MARIADB_ADDRESS");
    let (host, port) = address.split_once(':').unwrap();
    let password = std::fs::read_to_string(shared_server("FANAL_STACK_MARIADB_PASSWORD_FILE")).unwrap();
    let mut command = Command::new("mariadb");
    command.args(["-h", host, "-P", port, "-u", "fanal", "-e", sql]).env("MYSQL_PWD", password.trim());
    run_ok(&mut command, LIMIT);
}

/// Runs `other_client.py` with Confluent's Python client; its output.
pub(crate) fn other_client(arguments: &[&str]) -> String {
    let python = checkout().join(".cache/clients/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/install.sh clients", python.display());
    let mut command = Command::new(python);
    command.arg(checkout().join("tests/tests/cluster/other_client.py"));
    command.arg(checkout().join("model/proto")).args(arguments);
    run_ok(&mut command, LIMIT)
}

/// A ClickHouse database.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    url: String,
    database: String,
}

impl Tables {
    pub(crate) fn query(&self, sql: &str) -> String {
        let answer = self.ask(sql);
        assert_eq!(answer.status, 200, "{sql}\n{}{}", answer.text(), answer.error);
        answer.text().trim_end_matches('\n').to_owned()
    }

    pub(crate) fn count(&self, sql: &str) -> u64 {
        let text = self.query(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }

    /// Waits until the count is the expected one.
    pub(crate) fn settle(&self, node: &Node, sql: &str, expected: u64) {
        let mut found = None;
        let counted = || {
            let answer = self.ask(sql);
            found = (answer.status == 200).then(|| answer.text().trim().to_owned());
            (found.as_deref() == Some(expected.to_string().as_str())).then_some(())
        };
        eventually(LIMIT, &format!("{expected} from {sql}; see {}", node.log_file().display()), counted);
    }

    fn ask(&self, sql: &str) -> Answer {
        Call::new("POST", &format!("{}/?database={}", self.url, self.database)).body(sql).send()
    }
}

/// A process with every role that has to do with data, on the servers.
pub(crate) fn on_servers(folder: &Path, servers: &Servers, etl: &str) -> Node {
    Node::new(folder, "servers", Role::Ingest, &servers.toml(), &format!("node = \"n1\"\n[etl]\n{etl}\n"))
}

/// The same, embedded.
pub(crate) fn embedded(folder: &Path, etl: &str) -> (Node, Tables) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let servers = format!("[clickhouse]\nlisten = \"127.0.0.1:{port}\"\n");
    let node =
        Node::new(folder, "embedded", Role::Ingest, &servers, &format!("node = \"n1\"\n[etl]\n{etl}\n"));
    (node, Tables { url: format!("http://127.0.0.1:{port}"), database: "fanal".to_owned() })
}

/// Starts and waits until every part is ready.
pub(crate) fn start(node: &mut Node) {
    node.start();
    // The first parts to report are not all of them.
    let ready = || (node.unready().is_none() && all_parts(node)).then_some(());
    eventually(LIMIT, &format!("{} is ready; see {}", node.name(), node.log_file().display()), ready);
}

/// Whether the parts of both roles have reported.
fn all_parts(node: &Node) -> bool {
    let states = node.admin("GET", "/health/ready").send().text();
    ["archive", "visits", "rebuild", "tables"].iter().all(|part| states.contains(&format!("\"{part}\"")))
}

pub(crate) fn create_site(node: &Node, code: &str) {
    let call = node.admin("PUT", &format!("/api/v1/sites/{code}")).body(format!(r#"{{"name":"{code}"}}"#));
    let answer = call.send();
    assert!([200, 201].contains(&answer.status), "{}: {}", answer.status, answer.text());
}

/// One POST of tracking lines, which must be acknowledged.
pub(crate) fn track(node: &Node, site: &str, body: &str) {
    let url = format!("http://{}/visit/events?siteCode={site}", node.listen());
    let _ = Call::new("POST", &url).header("Content-Type", "*/*").body(body).expect(204);
}

pub(crate) fn command(node: &Node, words: &[&str]) -> Output {
    run(&mut node.command(words), LIMIT)
}

/// The last line of a command's output, which must end with 0.
pub(crate) fn report(node: &Node, words: &[&str]) -> Value {
    let said = run_ok(&mut node.command(words), LIMIT);
    let line = said.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{words:?}: {error} in {said}"))
}

/// Everything received is in the tables, and nothing is missing or there twice.
pub(crate) fn reconciles(node: &Node) {
    let output = command(node, &["reconcile", "--json"]);
    assert_eq!(output.code, 0, "{}{}\n{}", output.stdout, output.stderr, node.log_file().display());
}
