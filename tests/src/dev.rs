//! A running `fanal dev`, in a process group of its own.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use crate::http::{Answer, Call};
use crate::start::{Failure, LISTENERS, Start};
use crate::wait::eventually;

/// A cold start with a big log on a slow machine takes this long at most.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// Time that killed processes may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(20);
/// A drain has a limit of its own; this one is beyond it.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Lines of output, as they come.
type Lines = Arc<Mutex<Vec<String>>>;

/// A running program; dropping it kills the whole group.
#[derive(Debug)]
pub struct Dev {
    child: Child,
    group: Pid,
    folder: PathBuf,
    addresses: [String; 5],
    lines: Lines,
}

impl Dev {
    pub(crate) fn start(options: &Start) -> Result<Self, Failure> {
        let mut words: Vec<String> = options.wrapper.clone();
        words.push(crate::fanal().to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("dev").arg("--data-dir").arg(&options.folder);
        for (listener, address) in LISTENERS.iter().zip(&options.addresses) {
            command.arg(format!("--{listener}")).arg(address);
        }
        command.args(&options.arguments).envs(options.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(crate::checkout()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let group = Pid::from_child(&child);
        let lines = Lines::default();
        collect(child.stdout.take().unwrap(), "", &lines);
        collect(child.stderr.take().unwrap(), "stderr: ", &lines);
        let addresses = options.addresses.clone();
        let mut dev = Self { child, group, folder: options.folder.clone(), addresses, lines };
        match dev.until_ready() {
            Ok(()) => Ok(dev),
            Err(code) => {
                dev.kill();
                Err(Failure { code, output: dev.output() })
            }
        }
    }

    fn until_ready(&mut self) -> Result<(), i32> {
        let end = Instant::now() + READY_LIMIT;
        loop {
            if self.lines.lock().unwrap().iter().any(|line| line == "ready") {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                // The last lines may still be on their way.
                std::thread::sleep(Duration::from_millis(200));
                return Err(status.code().unwrap_or(-1));
            }
            if Instant::now() > end {
                return Err(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that it wrote; lines of standard error say so.
    #[must_use]
    pub fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Address of a listener, by the name of its flag.
    ///
    /// # Panics
    /// When there is no listener of that name.
    #[must_use]
    pub fn address(&self, listener: &str) -> &str {
        &self.addresses[LISTENERS.iter().position(|name| *name == listener).unwrap()]
    }

    /// URL on the cleartext listener.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address("http"))
    }

    /// Kills the whole process group with signal 9 and waits until it is gone.
    ///
    /// # Panics
    /// When processes of the group stay.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        eventually(GONE_LIMIT, "end of a killed process group", || {
            let _ = kill_process_group(self.group, Signal::KILL);
            test_kill_process_group(self.group).is_err().then_some(())
        });
    }

    /// Stops as a service manager does; the exit code.
    ///
    /// # Panics
    /// When it does not stop in time.
    pub fn stop(mut self) -> i32 {
        let _ = kill_process(self.group, Signal::TERM);
        let status = eventually(STOP_LIMIT, "end after SIGTERM", || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }

    /// A call of the admin API with the token of the data folder.
    ///
    /// # Panics
    /// When the token cannot be read.
    #[must_use]
    pub fn admin(&self, method: &str, path: &str) -> Call {
        let token = std::fs::read_to_string(self.folder.join("admin.token")).unwrap();
        let url = format!("http://{}{path}", self.address("admin"));
        Call::new(method, &url)
            .header("Authorization", &format!("Bearer {}", token.trim()))
            .header("Content-Type", "application/json")
    }

    /// Creates a site with nothing but a name.
    pub fn create_site(&self, code: &str) {
        let answer = self
            .admin("PUT", &format!("/api/v1/sites/{code}"))
            .body(format!(r#"{{"name":"{code}"}}"#))
            .send();
        assert!([200, 201].contains(&answer.status), "{}: {}", answer.status, answer.text());
    }

    /// One POST of tracking lines.
    #[must_use]
    pub fn track(&self, site: &str, body: &str) -> Answer {
        let url = self.url(&format!("/visit/events?siteCode={site}"));
        Call::new("POST", &url).header("Content-Type", "*/*").body(body).send()
    }

    /// Answer of ClickHouse, tab separated, without the last line break.
    ///
    /// # Panics
    /// When ClickHouse refuses the query.
    #[must_use]
    pub fn query(&self, sql: &str) -> String {
        let url = format!("http://{}/?database=fanal", self.address("clickhouse"));
        let answer = Call::new("POST", &url).body(sql).send();
        assert_eq!(answer.status, 200, "{sql}\n{}{}\n{}", answer.text(), answer.error, self.output());
        answer.text().trim_end_matches('\n').to_owned()
    }

    /// One number.
    ///
    /// # Panics
    /// When the answer is none.
    #[must_use]
    pub fn count(&self, sql: &str) -> u64 {
        let text = self.query(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.folder.with_extension("output.txt");
            let _ = std::fs::write(log, self.output());
            // A second panic would hide the first.
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = self.child.wait();
        } else {
            self.kill();
        }
    }
}

fn collect(pipe: impl Read + Send + 'static, mark: &'static str, lines: &Lines) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            lines.lock().unwrap().push(format!("{mark}{}", String::from_utf8_lossy(&line)));
        }
    });
}
