//! One process of a Fanal installation on real servers: `fanal run` with a
//! configuration of its own.
//!
//! What must stay true: a process that was started ends with its handle and with
//! the test program, however that ends; its log stays as long as its folder.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::http::Call;
use crate::programs::{checkout, fanal};
use crate::start::free_address;
use crate::wait::eventually;

/// Time that a killed process may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(20);
/// The drain has a limit of its own; this one is beyond it.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// An answer about health or metrics that takes longer is none.
const LOOK_S: &str = "5";

/// Runs a program until it ends in another way than with exit code 1. A signal to the
/// group reaches the program; what it makes of SIGTERM is waited for.
const AS_A_SERVICE: &str = "trap : TERM
while :; do
  \"$@\" & pid=$!
  wait $pid; code=$?
  while kill -0 $pid 2>&-; do wait $pid; code=$?; done
  [ $code -eq 1 ] || exit $code
  sleep 1
done";
/// Kills a process group when its standard input ends.
const GUARD: &str = "read -r end; kill -s KILL -- \"-$1\"";

/// What a process does beside answering its admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Ingest,
    Etl,
}

/// A process that is killed, paused, stopped and started again on its folder.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    listen: String,
    admin: String,
    /// Where the log of this start begins.
    log_from: usize,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Kills the process when the test program has ended without doing so.
    guard: Child,
}

impl Node {
    /// Writes the configuration. `servers` is what [`crate::Stack::configuration`]
    /// gives, `settings` are keys of the role's section; both in TOML.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn new(folder: &Path, name: &str, role: Role, servers: &str, settings: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(folder.join("data")).unwrap();
        let (listen, admin) = (free_address(), free_address());
        let data = folder.join("data").display().to_string();
        let section = match role {
            Role::Ingest => {
                format!("[ingest]\nlisten = \"{listen}\"\naddress_key_file = \"{data}/address.key\"")
            }
            Role::Etl => "[etl]".to_owned(),
        };
        let own = format!("{section}\n{settings}\n[admin]\nlisten = \"{admin}\"\n[logs]\nformat = \"json\"");
        std::fs::write(folder.join("fanal.toml"), format!("data_dir = \"{data}\"\n{servers}\n{own}\n"))
            .unwrap();
        Self { name: name.to_owned(), folder, listen, admin, log_from: 0, running: None }
    }

    /// Starts the process and does not wait for anything. As with a service manager, it
    /// is started again when it ends with an error, because a server it needs is away.
    ///
    /// # Panics
    /// When it runs, or cannot be started.
    pub fn start(&mut self) {
        self.change_taken_port();
        self.start_on_its_ports();
    }

    /// Another process on the same configuration, which the first gives way to where that
    /// says so.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_successor(&self) -> Self {
        let Self { name, folder, listen, admin, .. } = self;
        let (name, folder, listen, admin) = (name.clone(), folder.clone(), listen.clone(), admin.clone());
        let mut successor = Self { name, folder, listen, admin, log_from: 0, running: None };
        successor.start_on_its_ports();
        successor
    }

    fn start_on_its_ports(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        self.log_from = usize::try_from(log.metadata().unwrap().len()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", AS_A_SERVICE, "service"]).arg(fanal());
        command.arg("run").arg("--config").arg(self.config()).current_dir(checkout()).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // Its standard input ends with this program, whatever ended that.
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard", &child.id().to_string()]);
        guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().unwrap_or_else(|error| panic!("sh: {error}"));
        self.running = Some(Running { child, guard });
    }

    /// Waits until it has ended by itself; the exit code.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn ended(&mut self) -> i32 {
        self.end(&[], STOP_LIMIT)
    }

    /// Memory of the program, its children not counted.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident_mib(&self) -> u64 {
        self.status("VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// A field of what the system says of the program.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn status(&self, field: &str) -> String {
        let running = std::fs::read(self.folder.join("data/running.json")).unwrap();
        let running: serde_json::Value = serde_json::from_slice(&running).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", running["pid"])).unwrap();
        let found = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }

    /// SIGKILL; the data folder stays as it is.
    ///
    /// # Panics
    /// When the process does not run, or does not go.
    pub fn kill(&mut self) {
        self.end(&[Signal::CONT, Signal::KILL], GONE_LIMIT);
    }

    /// Stops as a service manager does; the exit code.
    ///
    /// # Panics
    /// When the process does not run, or does not stop in time.
    pub fn stop(&mut self) -> i32 {
        self.end(&[Signal::TERM], STOP_LIMIT)
    }

    /// SIGSTOP: it keeps its connections and believes in no lost time.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        kill_process_group(self.group(), Signal::STOP).unwrap();
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        kill_process_group(self.group(), Signal::CONT).unwrap();
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it was paused and not resumed.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let pid = self.running.as_ref().unwrap().child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("fanal.toml")
    }

    /// Everything that it wrote, over all starts.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// `host:port` of the collector.
    #[must_use]
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// How often its log says this since its last start.
    ///
    /// # Panics
    /// When the log cannot be read.
    #[must_use]
    pub fn said(&self, text: &str) -> usize {
        let log = std::fs::read(self.log_file()).unwrap();
        String::from_utf8_lossy(&log[self.log_from..]).matches(text).count()
    }

    /// Why it is not ready; `None` where it is. A part that is degraded does its work.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        let answer = self.look("/health/ready");
        (answer.status != 200).then(|| format!("{}: {} {}", self.name, answer.text(), answer.error))
    }

    /// Sum of a metric over its labels; `None` where nobody answers.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let answer = self.look("/metrics");
        let text = (answer.status == 200).then(|| answer.text())?;
        let values = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        Some(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// A call of the admin API with the token of the data folder.
    ///
    /// # Panics
    /// When the token cannot be read.
    #[must_use]
    pub fn admin(&self, method: &str, path: &str) -> Call {
        let token = std::fs::read_to_string(self.folder.join("data/admin.token")).unwrap();
        Call::new(method, &format!("http://{}{path}", self.admin))
            .header("Authorization", &format!("Bearer {}", token.trim()))
            .header("Content-Type", "application/json")
    }

    /// A command of `fanal` on this process's configuration.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(fanal());
        command.args(words).arg("--config").arg(self.config());
        command
    }

    /// Somebody else may have got the port while the process did not run.
    fn change_taken_port(&mut self) {
        if TcpListener::bind(&self.admin).is_ok() {
            return;
        }
        let (config, admin) = (self.config(), free_address());
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace(&self.admin, &admin)).unwrap();
        self.admin = admin;
    }

    fn look(&self, path: &str) -> crate::Answer {
        Call::new("GET", &format!("http://{}{path}", self.admin)).option(&["--max-time", LOOK_S]).send()
    }

    fn group(&self) -> Pid {
        let running = self.running.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        Pid::from_child(&running.child)
    }

    fn end(&mut self, signals: &[Signal], limit: Duration) -> i32 {
        let group = self.group();
        let mut running = self.running.take().unwrap();
        for signal in signals {
            let _ = kill_process_group(group, *signal);
        }
        let what = format!("end of {}", self.name);
        let status = eventually(limit, &what, || running.child.try_wait().unwrap());
        // Before its number can belong to somebody else.
        let _ = running.guard.kill();
        let _ = running.guard.wait();
        eventually(GONE_LIMIT, &what, || test_kill_process_group(group).is_err().then_some(()));
        status.code().unwrap_or(-1)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = kill_process_group(Pid::from_child(&running.child), Signal::KILL);
            let _ = running.child.wait();
            let _ = running.guard.kill();
            let _ = running.guard.wait();
        }
    }
}
