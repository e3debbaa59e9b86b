//! Real servers of a test's own, which it may kill, pause and bring back.
//!
//! Everything goes through `scripts/stack.sh`, on free ports and in the test's
//! folder. What must stay true: dropping it ends every process, and so does the
//! end of the test program, however it came about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::programs::{checkout, fanal, run, run_ok};

/// A start on a machine with much else to do; the script's own limit is below it.
const START_LIMIT: Duration = Duration::from_secs(240);
/// Everything else ends within the script's own limits.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Address of a server that all tests share, by the name of its variable, such
/// as `FANAL_STACK_KAFKA`.
///
/// # Panics
/// When the variable is not set.
#[must_use]
pub fn shared_server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: this test needs real servers; run `make test`, or `scripts/stack.sh start` and \
             then: export $(scripts/stack.sh env)"
        )
    })
}

/// A running private stack.
#[derive(Debug)]
pub struct Stack {
    folder: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Stack {
    /// Starts these servers (all of them where none is named) and waits until they
    /// are ready. Names are those of `scripts/stack.sh`.
    ///
    /// # Panics
    /// When a server does not get ready.
    #[must_use]
    pub fn start(folder: &Path, servers: &[&str]) -> Self {
        Self::start_with(folder, servers, &[])
    }

    /// As [`Stack::start`], with one more Kafka listener that tells its clients to
    /// come to the proxy on this port; the proxy connects to [`Stack::kafka_behind_proxy`].
    ///
    /// # Panics
    /// As [`Stack::start`].
    #[must_use]
    pub fn start_behind_proxy(folder: &Path, servers: &[&str], proxy: u16) -> Self {
        Self::start_with(folder, servers, &["--kafka-proxied-as", &proxy.to_string()])
    }

    fn start_with(folder: &Path, servers: &[&str], options: &[&str]) -> Self {
        let mut stack = Self { folder: folder.to_owned(), variables: BTreeMap::new() };
        let owner = std::process::id().to_string();
        let fixed = ["--base-port", "free", "--owner", &owner];
        stack.script("start", &[&fixed[..], options, servers].concat(), START_LIMIT);
        let lines = stack.script("env", &[], COMMAND_LIMIT);
        stack.variables = lines
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        stack
    }

    /// SIGKILL: as when the machine's memory ran out.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn kill(&self, name: &str) {
        self.script("kill", &[name], COMMAND_LIMIT);
    }

    /// Starts what was killed or stopped, on the data that it kept, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn restart(&self, name: &str) {
        self.script("start", &[name], START_LIMIT);
    }

    /// As [`Stack::restart`], of several at the same time.
    ///
    /// # Panics
    /// When one of them does not get ready.
    pub fn restart_all(&self, names: &[&str]) {
        self.script("start", names, START_LIMIT);
    }

    /// Stops as a service manager does.
    ///
    /// # Panics
    /// When it does not go away.
    pub fn stop(&self, name: &str) {
        self.script("stop", &[name], COMMAND_LIMIT);
    }

    /// SIGSTOP: connections stay open and nothing answers.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn pause(&self, name: &str) {
        self.script("pause", &[name], COMMAND_LIMIT);
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn resume(&self, name: &str) {
        self.script("resume", &[name], COMMAND_LIMIT);
    }

    /// Whether all of these are ready.
    #[must_use]
    pub fn is_ready(&self, names: &[&str]) -> bool {
        run(self.command("status").args(names), COMMAND_LIMIT).code == 0
    }

    /// The configuration that runs `fanal` on the whole stack.
    ///
    /// # Panics
    /// When not every server was started.
    #[must_use]
    pub fn configuration(&self) -> String {
        self.script("config", &[], COMMAND_LIMIT)
    }

    /// `host:port` of the broker.
    #[must_use]
    pub fn kafka(&self) -> &str {
        self.variable("FANAL_STACK_KAFKA")
    }

    /// Where a proxy in front of the broker connects to.
    #[must_use]
    pub fn kafka_behind_proxy(&self) -> &str {
        self.variable("FANAL_STACK_KAFKA_PROXIED")
    }

    /// `hdfs://host:port` of the NameNode.
    #[must_use]
    pub fn hdfs(&self) -> &str {
        self.variable("FANAL_STACK_HDFS")
    }

    /// `host:port` of the NameNode's HTTP interface: WebHDFS and its state.
    #[must_use]
    pub fn hdfs_http(&self) -> &str {
        self.variable("FANAL_STACK_HDFS_HTTP")
    }

    /// `host:port` for CQL.
    #[must_use]
    pub fn cassandra(&self) -> &str {
        self.variable("FANAL_STACK_CASSANDRA")
    }

    /// `mysql://user:password@host:port/database`.
    #[must_use]
    pub fn mariadb(&self) -> &str {
        self.variable("FANAL_STACK_MARIADB")
    }

    /// `http://host:port`.
    #[must_use]
    pub fn clickhouse(&self) -> &str {
        self.variable("FANAL_STACK_CLICKHOUSE")
    }

    /// All variables of `scripts/stack.sh env`.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// # Panics
    /// When the server of this variable was not started.
    #[must_use]
    pub fn variable(&self, name: &str) -> &str {
        let value = self.variables.get(name);
        value.unwrap_or_else(|| {
            panic!("{name} is not among {:?}; name its server at the start", self.variables.keys())
        })
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(checkout().join("scripts/stack.sh"));
        command.arg(verb).arg("--dir").arg(&self.folder);
        command
    }

    fn script(&self, verb: &str, arguments: &[&str], limit: Duration) -> String {
        let mut command = self.command(verb);
        command.args(arguments);
        if verb == "start" {
            command.env("FANAL_BIN", fanal());
        }
        run_ok(&mut command, limit)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut command = self.command("stop");
        command.arg("--now");
        if std::thread::panicking() {
            // A second panic would hide the first.
            let _ = command.output();
        } else {
            run_ok(&mut command, COMMAND_LIMIT);
        }
    }
}
