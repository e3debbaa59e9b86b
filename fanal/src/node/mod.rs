//! One running process: its parts, its roles, its listeners, in that order; and
//! the way back.
//!
//! Only wiring. What must stay true: nothing is answered before everything
//! behind it is open, and a stop goes the way of the data, so that what was
//! accepted is finished: listeners, then etl, then the tables.

mod clickhouse;
mod folder;
mod internal;
mod listeners;
mod log;
mod parts;
pub(crate) mod preflight;
mod process;
mod stores;
mod take_over;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fanal_service::stop::{Reload, Stop, on_signals};
use fanal_service::supervisor::Supervisor;
use tokio::task::JoinHandle;

use crate::config::Config;
pub(crate) use folder::{Folder, InUse};
pub(crate) use internal::{CATCH_UP_PATH, PROGRESS_PATH, REBUILD_PATH, RebuildOrder, RebuildOutcome, Stages};
pub(crate) use listeners::{Addresses, Handed, host_name};
pub(crate) use parts::{Parts, RUNNING, make_private_folder, open_catalogue};
pub(crate) use process::use_small_pages;
pub(crate) use stores::archive_store;

/// How often positions of imports are stored apart from the log.
const IMPORTS_INTERVAL: Duration = Duration::from_secs(60);
/// How often readiness is looked at during the start.
const READY_POLL: Duration = Duration::from_millis(20);
/// How often samples of histograms are moved into their buckets.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);

/// A node whose listeners answer.
pub(crate) struct Node {
    pub(crate) addresses: Addresses,
    pub(crate) parts: Parts,
    stop: Stop,
    reload: Reload,
    listeners: listeners::Running,
    etl: Option<JoinHandle<()>>,
    etl_stop: Stop,
    supervisor: Arc<Supervisor>,
    config: Config,
}

impl Node {
    /// Opens everything and answers; returns when all listeners answer.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_on(config, Handed::new()).await
    }

    /// The same on sockets that the supervisor handed over, where it did.
    pub(crate) async fn start_on(config: Config, handed: Handed) -> anyhow::Result<Self> {
        preflight::check(&config)?;
        preflight::certificates(&config)?;
        // A port may be in use by the very process that has the folder: then the folder is what
        // to say. Whoever takes over waits for it later.
        if !config.http.take_over {
            Folder::is_free(&config.data_dir).await?;
        }
        process::prepare(&config);
        let supervisor = Arc::new(Supervisor::from_environment());
        let stop = Stop::new();
        let reload = on_signals(&stop).context("cannot listen to signals")?;
        // Bound before anything is opened: a port in use is found at once and
        // nothing has to be closed again.
        let bound = listeners::bind_all(&config, handed)?;
        let parts = take_over::open(&config, &bound, &stop).await?;
        let etl_stop = Stop::new();
        let etl = config.etl.is_some().then(|| parts.spawn_etl(&etl_stop));
        let listeners = listeners::serve_all(bound, &config, &parts, &stop).await?;
        let addresses = listeners.addresses.clone();
        parts.write_running(&addresses)?;
        tokio::spawn(tidy_metrics(parts.metrics.clone(), stop.clone()));
        if let Some(imports) = parts.imports.clone() {
            tokio::spawn(store_imports(imports, stop.clone()));
        }
        let (keeping, turns, until) = (Arc::clone(&supervisor), listeners.turns(), stop.clone());
        tokio::spawn(async move { keeping.keep_alive(turns, &until).await });
        // What the parts depend on may be away: requests are taken all the same, and
        // `/health/ready` says more.
        supervisor.ready();
        Ok(Self { addresses, parts, stop, reload, listeners, etl, etl_stop, supervisor, config })
    }

    /// Waits until every role has reported that it is ready; false if it is
    /// stopped before.
    pub(crate) async fn until_ready(&self) -> bool {
        let mut expected = vec![];
        if self.etl.is_some() {
            expected.extend(fanal_etl::HEALTH_PARTS);
        }
        let is_ready = || {
            let states = self.parts.health.states();
            expected.iter().all(|part| states.contains_key(*part)) && self.parts.health.is_ready()
        };
        while !is_ready() {
            tokio::select! {
                () = tokio::time::sleep(READY_POLL) => {}
                () = self.stop.stopped() => return false,
                () = self.parts.failed() => return false,
            }
        }
        true
    }

    pub(crate) fn admin_token_file(&self) -> std::path::PathBuf {
        self.config.admin_token_file()
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Serves until the stop, rereading certificates on SIGHUP; then drains.
    pub(crate) async fn until_stopped(mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = self.stop.stopped() => break,
                changed = self.reload.changed() => match changed {
                    Ok(()) => {
                        self.supervisor.reloading();
                        self.listeners.reload_certificates();
                        self.supervisor.ready();
                    }
                    Err(_) => self.stop.stopped().await,
                },
                () = self.parts.failed() => {
                    self.drain().await?;
                    // Not a success: whoever supervises the process must start it again.
                    anyhow::bail!("the embedded ClickHouse does not stay up; its own messages are above");
                }
            }
        }
        self.drain().await
    }

    /// Finishes what was accepted, within the drain timeout.
    pub(crate) async fn drain(self) -> anyhow::Result<()> {
        tracing::info!("stopping");
        self.supervisor.stopping();
        self.stop.stop();
        let drained = tokio::time::timeout(self.config.drain_timeout(), async {
            self.listeners.ended().await;
            self.etl_stop.stop();
            if let Some(etl) = self.etl {
                etl.await.ok();
            }
        })
        .await;
        self.etl_stop.stop();
        self.parts.close(&self.config).await;
        match drained {
            Ok(()) => tracing::info!("stopped"),
            // Nothing is lost: it is in the event log and goes on at the next start.
            Err(_) => tracing::warn!("stopped before everything was drained; the next start goes on"),
        }
        Ok(())
    }
}

/// The log may only forget what the positions of imports were stored from.
async fn store_imports(imports: fanal_ingest::import::Imports, stop: Stop) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(IMPORTS_INTERVAL) => {}
            () = stop.stopped() => return,
        }
        if let Err(error) = imports.snapshot().await {
            tracing::warn!(%error, "cannot store the positions of imports");
        }
    }
}

async fn tidy_metrics(metrics: fanal_service::metrics::Metrics, stop: Stop) {
    while !stop.is_stopped() {
        tokio::select! {
            () = tokio::time::sleep(METRICS_INTERVAL) => metrics.tidy(),
            () = stop.stopped() => {}
        }
    }
}
