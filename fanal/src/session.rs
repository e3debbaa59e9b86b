//! Who holds the data of an installation: a running process, or this command.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use fanal_etl::Stage;
use fanal_service::config::ListenAddress;
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::clickhouse::ClickHouse;
use http::Method;
use tokio::task::JoinHandle;

use crate::client;
use crate::config::{Config, EventLogKind, password};
use crate::node::{Addresses, InUse, PROGRESS_PATH, Parts, RUNNING, Stages};

/// How often a running process is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// The way to the data.
pub(crate) enum Session {
    /// A process runs on the installation: it is asked.
    Remote(Remote),
    /// Nobody does: this command opens the parts itself.
    Local(Box<Local>),
}

/// A running process and the right to ask it.
pub(crate) struct Remote {
    pub(crate) addresses: Addresses,
    pub(crate) token: Secret,
}

/// The parts in this process, with the etl role running beside.
pub(crate) struct Local {
    pub(crate) parts: Parts,
    config: Config,
    stop: Stop,
    etl: Option<JoinHandle<()>>,
}

impl Session {
    /// Asks the running process if there is one, else opens the parts.
    pub(crate) async fn open(config: Config) -> anyhow::Result<Self> {
        if let Some(remote) = Remote::find(&config).await? {
            return Ok(Self::Remote(remote));
        }
        // Whoever wants to look at the tables meanwhile starts `fanal dev`.
        let mut quiet = config.clone();
        quiet.clickhouse.listen = ListenAddress(([127, 0, 0, 1], 0).into());
        let bound = match quiet.clickhouse.url {
            Some(_) => None,
            None => Some(std::net::TcpListener::bind(quiet.clickhouse.listen.0)?),
        };
        if let Some(listener) = &bound {
            listener.set_nonblocking(true)?;
        }
        let parts = match Parts::open(&quiet, bound).await {
            Ok(parts) => parts,
            Err(error) if InUse::is(&error) => {
                return Err(error.context(
                    "another process holds the data and does not answer on its admin address; wait until it is ready, or stop it",
                ));
            }
            Err(error) => return Err(error),
        };
        let stop = Stop::new();
        // Beside Kafka others may do the work; who has no such role leaves it to them.
        let works = quiet.event_log.kind == EventLogKind::Embedded || quiet.etl.is_some();
        let etl = works.then(|| parts.spawn_etl(&stop));
        Ok(Self::Local(Box::new(Local { parts, config: quiet, stop, etl })))
    }

    /// Waits until everything received is archived, counted and in the tables, late
    /// records included.
    pub(crate) async fn catch_up(&self) -> anyhow::Result<()> {
        match self {
            Self::Remote(remote) => {
                let path = crate::node::CATCH_UP_PATH;
                client::send_long(&remote.admin()?, path, Some(&remote.token), "", &mut |_| {})
                    .await?
                    .success("catching up")?;
            }
            Self::Local(local) => {
                local.parts.etl.catch_up_and_rebuild().await?;
            }
        }
        Ok(())
    }

    /// Waits until everything received is in the archive.
    pub(crate) async fn archive_all(&self) -> anyhow::Result<()> {
        match self {
            Self::Local(local) => {
                let etl = &local.parts.etl;
                let ends = etl.log.ends().await?;
                etl.seal(&ends).await?;
                Ok(etl.wait(Stage::Archive, &ends).await?)
            }
            Self::Remote(remote) => {
                let ends = remote.stages().await?.log_end;
                let path = fanal_ingest::import::ImportEndpoint::SEAL_PATH;
                client::send(&remote.admin()?, Method::POST, path, Some(&remote.token), "")
                    .await?
                    .success("the seal")?;
                loop {
                    let archived = remote.stages().await?.archived;
                    if ends.iter().all(|(partition, end)| archived.get(partition).is_some_and(|at| at >= end))
                    {
                        return Ok(());
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// The tables.
    pub(crate) fn clickhouse(&self, config: &Config) -> anyhow::Result<ClickHouse> {
        Ok(match self {
            Self::Local(local) => local.parts.etl.clickhouse(),
            Self::Remote(remote) => {
                let password = password(config.clickhouse.password_file.as_deref())?;
                ClickHouse::new(config.clickhouse_config(remote.addresses.clickhouse.clone(), password))
            }
        })
    }

    /// Finishes; what this command opened is closed.
    pub(crate) async fn close(self) {
        if let Self::Local(local) = self {
            let Local { parts, config, stop, etl } = *local;
            stop.stop();
            if let Some(etl) = etl {
                etl.await.ok();
            }
            parts.close(&config).await;
        }
    }
}

impl Remote {
    /// The process that runs on this installation, if it answers.
    pub(crate) async fn find(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(addresses) = read_running(&config.path(RUNNING))? else { return Ok(None) };
        let Some(admin) = addresses.admin else { return Ok(None) };
        let token = Secret::load(&config.admin_token_file())?;
        // A file that a killed process left behind says nothing.
        match client::send(&admin.to_string(), Method::GET, "/api/v1/sites", Some(&token), "").await {
            Ok(answer) if answer.status.is_success() => Ok(Some(Self { addresses, token })),
            _ => Ok(None),
        }
    }

    /// How far the stages are.
    pub(crate) async fn stages(&self) -> anyhow::Result<Stages> {
        let answer = client::get(&self.admin()?, PROGRESS_PATH, Some(&self.token)).await?;
        Ok(serde_json::from_slice(&answer.success("the progress")?.body)?)
    }

    /// `host:port` of the admin listener.
    pub(crate) fn admin(&self) -> anyhow::Result<String> {
        let admin = self.addresses.admin.context("the running process has no admin listener")?;
        Ok(admin.to_string())
    }
}

fn read_running(file: &Path) -> anyhow::Result<Option<Addresses>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}
