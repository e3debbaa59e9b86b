//! What is open in a process: log, archive, catalogue, profiles, tables.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use fanal_etl::log::EventLogs;
use fanal_etl::{Etl, Progress};
use fanal_ingest::import::Imports;
use fanal_profiles::Profiles;
use fanal_service::health::Health;
use fanal_service::metrics::Metrics;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::Catalogue;
use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig};
use fanal_storage::log::wall_clock;
use tokio::task::JoinHandle;

use super::clickhouse::Embedded;
use super::folder::Folder;
use super::listeners::Addresses;
use super::log::{OpenLog, Writer};
use super::stores::Stores;
use crate::config::{Config, password};

/// Where a running process says how to reach it.
pub(crate) const RUNNING: &str = "running.json";

/// The open parts of one process.
pub(crate) struct Parts {
    log: OpenLog,
    pub(crate) catalogue: Catalogue,
    /// Positions of imports, where the embedded log holds them.
    pub(crate) imports: Option<Imports>,
    pub(crate) etl: Etl,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    running: PathBuf,
    embedded: Option<Embedded>,
    following: Stop,
    /// Given back after all others.
    _folder: Folder,
}

impl Parts {
    /// Opens all parts; `clickhouse` is where the embedded engine is to listen.
    pub(crate) async fn open(config: &Config, clickhouse: Option<TcpListener>) -> anyhow::Result<Self> {
        make_private_folder(&config.data_dir)?;
        let folder = Folder::take(&config.data_dir).await?;
        let metrics = Metrics::install()?;
        fanal_etl::describe();
        fanal_profiles::describe_metrics();
        let health = Health::new();
        let following = Stop::new();
        let log = OpenLog::open(config, &health, &following).await?;
        let stores = Stores::open(config)?;
        let catalogue = open_catalogue(config).await?;
        let imports = match log.logs() {
            EventLogs::Embedded(log) => Some(Imports::open(log, &make_folder(config.path("imports"))?)?),
            EventLogs::Kafka(_) => None,
        };
        let cassandra_password = password(config.profiles.cassandra.password_file.as_deref())?;
        let profiles = Profiles::open(&config.profiles, &config.data_dir, cassandra_password)?;
        let (embedded, clickhouse_config) = open_clickhouse(config, clickhouse, &health).await?;
        if embedded.is_some() {
            let client = ClickHouse::new(clickhouse_config.clone());
            client.migrate().await.context("cannot bring the tables up to date")?;
        }
        let etl = Etl {
            config: Arc::new(config.etl_config()),
            log: log.logs().clone(),
            archive: stores.archive,
            checkpoints: stores.checkpoints,
            clickhouse: clickhouse_config,
            profiles,
            sites: catalogue.sites(),
            health: health.clone(),
            clock: wall_clock(),
            progress: Progress::default(),
        };
        let (followed, stop) = (catalogue.clone(), following.clone());
        tokio::spawn(async move { followed.follow(stop.stopped()).await });
        let running = config.path(RUNNING);
        Ok(Self {
            log,
            catalogue,
            imports,
            etl,
            health,
            metrics,
            running,
            embedded,
            following,
            _folder: folder,
        })
    }

    /// Where the collector appends.
    pub(crate) fn writer(&self) -> Writer {
        self.log.writer()
    }

    /// Runs the etl role beside whatever else the process does.
    pub(crate) fn spawn_etl(&self, stop: &Stop) -> JoinHandle<()> {
        tokio::spawn(fanal_etl::run(self.etl.clone(), stop.clone()))
    }

    /// Tells other commands of this installation how to reach this process.
    pub(crate) fn write_running(&self, addresses: &Addresses) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(addresses)?;
        let temporary = self.running.with_extension("tmp");
        std::fs::write(&temporary, json)
            .and_then(|()| std::fs::rename(&temporary, &self.running))
            .with_context(|| format!("cannot write {}", self.running.display()))
    }

    /// Returns when a part cannot be healed without a restart.
    pub(crate) async fn failed(&self) {
        match &self.embedded {
            Some(embedded) => embedded.gave_up().await,
            None => std::future::pending().await,
        }
    }

    /// Closes all parts, the tables last.
    pub(crate) async fn close(self, config: &Config) {
        std::fs::remove_file(&self.running).ok();
        if let Some(imports) = &self.imports
            && let Err(error) = imports.snapshot().await
        {
            tracing::warn!(%error, "cannot store the positions of imports; the next start reads the log");
        }
        self.catalogue.close().await;
        if let Some(embedded) = self.embedded {
            embedded.stop(config.drain_timeout()).await;
        }
        self.following.stop();
        self.log.close().await;
    }
}

pub(super) fn make_folder(path: PathBuf) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// The folder holds keys, tokens and personal data: nobody else may look.
pub(crate) fn make_private_folder(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the data folder {}; name another one", dir.display()))
}

/// A file of the data folder, or a database that several processes share.
pub(crate) async fn open_catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let password = password(config.catalogue.password_file.as_deref())?;
    let place = config.catalogue.place(&config.path("catalogue.sqlite"), password.as_deref())?;
    Ok(Catalogue::open(place).await?)
}

async fn open_clickhouse(
    config: &Config,
    listener: Option<TcpListener>,
    health: &Health,
) -> anyhow::Result<(Option<Embedded>, ClickHouseConfig)> {
    let section = &config.clickhouse;
    let password = password(section.password_file.as_deref())?;
    let (embedded, url) = match (&section.url, listener) {
        (Some(url), _) => (None, url.clone()),
        (None, Some(listener)) => {
            let address = listener.local_addr()?;
            let embedded = Embedded::start(listener, config, health.clone()).await?;
            (Some(embedded), format!("http://{address}"))
        }
        // Nothing of this process asks it.
        (None, None) => (None, format!("http://{}", section.listen.0)),
    };
    Ok((embedded, config.clickhouse_config(url, password)))
}
