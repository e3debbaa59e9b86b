//! `fanal dev`: everything on one machine.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use fanal_service::config::{ListenAddress, TlsSection};
use fanal_service::logs::LogFormat;
use fanal_service::tls::local_certificate;
use serde_json::json;

use crate::config::Config;
use crate::exit::Ending;
use crate::node::{Addresses, Node, make_private_folder};
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
    /// End after the sample's table.
    #[arg(long, requires = "sample")]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let filter = std::env::var("FANAL_LOG").unwrap_or_else(|_| "info".to_owned());
    let _logs = fanal_service::logs::start(LogFormat::Auto, &filter)?;
    let config = config(arguments)?;
    config.check().map_err(Ending::WrongUse)?;
    super::runtime()?.block_on(async {
        let node = Box::pin(Node::start(config)).await?;
        output.say(&addresses_table(&node.addresses, arguments));
        if !node.until_ready().await {
            return node.until_stopped().await;
        }
        output.result("ready", &json!({"ready": true, "addresses": node.addresses}));
        if arguments.sample {
            let sampled = tokio::select! {
                sampled = sample::run(&node, output) => sampled,
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

fn config(arguments: &Arguments) -> anyhow::Result<Config> {
    let dir = &arguments.data_dir;
    make_private_folder(dir)?;
    let mut config = Config::dev(dir);
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => TlsSection { certificate: certificate.clone(), key: key.clone() },
        _ => {
            let made = local_certificate(&dir.join("tls"), &arguments.network_domain)?;
            TlsSection { certificate: made.files.certificate, key: made.files.key }
        }
    };
    if let Some(ingest) = &mut config.ingest {
        ingest.listen = arguments.http;
        ingest.listen_tls = Some(arguments.https);
        ingest.tls = Some(tls.clone());
    }
    if let Some(delivery) = &mut config.delivery {
        delivery.sse_listen = arguments.sse;
        delivery.sse_tls = Some(tls);
    }
    if let Some(admin) = &mut config.admin {
        admin.listen = arguments.admin;
    }
    config.clickhouse.listen = arguments.clickhouse;
    on_servers(&mut config, arguments.cluster.as_deref())?;
    Ok(config)
}

/// A folder stays on its servers: what it holds belongs to them.
fn on_servers(config: &mut Config, named: Option<&Path>) -> anyhow::Result<()> {
    let kept = config.servers_file();
    match named {
        Some(file) => {
            config.on_cluster(file)?;
            let temporary = kept.with_extension("tmp");
            std::fs::copy(file, &temporary)
                .and_then(|_| std::fs::rename(&temporary, &kept))
                .with_context(|| format!("cannot write {}", kept.display()))
        }
        None if kept.is_file() => config.on_cluster(&kept),
        None => Ok(()),
    }
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
