//! The installation that everything happens to: a stack of its own, one
//! collector, up to three workers, and the load.

use std::time::{Duration, Instant};

use fanal_tests::{Folder, Node, Proxy, Role, Stack, eventually};

use crate::load::{Load, SITES};
use crate::seed::Random;

pub(crate) const SERVERS: [&str; 7] =
    ["kafka", "namenode", "datanode1", "datanode2", "cassandra", "mariadb", "clickhouse"];
/// A start of a process on a machine with much else to do.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(90);
/// A group is in order again: the session timeout, and letting go.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(90);
/// Archive workers of 4 + 1 + 1 partitions, visits workers of 4 + 1.
pub(crate) const SHARES: usize = 11;
/// The third worker is there when a fault calls for it.
pub(crate) const USUAL_WORKERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(100);

/// Keys that make everything happen in seconds, by section.
const SHORT: [(&str, &str); 4] = [
    (
        "[event_log.kafka]",
        "session_timeout = \"6s\"\nrelease_timeout = \"20s\"\nrequest_timeout = \"5s\"\ndead_partitions = 1\n\
         overflow_partitions = 1",
    ),
    ("[archive]", "bucket = \"10s\"\nseal_after = \"5s\""),
    ("[archive.hdfs]", "operation_timeout_ms = 5000\nput_timeout_ms = 15000"),
    ("[profiles.cassandra]", "connect_timeout_ms = 2000\nrequest_timeout_ms = 2000"),
];

pub(crate) struct Installation {
    pub(crate) load: Load,
    pub(crate) collector: Node,
    pub(crate) workers: Vec<Node>,
    pub(crate) proxy: Proxy,
    pub(crate) stack: Stack,
    pub(crate) folder: Folder,
}

impl Installation {
    pub(crate) fn start(seed: u64) -> Self {
        let folder = Folder::new("cluster-faults");
        let proxy = Proxy::listen();
        let stack = Stack::start_behind_proxy(&folder.join("stack"), &[], proxy.port());
        proxy.connect_to(stack.kafka_behind_proxy());
        let direct = SHORT.iter().fold(stack.configuration(), |text, (section, keys)| {
            let header = format!("{section}\n");
            assert!(text.contains(&header), "no {section} in\n{text}");
            text.replace(&header, &format!("{header}{keys}\n"))
        });
        let (own, through) = (format!("\"{}\"", stack.kafka()), format!("\"{}\"", proxy.address()));
        assert!(direct.contains(&own), "no {own} in\n{direct}");
        let proxied = direct.replace(&own, &through);
        let worker = |(number, servers): (usize, &str)| {
            let name = format!("worker{}", number + 1);
            Node::new(folder.path(), &name, Role::Etl, servers, "checkpoint_interval = \"2s\"")
        };
        let collector = Node::new(folder.path(), "collector", Role::Ingest, &proxied, "");
        // The second worker is behind the proxy as well: what happens there is a worker's fault too.
        let workers: Vec<Node> =
            [&direct, &proxied, &direct].map(String::as_str).into_iter().enumerate().map(worker).collect();
        let load = Load::new(collector.listen(), Random::new(seed, "load"));
        let mut whole = Self { load, collector, workers, proxy, stack, folder };
        whole.collector.start();
        for worker in &mut whole.workers[..USUAL_WORKERS] {
            worker.start();
        }
        whole.until_ready();
        for site in SITES {
            let answer = whole
                .collector
                .admin("PUT", &format!("/api/v1/sites/{site}"))
                .body(format!(r#"{{"name":"{site}"}}"#))
                .send();
            assert!([200, 201].contains(&answer.status), "{}: {}", answer.status, answer.text());
        }
        whole
    }

    /// The processes that run.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.collector).chain(&self.workers).filter(|node| node.is_running())
    }

    /// Waits until each says that it is ready.
    pub(crate) fn until_ready(&self) {
        let end = Instant::now() + READY_LIMIT;
        loop {
            let reasons: Vec<String> = self.nodes().filter_map(Node::unready).collect();
            if reasons.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "not ready within {READY_LIMIT:?}: {}", reasons.join("\n"));
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until these workers have all partitions between them.
    pub(crate) fn until_owned_by(&self, workers: &[usize]) {
        let what = format!("all partitions at workers {workers:?} (counted from 0)");
        eventually(SETTLE_LIMIT, &what, || {
            let shares: usize = workers.iter().map(|worker| shares(&self.workers[*worker])).sum();
            (shares == SHARES).then_some(())
        });
    }

    /// Waits until a worker has got something to do.
    pub(crate) fn until_busy(&self, worker: usize) {
        let what = format!("a partition at worker {worker} (counted from 0)");
        eventually(SETTLE_LIMIT, &what, || (shares(&self.workers[worker]) > 0).then_some(()));
    }

    /// Answer of ClickHouse without the last line break.
    pub(crate) fn query(&self, sql: &str) -> String {
        let url = format!("{}/?database=fanal", self.stack.clickhouse());
        let answer = fanal_tests::Call::new("POST", &url).body(sql).send();
        assert_eq!(answer.status, 200, "{sql}\n{}{}", answer.text(), answer.error);
        answer.text().trim_end_matches('\n').to_owned()
    }

    /// The files that tell what happened.
    pub(crate) fn logs(&self) -> Vec<String> {
        let own = std::iter::once(&self.collector).chain(&self.workers).map(Node::log_file);
        let servers = SERVERS.iter().map(|name| self.folder.join(&format!("stack/{name}/log")));
        own.chain(servers).filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
    }
}

/// Partitions that a worker has, by what its log says.
fn shares(worker: &Node) -> usize {
    if !worker.is_running() {
        return 0;
    }
    worker.said("\"partition taken\"").saturating_sub(worker.said("\"partition released\""))
}
