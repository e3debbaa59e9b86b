//! Who holds the data of an installation: a running process, or this command.

use std::path::Path;

use anyhow::Context;
use fanal_service::config::ListenAddress;
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig};
use fanal_storage::log::OpenError;
use http::Method;
use tokio::task::JoinHandle;

use crate::client;
use crate::config::Config;
use crate::node::{Addresses, Parts, RUNNING};

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
    etl: JoinHandle<()>,
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
            Err(error) if matches!(error.downcast_ref(), Some(OpenError::InUse { .. })) => {
                return Err(error.context(
                    "another process holds the data and does not answer on its admin address; wait until it is ready, or stop it",
                ));
            }
            Err(error) => return Err(error),
        };
        let stop = Stop::new();
        let etl = parts.spawn_etl(&stop);
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

    /// The tables.
    pub(crate) fn clickhouse(&self, config: &Config) -> anyhow::Result<ClickHouse> {
        Ok(match self {
            Self::Local(local) => local.parts.etl.clickhouse(),
            Self::Remote(remote) => ClickHouse::new(ClickHouseConfig {
                url: remote.addresses.clickhouse.clone(),
                database: config.clickhouse.database.clone(),
                user: config.clickhouse.user.clone(),
                password: match &config.clickhouse.password_file {
                    Some(file) => Some(Secret::load(file)?.reveal().to_owned()),
                    None => None,
                },
                ..ClickHouseConfig::default()
            }),
        })
    }

    /// Finishes; what this command opened is closed.
    pub(crate) async fn close(self) {
        if let Self::Local(local) = self {
            let Local { parts, config, stop, etl } = *local;
            stop.stop();
            etl.await.ok();
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
