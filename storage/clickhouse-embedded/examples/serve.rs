//! The embedded ClickHouse as a process of its own, for tests and by hand:
//! `serve --data-dir DIR [--library FILE] [--listen ADDR] [--connections N] [--waiting N] [--password P]
//! [--engine-config FILE]`.
//! Prints its address when it is bound; ends on SIGTERM or SIGINT.
#![expect(clippy::print_stdout, reason = "a command prints")]

use std::io::Write as _;

use fanal_clickhouse_embedded::{ServerConfig, find_library, serve};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot serve");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let mut listen = "127.0.0.1:0".to_owned();
    let (mut library, mut data_dir) = (None, None);
    let mut rest = Vec::new();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--library" => library = Some(value.into()),
            "--data-dir" => data_dir = Some(value.into()),
            "--listen" => listen = value,
            "--connections" | "--waiting" | "--password" | "--drain-ms" | "--engine-config" => {
                rest.push((name, value))
            }
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let library = match library {
        Some(library) => library,
        None => find_library()?,
    };
    let mut config = ServerConfig::new(library, data_dir.ok_or("--data-dir is missing")?);
    for (name, value) in rest {
        match name.as_str() {
            "--connections" => config.connections = value.parse()?,
            "--waiting" => config.waiting_max = value.parse()?,
            "--engine-config" => config.engine_config_file = Some(value.into()),
            "--drain-ms" => config.drain_max = std::time::Duration::from_millis(value.parse()?),
            _ => config.password = Some(value),
        }
    }
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    };
    serve(config, listener, stop).await?;
    Ok(())
}
