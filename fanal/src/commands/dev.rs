//! `fanal dev`: everything on one machine.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use fanal_service::config::{ListenAddress, TlsSection};
use fanal_service::logs::LogFormat;
use fanal_service::tls::local_certificate;
use serde_json::json;

use crate::config::Config;
use crate::exit::Ending;
use crate::node::{Addresses, Folder, Node, make_private_folder, preflight};
use crate::output::{Output, table};
use crate::sample;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder for all data; made if it is not there. Starting again on it goes on where it stopped.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Collector and delivery, cleartext.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: ListenAddress,
    /// The same over TLS.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    https: ListenAddress,
    /// Real-time stream for SDKs, over TLS.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8110")]
    sse: ListenAddress,
    /// Admin API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    admin: ListenAddress,
    /// ClickHouse HTTP interface.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123")]
    clickhouse: ListenAddress,
    /// Network domain that SDKs are given; the local certificate is for its hosts.
    #[arg(long, value_name = "D", default_value = "fanal.test")]
    network_domain: String,
    /// Certificate to use in place of the local one, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Use the servers of this file in place of embedded parts: its sections `event_log`, `archive`,
    /// `clickhouse`, `profiles`, `catalogue`, `spool`. The data folder keeps a copy, for later starts and other commands.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// Create a sample site, send it some traffic over HTTP and show the visits.
    #[arg(long)]
    sample: bool,
    /// Which visitors the sample has: the same number gives the same visitors and events, on any parts.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "sample")]
    seed: u32,
    /// End after the sample's table.
    #[arg(long, requires = "sample")]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let filter = std::env::var("FANAL_LOG").unwrap_or_else(|_| "info".to_owned());
    let _logs = fanal_service::logs::start(LogFormat::Auto, &filter)?;
    let config = config(arguments)?;
    check(&config, arguments)?;
    super::runtime()?.block_on(async {
        Folder::is_free(&config.data_dir).await?;
        make_folder(&config, arguments)?;
        let node = Box::pin(Node::start(config)).await?;
        output.say(&addresses_table(&node.addresses, arguments));
        if !node.until_ready().await {
            return node.until_stopped().await;
        }
        output.result("ready", &json!({"ready": true, "addresses": node.addresses}));
        if arguments.sample {
            let sampled = tokio::select! {
                sampled = sample::run(&node, arguments.seed, output) => sampled,
                () = node.stop().stopped() => Ok(()),
            };
            if arguments.once || sampled.is_err() {
                node.drain().await?;
                return sampled;
            }
        }
        node.until_stopped().await
    })
}

/// Reads and makes nothing.
fn config(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config = Config::dev(&arguments.data_dir);
    let given = given_certificate(arguments);
    if let Some(ingest) = &mut config.ingest {
        ingest.listen = arguments.http;
        ingest.listen_tls = Some(arguments.https);
        ingest.tls = given.clone().or(ingest.tls.take());
    }
    if let Some(delivery) = &mut config.delivery {
        delivery.sse_listen = arguments.sse;
        delivery.sse_tls = given.or(delivery.sse_tls.take());
    }
    if let Some(admin) = &mut config.admin {
        admin.listen = arguments.admin;
    }
    config.clickhouse.listen = arguments.clickhouse;
    config.on_servers_of_folder(arguments.cluster.as_deref())?;
    Ok(config)
}

fn given_certificate(arguments: &Arguments) -> Option<TlsSection> {
    let (certificate, key) = (arguments.tls_cert.clone()?, arguments.tls_key.clone()?);
    Some(TlsSection { certificate, key })
}

/// What can be wrong is found before there is a folder.
fn check(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    config.check().map_err(Ending::WrongUse)?;
    preflight::check(config)?;
    given_certificate(arguments).as_ref().map_or(Ok(()), preflight::certificate)
}

/// The folder with what a start needs in it: a certificate, and the file of its servers, since
/// a folder stays on them: what it holds belongs to them.
fn make_folder(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    make_private_folder(&config.data_dir)?;
    if given_certificate(arguments).is_none() {
        local_certificate(&config.path("tls"), &arguments.network_domain)?;
    }
    let Some(file) = &arguments.cluster else { return Ok(()) };
    let kept = config.servers_file();
    if kept.is_file() && std::fs::read(&kept).ok() != std::fs::read(file).ok() {
        tracing::warn!(file = %file.display(), "other servers or settings than at the last start of this folder");
    }
    let temporary = kept.with_extension("tmp");
    std::fs::copy(file, &temporary)
        .and_then(|_| std::fs::rename(&temporary, &kept))
        .with_context(|| format!("cannot write {}", kept.display()))
}

fn addresses_table(addresses: &Addresses, arguments: &Arguments) -> String {
    let shown = |address: Option<std::net::SocketAddr>, scheme: &str| {
        address.map_or_else(String::new, |address| format!("{scheme}://{address}"))
    };
    let ca = if arguments.tls_cert.is_some() {
        String::new()
    } else {
        format!("trust {}", arguments.data_dir.join("tls/ca.pem").display())
    };
    let token = format!("bearer token in {}", arguments.data_dir.join("admin.token").display());
    let row = |what: &str, address: String, note: &str| vec![what.to_owned(), address, note.to_owned()];
    table(
        &["what", "address", ""],
        &[
            row("beacons, configuration", shown(addresses.http, "http"), ""),
            row("the same over TLS", shown(addresses.https, "https"), &ca),
            row("real-time stream", shown(addresses.sse, "https"), "/sse?siteCode=…"),
            row("admin API", shown(addresses.admin, "http"), &token),
            row("ClickHouse", addresses.clickhouse.clone(), "database fanal: visits, events, ledger"),
        ],
    )
}
