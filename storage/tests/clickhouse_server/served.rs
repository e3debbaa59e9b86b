//! Servers for tests: one that is shared, one that knows a cluster, and own ones.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fanal_clickhouse_embedded::{ServerConfig, die_with_parent, find_library, serve};
use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig};

const ROLE: &str = "FANAL_TEST_ROLE";
const DATA_DIR: &str = "FANAL_TEST_DATA_DIR";
const LISTEN: &str = "FANAL_TEST_LISTEN";
const PARENT: &str = "FANAL_TEST_PARENT";
const START_MAX: Duration = Duration::from_secs(60);

/// A handle on a database of its own on the shared server.
pub(crate) fn database(name: &str) -> ClickHouse {
    ClickHouse::new(config(name))
}

pub(crate) fn config(name: &str) -> ClickHouseConfig {
    ClickHouseConfig { url: shared(), database: unique(name), ..ClickHouseConfig::default() }
}

pub(crate) fn unique(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{name}_{}_{number}", std::process::id())
}

fn shared() -> String {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED
        .get_or_init(|| std::env::var("FANAL_STACK_CLICKHOUSE").unwrap_or_else(|_| for_all("single")))
        .clone()
}

/// The address of a server whose configuration names the clusters of `cluster.xml`.
pub(crate) fn with_cluster() -> String {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| for_all("cluster")).clone()
}

/// A server that lives as long as this process. A child ends with the thread that
/// started it, so that thread stays.
fn for_all(role: &'static str) -> String {
    let (sender, url) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let server = Server::start(role, &folder(), "127.0.0.1:0");
        sender.send(server.url()).unwrap();
        loop {
            std::thread::park();
        }
    });
    url.recv_timeout(START_MAX).expect("the server did not start; its reason stands above")
}

pub(crate) fn folder() -> PathBuf {
    std::env::temp_dir().join(unique("fanal-clickhouse"))
}

/// A server process; ended when it is dropped.
pub(crate) struct Server {
    pub(crate) address: String,
    process: Child,
}

impl Server {
    pub(crate) fn start(role: &str, data_dir: &Path, listen: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["served::a_child_process_of_a_test", "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(DATA_DIR, data_dir)
            .env(LISTEN, listen)
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("address ").map(str::to_owned));
        let server = Self { address: address.expect("the server ended before it was bound"), process };
        let start = Instant::now();
        while std::net::TcpStream::connect(&server.address).is_err() {
            assert!(start.elapsed() < START_MAX, "the server does not accept connections");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// SIGKILL, as far as the engine knows a power cut.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

#[test]
fn a_child_process_of_a_test() {
    // Nothing to do in a program that no test has started.
    let Ok(parent) = std::env::var(PARENT) else { return };
    die_with_parent(parent.parse().unwrap()).unwrap();
    let data_dir = PathBuf::from(std::env::var_os(DATA_DIR).expect("started by another test"));
    let role = std::env::var(ROLE).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcome = runtime.block_on(async {
        let mut config = ServerConfig::new(find_library()?, data_dir.clone());
        config.drain_max = Duration::from_secs(1);
        match role.as_str() {
            "cluster" => {
                let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clickhouse_server/cluster.xml");
                config.engine_config_file = Some(file.into());
            }
            "guarded" => config.password = Some("correct".to_owned()),
            _ => {}
        }
        let listener = tokio::net::TcpListener::bind(std::env::var(LISTEN).unwrap()).await.unwrap();
        // On a line of its own: with one test thread the harness has begun one already.
        println!("\naddress {}", listener.local_addr().unwrap());
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        serve(config, listener, async move {
            term.recv().await;
        })
        .await
    });
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(3);
    }
    let _gone = std::fs::remove_dir_all(data_dir);
}
