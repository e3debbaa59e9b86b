//! The listeners of the roles: what is bound, who answers, how they end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use fanal_admin::Admin;
use fanal_delivery::{Delivery, SseHandler};
use fanal_ingest::{AddressKey, Ingest};
use fanal_service::http::{
    Connection, Handler, HttpLimits, Listener, PlainAnswer, PlainRequest, Request, Response, Sockets, Turns,
    Workers, bind_as, serve,
};
use fanal_service::operations::Operations;
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_service::tls::{CertificateFiles, TlsHandle};
use fanal_storage::log::wall_clock;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::internal::Internal;
use super::log::Writer;
use super::parts::Parts;
use crate::config::Config;

/// Where a running process answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) pid: u32,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) sse: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    /// URL of the ClickHouse HTTP interface.
    pub(crate) clickhouse: String,
}

/// Sockets that are bound and do not answer yet.
pub(super) struct Bound {
    /// For each address with sockets of its own; asked for once, since a limit of CPU time that changes
    /// changes the default.
    workers: usize,
    http: Option<Sockets>,
    https: Option<(Sockets, CertificateFiles)>,
    sse: Option<(Sockets, Option<CertificateFiles>)>,
    admin: Option<TcpListener>,
    clickhouse: Option<std::net::TcpListener>,
}

impl Bound {
    /// The embedded engine's socket, to hand on.
    pub(super) fn clickhouse(&self) -> Option<std::net::TcpListener> {
        self.clickhouse.as_ref().and_then(|listener| listener.try_clone().ok())
    }
}

/// Sockets that the supervisor holds open, by the names of [`HANDED_NAMES`].
pub(crate) type Handed = BTreeMap<String, Vec<std::net::TcpListener>>;

/// What a socket unit may call its sockets (`FileDescriptorName=`).
const HANDED_NAMES: [&str; 3] = ["http", "https", "sse"];

/// Binds every address of the configuration, except where a socket was handed over.
pub(super) fn bind_all(config: &Config, mut handed: Handed) -> anyhow::Result<Bound> {
    if let Some(name) = handed.keys().find(|name| !HANDED_NAMES.contains(&name.as_str())) {
        anyhow::bail!(
            "the supervisor hands over a socket named `{name}`; FileDescriptorName= must be one of {HANDED_NAMES:?}"
        );
    }
    let (workers, sharing) = (config.http.workers(), config.http.sharing());
    let mut data = |address, option, name| match handed.remove(name) {
        Some(sockets) => Sockets::kept(sockets).with_context(|| format!("cannot use the socket `{name}`")),
        None => Ok(Sockets::bind(address, option, workers, sharing)?),
    };
    let own = |address, option| bind_as(address, option, sharing);
    let http = config.ingest.as_ref().map(|ingest| data(ingest.listen.0, "--http, or ingest.listen", "http"));
    let https = config.ingest.as_ref().and_then(|ingest| {
        let (listen, tls) = (ingest.listen_tls?, ingest.tls.as_ref()?);
        let sockets = data(listen.0, "--https, or ingest.listen_tls", "https");
        Some(sockets.map(|sockets| (sockets, CertificateFiles::from(tls))))
    });
    let sse = config.delivery.as_ref().map(|delivery| {
        let files = delivery.sse_tls.as_ref().map(CertificateFiles::from);
        data(delivery.sse_listen.0, "--sse, or delivery.sse_listen", "sse").map(|sockets| (sockets, files))
    });
    let admin = config.admin.as_ref().map(|admin| own(admin.listen.0, "--admin, or admin.listen"));
    let clickhouse =
        config.embeds_tables().then(|| own(config.clickhouse.listen.0, "--clickhouse, or clickhouse.listen"));
    let (http, https, sse) = (http.transpose()?, https.transpose()?, sse.transpose()?);
    let admin = admin.transpose()?;
    let clickhouse = clickhouse.transpose()?.map(TcpListener::into_std).transpose()?;
    Ok(Bound { workers, http, https, sse, admin, clickhouse })
}

/// Listeners that answer.
pub(super) struct Running {
    pub(super) addresses: Addresses,
    /// Of the data listeners.
    workers: Workers,
    /// Of the admin listener and what watches.
    tasks: JoinSet<()>,
    certificates: Vec<(TlsHandle, CertificateFiles)>,
}

impl Running {
    pub(super) fn reload_certificates(&self) {
        for (handle, files) in &self.certificates {
            match handle.reload(files) {
                Ok(()) => tracing::info!(certificate = %files.certificate.display(), "certificate reloaded"),
                Err(error) => tracing::error!(%error, "certificate not reloaded, the old one stays"),
            }
        }
    }

    /// Whether the workers turn.
    pub(super) fn turns(&self) -> Turns {
        self.workers.turns()
    }

    /// Returns when all requests are finished.
    pub(super) async fn ended(self) {
        let Self { workers, mut tasks, .. } = self;
        if let Err(error) = workers.ended().await {
            tracing::error!(%error, "a listener ended");
        }
        while tasks.join_next().await.is_some() {}
    }

    fn tls(&mut self, files: CertificateFiles) -> anyhow::Result<TlsHandle> {
        let handle = TlsHandle::load(&files)?;
        self.certificates.push((handle.clone(), files));
        Ok(handle)
    }

    fn spawn<H: Handler>(&mut self, listener: Listener, handler: Arc<H>, limits: HttpLimits, stop: &Stop) {
        let stop = stop.clone();
        self.tasks.spawn(async move {
            if let Err(error) = serve(listener, handler, limits, stop).await {
                tracing::error!(%error, "a listener ended");
            }
        });
    }
}

/// Starts to answer.
pub(super) async fn serve_all(
    bound: Bound,
    config: &Config,
    parts: &Parts,
    stop: &Stop,
) -> anyhow::Result<Running> {
    let mut limits = config.http.limits(config.drain_timeout());
    if let Some(ingest) = &config.ingest {
        limits.trusted.0.extend(&ingest.trusted_proxies.0);
    }
    let addresses = Addresses {
        pid: std::process::id(),
        clickhouse: parts.etl.clickhouse.url.clone(),
        ..Addresses::default()
    };
    let workers = Workers::start(bound.workers, limits.clone())?;
    let mut running = Running { addresses, workers, tasks: JoinSet::new(), certificates: Vec::new() };
    let data = Arc::new(data_handler(config, parts, &mut running, stop)?);
    if let Some(sockets) = bound.http {
        running.addresses.http = Some(sockets.local_addr()?);
        running.workers.serve(sockets, None, &data, stop)?;
    }
    if let Some((sockets, files)) = bound.https {
        running.addresses.https = Some(sockets.local_addr()?);
        let tls = running.tls(files)?;
        running.workers.serve(sockets, Some(&tls), &data, stop)?;
    }
    if let Some((sockets, files)) = bound.sse {
        running.addresses.sse = Some(sockets.local_addr()?);
        let tls = files.map(|files| running.tls(files)).transpose()?;
        let handler = Arc::new(SseHandler::new(parts.catalogue.clone(), stop.clone()));
        running.workers.serve(sockets, tls.as_ref(), &handler, stop)?;
    }
    if let Some(tcp) = bound.admin {
        running.addresses.admin = Some(tcp.local_addr()?);
        let token =
            Secret::load_or_create(&config.admin_token_file()).context("cannot read the admin token")?;
        let operations = Operations { health: parts.health.clone(), metrics: parts.metrics.clone() };
        let internal = Box::new(Internal::new(parts));
        let admin = Admin::new(parts.catalogue.clone(), token, operations).with_routes(vec![internal]);
        running.spawn(Listener::clear(tcp), Arc::new(admin), limits, stop);
    }
    Ok(running)
}

/// Tracking, configuration, tokens and visitor data share a listener: by path.
struct DataHandler {
    ingest: Option<Arc<Ingest<Writer>>>,
    delivery: Option<Delivery>,
    operations: Operations,
}

fn data_handler(
    config: &Config,
    parts: &Parts,
    running: &mut Running,
    stop: &Stop,
) -> anyhow::Result<DataHandler> {
    let ingest = match &config.ingest {
        None => None,
        Some(section) => {
            fanal_ingest::describe();
            let mut settings = section.resolve(&host_name())?;
            settings.body.rate_min = u32::try_from(config.http.body_rate_min.0).unwrap_or(u32::MAX);
            let key = AddressKey::load_or_create(&section.address_key_file)?;
            let (log, sites) = (parts.writer(), parts.catalogue.sites());
            let mut ingest = Ingest::new(log, sites, settings, key, wall_clock(), parts.health.clone());
            if let Some((file, rules)) = config.rules()? {
                running.tasks.spawn(rules.clone().watch(file, stop.clone()));
                ingest = ingest.with_rules(rules);
            }
            let ingest = Arc::new(ingest);
            let (watched, stop) = (Arc::clone(&ingest), stop.clone());
            running.tasks.spawn(async move { watched.watch_log(&stop).await });
            Some(ingest)
        }
    };
    let delivery = match &config.delivery {
        None => None,
        Some(_) => Some(Delivery::new(parts.catalogue.clone(), &config.path("token.key"))?),
    };
    let operations = Operations { health: parts.health.clone(), metrics: parts.metrics.clone() };
    Ok(DataHandler { ingest, delivery, operations })
}

impl Handler for DataHandler {
    const TAKES_PLAIN: bool = true;

    fn plain(
        &self,
        request: &PlainRequest<'_>,
        connection: &Connection,
    ) -> Option<impl Future<Output = PlainAnswer> + Send + Unpin + use<>> {
        self.ingest.as_ref()?.plain(request, connection)
    }

    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        let path = request.uri().path();
        if let Some(ingest) = self.ingest.as_ref().filter(|_| Ingest::<Writer>::PATHS.contains(&path)) {
            return ingest.handle(request, connection).await;
        }
        if let Some(response) = self.operations.answer(request.method(), path) {
            return response;
        }
        match &self.delivery {
            // Boxed, so that a beacon does not carry the space that this takes.
            Some(delivery) => Box::pin(delivery.handle(request, connection)).await,
            None => not_found(),
        }
    }
}

fn not_found() -> Response {
    fanal_service::problem::Problem::new(
        http::StatusCode::NOT_FOUND,
        "path_unknown",
        "Unknown path",
        "This listener answers /visit/events, /health/live, /health/ready and /metrics.",
    )
    .into_response()
}

/// The name of this machine, for records.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "local".to_owned() } else { name }
}
