//! The embedded ClickHouse as a child process: started, watched, started again.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use fanal_service::health::Health;
use fanal_service::logs::LogFormat;
use fanal_service::stop::Stop;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::client;
use crate::config::Config;

const PART: &str = "clickhouse";
/// The engine opens its tables in this time, or something is wrong.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_millis(50);
/// After so many ends in a row within `STEADY` each, restarting helps nobody.
const RESTARTS_MAX: u32 = 5;
const STEADY: Duration = Duration::from_secs(30);

/// A running child and its watcher.
pub(crate) struct Embedded {
    stop: Stop,
    gave_up: Stop,
    watcher: JoinHandle<()>,
}

/// What is needed to start the child, again and again.
struct Recipe {
    program: PathBuf,
    data_dir: PathBuf,
    log_format: &'static str,
    user: Option<String>,
    password_file: Option<PathBuf>,
    /// Stays open here, so that clients wait while the child is started again.
    listener: TcpListener,
    address: SocketAddr,
}

impl Embedded {
    pub(crate) async fn start(
        listener: TcpListener,
        config: &Config,
        health: Health,
    ) -> anyhow::Result<Self> {
        // Said by this process, with the remedy, and not by a child that vanishes.
        fanal_clickhouse_embedded::find_library()?;
        let recipe = Recipe {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            data_dir: config.path("clickhouse"),
            log_format: match config.logs.format {
                LogFormat::Auto => "auto",
                LogFormat::Human => "human",
                LogFormat::Json => "json",
            },
            user: config.clickhouse.user.clone(),
            password_file: config.clickhouse.password_file.clone(),
            address: listener.local_addr()?,
            listener,
        };
        let mut child = recipe.start()?;
        recipe.wait_until_ready(&mut child).await?;
        health.ok(PART);
        let (stop, gave_up) = (Stop::new(), Stop::new());
        let watcher = tokio::spawn(watch(recipe, child, stop.clone(), gave_up.clone(), health));
        Ok(Self { stop, gave_up, watcher })
    }

    /// Returns when the child cannot be kept running.
    pub(crate) async fn gave_up(&self) {
        self.gave_up.stopped().await;
    }

    /// Ends the child in peace; kills it after `patience`.
    pub(crate) async fn stop(mut self, patience: Duration) {
        self.stop.stop();
        if tokio::time::timeout(patience + Duration::from_secs(5), &mut self.watcher).await.is_err() {
            // The child has `kill_on_drop`.
            self.watcher.abort();
        }
    }
}

impl Recipe {
    fn start(&self) -> anyhow::Result<Child> {
        let listener: OwnedFd =
            self.listener.try_clone().context("cannot share the ClickHouse listener")?.into();
        let mut command = Command::new(&self.program);
        command.arg("clickhouse-server").arg("--data-dir").arg(&self.data_dir);
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        // The file and not the password: arguments can be read by everybody.
        if let Some(file) = &self.password_file {
            command.arg("--password-file").arg(file);
        }
        command
            .args(["--parent", &std::process::id().to_string(), "--log-format", self.log_format])
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the embedded ClickHouse")
    }

    async fn wait_until_ready(&self, child: &mut Child) -> anyhow::Result<()> {
        let began = Instant::now();
        let address = self.address.to_string();
        while began.elapsed() < START_TIMEOUT {
            tokio::select! {
                status = child.wait() => anyhow::bail!(
                    "the embedded ClickHouse ended at its start ({}); its own message is above", status?
                ),
                pinged = client::get(&address, "/ping", None) => {
                    if pinged.is_ok_and(|answer| answer.status.is_success()) {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(PING_INTERVAL).await;
        }
        anyhow::bail!(
            "the embedded ClickHouse did not answer on {address} within {} s; look at its log lines above",
            START_TIMEOUT.as_secs()
        )
    }
}

async fn watch(recipe: Recipe, mut child: Child, stop: Stop, gave_up: Stop, health: Health) {
    let mut quick_ends = 0;
    let mut started = Instant::now();
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::error!(status, "embedded clickhouse ended; it is started again");
                health.not_ready(PART, format!("the embedded ClickHouse ended ({status}) and is started again"));
            }
            () = stop.stopped() => {
                terminate(&mut child).await;
                return;
            }
        }
        quick_ends = if started.elapsed() < STEADY { quick_ends + 1 } else { 1 };
        if quick_ends > RESTARTS_MAX {
            tracing::error!("embedded clickhouse does not stay up; look at its log lines above");
            gave_up.stop();
            return;
        }
        started = Instant::now();
        match recipe.start() {
            Ok(again) => child = again,
            Err(error) => {
                tracing::error!(error = %error, "embedded clickhouse cannot be started");
                gave_up.stop();
                return;
            }
        }
        match recipe.wait_until_ready(&mut child).await {
            Ok(()) => health.ok(PART),
            // One that hangs is ended, so that the loop starts another.
            Err(_) => drop(child.start_kill()),
        }
    }
}

/// Lets the engine finish its statements; its own bound is shorter than ours.
async fn terminate(child: &mut Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
    child.wait().await.ok();
}
