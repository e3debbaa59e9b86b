//! The process that holds the embedded ClickHouse engine.
//!
//! A process of its own, so that a crash of the engine costs a restart of it and
//! not the collector. As a child of `fanal` its listener comes as standard input:
//! the parent bound it, and clients wait in its queue while the child is started
//! again. With `--listen` it is a server on its own, as a stack of servers needs it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use fanal_clickhouse_embedded::{ServeError, ServerConfig, die_with_parent, find_library, serve};
use fanal_service::logs::{self, LogFormat};
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use tokio::signal::unix::{SignalKind, signal};

/// How long another engine on the same folder is waited for.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(25);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder of the engine's data.
    #[arg(long)]
    data_dir: PathBuf,
    /// Address of a server on its own; beyond loopback it needs a password.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Process id of the `fanal` that started this one; the listener is standard input then.
    #[arg(long, required_unless_present = "listen", conflicts_with = "listen")]
    parent: Option<u32>,
    /// The only user; `default` unless said otherwise.
    #[arg(long)]
    user: Option<String>,
    /// File with the password of the user.
    #[arg(long)]
    password_file: Option<PathBuf>,
    #[arg(long, default_value = "auto")]
    log_format: String,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(parent) = arguments.parent {
        die_with_parent(parent).context("the embedded ClickHouse is started by `fanal` itself")?;
    }
    let format = match arguments.log_format.as_str() {
        "json" => LogFormat::Json,
        "human" => LogFormat::Human,
        _ => LogFormat::Auto,
    };
    let _logs = logs::start(format, "warn")?;
    let listener = listener(arguments)?;
    let alone = arguments.listen.is_some();
    let mut config = ServerConfig::new(find_library()?, arguments.data_dir.clone());
    if let Some(user) = &arguments.user {
        config.user.clone_from(user);
    }
    if let Some(file) = &arguments.password_file {
        config.password = Some(Secret::load(file)?.reveal().to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                // Ctrl-C reaches the whole group; a parent stops this process last.
                _ = interrupt.recv(), if alone => {}
            }
            told.stop();
        });
        let began = Instant::now();
        loop {
            let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            let stopped = stop.clone();
            match serve(config.clone(), listener, async move { stopped.stopped().await }).await {
                // The engine of a parent that was killed needs a moment to end.
                Err(ServeError::DirectoryInUse { .. }) if began.elapsed() < PREDECESSOR_TIMEOUT => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                ended => return Ok(ended?),
            }
        }
    })
}

fn listener(arguments: &Arguments) -> anyhow::Result<TcpListener> {
    let listener: TcpListener = match arguments.listen {
        Some(address) if !address.ip().is_loopback() && arguments.password_file.is_none() => {
            anyhow::bail!("{address} is not on loopback; name a --password-file, or listen on 127.0.0.1")
        }
        Some(address) => TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?,
        None => {
            std::io::stdin().as_fd().try_clone_to_owned().context("standard input is not a listener")?.into()
        }
    };
    listener.set_nonblocking(true).context("the listener cannot be used")?;
    Ok(listener)
}
