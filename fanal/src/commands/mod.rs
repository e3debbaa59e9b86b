//! The commands and their arguments, as the manual lists them.

pub(crate) mod clickhouse_server;
pub(crate) mod config;
pub(crate) mod dead_letters;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod import;
pub(crate) mod parse;
pub(crate) mod rebuild;
pub(crate) mod reconcile;
pub(crate) mod run;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use fanal_service::logs::{LogFormat, Logs};

use crate::config::Config;

/// Beacon ingestion for experimentation and personalisation: collector, event log, archive, visits.
#[derive(Parser)]
#[command(name = "fanal", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print results as JSON, one object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the roles that a configuration enables, until SIGTERM.
    Run(run::Arguments),
    /// Run everything on one machine with embedded parts; all data lives in one folder.
    Dev(dev::Arguments),
    /// Read nginx access logs into the event log; running it again adds nothing.
    Import(import::Arguments),
    /// Show how a log format is read, and what becomes of the lines of a log. Stores nothing.
    Parse(parse::Arguments),
    /// Make events and visits of a range of days anew from the raw archive.
    Rebuild(rebuild::Arguments),
    /// List rejected lines, read them again by today's rules, or drop them.
    DeadLetters(dead_letters::Arguments),
    /// Prove that nothing was lost: received = accepted + rejected, and so on to the tables.
    Reconcile(reconcile::Arguments),
    /// Walk one test event through every stage and check what surrounds them.
    Doctor(doctor::Arguments),
    /// Check a configuration file, or print every key.
    Config(config::Arguments),
    /// The embedded ClickHouse of a running `fanal`; started by it, not by people.
    #[command(hide = true)]
    ClickhouseServer(clickhouse_server::Arguments),
}

/// Which installation a command works on.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
pub(crate) struct Installation {
    /// Configuration file of the installation.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder of a `fanal dev`.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl Installation {
    /// The configuration that both ways lead to.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        match (&self.config, &self.data_dir) {
            (Some(file), _) => Config::read(file),
            (None, Some(dir)) if dir.is_dir() => {
                let mut config = Config::dev(dir);
                config.on_servers_of_folder(None)?;
                Ok(config)
            }
            (None, Some(dir)) => anyhow::bail!(
                "{} is not a folder; name the data folder of a `fanal dev`, or start one with it first",
                dir.display()
            ),
            (None, None) => anyhow::bail!("give --config FILE or --data-dir DIR"),
        }
    }
}

/// A runtime for commands that come to an end.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Logs of a command that comes to an end: only what needs attention.
pub(crate) fn quiet_logs() -> anyhow::Result<Logs> {
    let filter = std::env::var("FANAL_LOG").unwrap_or_else(|_| "error".to_owned());
    Ok(fanal_service::logs::start(LogFormat::Auto, &filter)?)
}
