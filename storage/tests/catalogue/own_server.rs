//! A MariaDB server of a test's own: to be killed, or to be given a certificate.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanal_storage::catalogue::Server;
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use tempfile::TempDir;

const READY_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct OwnServer {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    options: Vec<String>,
    child: Child,
}

impl OwnServer {
    /// A server with one user, `fanal`, password `pass-word`, and its database.
    pub(crate) async fn start(folder: TempDir, options: Vec<String>) -> Self {
        let data = folder.path().join("data");
        let user = user();
        let installed = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--user={user}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("mariadb-install-db is missing: run `scripts/install.sh stack`, or `make test`");
        assert!(installed.success(), "mariadb-install-db failed");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(folder.path(), port, &options);
        let server = Self { folder, port, options, child };
        let mut root = server.ready().await;
        for statement in [
            "CREATE DATABASE fanal",
            "CREATE USER fanal@'%' IDENTIFIED BY 'pass-word'",
            "GRANT ALL ON fanal.* TO fanal@'%'",
        ] {
            sqlx::raw_sql(statement).execute(&mut root).await.unwrap();
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://fanal@127.0.0.1:{}/fanal", self.port)
    }

    pub(crate) fn server(&self) -> Server {
        Server::parse(&self.url(), Some("pass-word")).unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), self.port, &self.options);
        self.ready().await;
    }

    async fn ready(&self) -> sqlx::MySqlConnection {
        let began = Instant::now();
        let root = MySqlConnectOptions::new().socket(self.folder.path().join("s.sock")).username("root");
        loop {
            match root.connect().await {
                Ok(connection) => return connection,
                Err(error) => assert!(began.elapsed() < READY_TIMEOUT, "{error}; see {:?}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(folder: &Path, port: u16, options: &[String]) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let place = |name: &str| folder.join(name).display().to_string();
    Command::new(program())
        .arg("--no-defaults")
        .args([format!("--datadir={}", place("data")), format!("--socket={}", place("s.sock"))])
        .args([
            format!("--pid-file={}", place("pid")),
            format!("--port={port}"),
            format!("--user={}", user()),
        ])
        .args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M"])
        .args(options)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mariadbd is missing: run `scripts/install.sh stack`, or `make test`")
}

/// Debian keeps it where only root's PATH looks.
fn program() -> PathBuf {
    let known = PathBuf::from("/usr/sbin/mariadbd");
    if known.exists() { known } else { PathBuf::from("mariadbd") }
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
