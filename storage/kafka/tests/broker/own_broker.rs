//! A broker of a test's own: with listeners as the test wants them, and to be killed.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Running;

/// A broker's own time to start on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// As the stack finds it.
fn java() -> String {
    let script = root().join("scripts/stack/java.sh");
    let found = Command::new("bash").arg("-c").arg(". \"$0\" && java_of_stack").arg(script).output().unwrap();
    assert!(found.status.success(), "there is no Java for Kafka: run scripts/install.sh stack");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A broker's folder and, while it runs, its process.
pub(crate) struct OwnBroker {
    process: Option<Running>,
    pub(crate) folder: tempfile::TempDir,
}

impl OwnBroker {
    /// Formats the storage of a broker with these properties; it does not run yet.
    /// `{data}` and `{folder}` in them are its folders.
    pub(crate) fn format(folder: tempfile::TempDir, properties: &str, options: &[&str]) -> Self {
        let (data, own) = (folder.path().join("data"), folder.path());
        let single = [
            "offsets.topic.replication.factor",
            "transaction.state.log.replication.factor",
            "transaction.state.log.min.isr",
            "share.coordinator.state.topic.replication.factor",
            "share.coordinator.state.topic.min.isr",
            "offsets.topic.num.partitions",
            "transaction.state.log.num.partitions",
        ];
        let single: String = single.iter().map(|key| format!("{key}=1\n")).collect();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\nlog.dirs={}\nauto.create.topics.enable=false\n\
             group.initial.rebalance.delay.ms=0\nlog.cleaner.dedupe.buffer.size=4194304\n{single}{}",
            data.display(),
            properties.replace("{folder}", &own.display().to_string()),
        );
        fs::write(own.join("server.properties"), properties).unwrap();
        let broker = Self { process: None, folder };
        let file = broker.properties_file();
        let mut arguments = vec!["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", &file];
        arguments.extend_from_slice(options);
        let formatted = broker.java("kafka.tools.StorageTool", "format.log", &arguments).status().unwrap();
        assert!(formatted.success(), "{}", broker.log("format.log"));
        broker
    }

    /// A broker without TLS on `port` that tells clients to come to `advertised`.
    pub(crate) fn plain(port: u16, advertised: u16) -> Self {
        let controller = free_port();
        let properties = format!(
            "controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAIN://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAIN://127.0.0.1:{advertised}\n\
             listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAIN\n"
        );
        Self::format(tempfile::tempdir().unwrap(), &properties, &[])
    }

    fn properties_file(&self) -> String {
        self.folder.path().join("server.properties").to_str().unwrap().to_owned()
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn java(&self, main: &str, log: &str, arguments: &[&str]) -> Command {
        let jars = root().join(".cache/stack/kafka");
        assert!(jars.exists(), "{} is missing: run scripts/install.sh stack", jars.display());
        let log = File::create(self.folder.path().join(log)).unwrap();
        let mut command = Command::new(java());
        command.args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-cp").arg(format!("{}/*", jars.display())).arg(main).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// Runs it and waits until it is ready.
    pub(crate) fn start(&mut self) {
        let file = self.properties_file();
        let child = self.java("kafka.Kafka", "broker.log", &[&file]).spawn().unwrap();
        self.process = Some(Running(child));
        let until = Instant::now() + START_MAX;
        while !self.log("broker.log").contains("Kafka Server started") {
            assert!(Instant::now() < until, "the broker did not start: {}", self.log("broker.log"));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// SIGKILL, and its data stays.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }
}
