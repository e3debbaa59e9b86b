//! A server process on a fresh directory and a free port.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fanal_clickhouse_embedded::{ServerConfig, die_with_parent, find_library, serve};

const ROLE: &str = "FANAL_TEST_ROLE";
const DATA_DIR: &str = "FANAL_TEST_DATA_DIR";
const OPTIONS: &str = "FANAL_TEST_OPTIONS";
const PARENT: &str = "FANAL_TEST_PARENT";
const START_MAX: Duration = Duration::from_secs(30);

/// A folder that is removed at the end of the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fanal-clickhouse-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server; killed when it is dropped.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) process: Child,
}

impl Server {
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::with(data_dir, "")
    }

    /// `options` are `name=value` pairs separated by spaces.
    pub(crate) fn with(data_dir: &Path, options: &str) -> Self {
        let mut process = command("server", data_dir, options).stderr(Stdio::inherit()).spawn().unwrap();
        let address = address(&mut process);
        let server = Self { address, process };
        server.await_ready();
        server
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("http://{}/{rest}", self.address)
    }

    fn await_ready(&self) {
        let start = Instant::now();
        while std::net::TcpStream::connect(&self.address).is_err() {
            assert!(start.elapsed() < START_MAX, "the server does not accept connections");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, then the exit status.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        self.process.wait().unwrap()
    }

    /// Largest memory of the process so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn address(process: &mut Child) -> String {
    let mut lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
    let found = lines.find_map(|line| line.unwrap().strip_prefix("address ").map(str::to_owned));
    found.expect("the server process ended before it was bound; its reason stands above")
}

fn command(role: &str, data_dir: &Path, options: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["served::a_child_process_of_a_test", "--exact", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(DATA_DIR, data_dir)
        .env(OPTIONS, options)
        .env(PARENT, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Starts a server that is expected to fail; gives its exit and standard error.
pub(crate) fn failing_start(data_dir: &Path, library: Option<&Path>) -> (bool, String) {
    let mut command = command("server", data_dir, "");
    if let Some(library) = library {
        command.env("FANAL_LIBCHDB", library);
    }
    let output = command.stderr(Stdio::piped()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A server whose parent is a process that can be killed: (parent, address).
pub(crate) fn server_with_parent(data_dir: &Path) -> (Child, String) {
    let mut parent = command("parent", data_dir, "").stderr(Stdio::inherit()).spawn().unwrap();
    let address = address(&mut parent);
    (parent, address)
}

#[test]
#[ignore = "it is the process that other tests start, not a test of its own"]
fn a_child_process_of_a_test() {
    let data_dir = PathBuf::from(std::env::var_os(DATA_DIR).expect("started by another test"));
    match std::env::var(ROLE).as_deref() {
        Ok("server") => run_server(data_dir),
        Ok("parent") => {
            let mut child = command("server", &data_dir, "").spawn().unwrap();
            println!("\naddress {}", address(&mut child));
            let mut rest = String::new();
            child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        }
        role => panic!("unknown role {role:?}"),
    }
}

fn run_server(data_dir: PathBuf) {
    die_with_parent(std::env::var(PARENT).unwrap().parse().unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcome = runtime.block_on(async {
        let mut config = ServerConfig::new(find_library()?, data_dir);
        for option in std::env::var(OPTIONS).unwrap().split_whitespace() {
            let (name, value) = option.split_once('=').unwrap();
            match name {
                "connections" => config.connections = value.parse().unwrap(),
                "waiting" => config.waiting_max = value.parse().unwrap(),
                "query_bytes" => config.query_bytes_max = value.parse().unwrap(),
                "stall_ms" => config.client_stall_max = Duration::from_millis(value.parse().unwrap()),
                "password" => config.password = Some(value.to_owned()),
                other => panic!("unknown option {other}"),
            }
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
}
