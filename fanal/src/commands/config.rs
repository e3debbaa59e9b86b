//! `fanal config check` and `fanal config reference`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::{Config, REFERENCE};
use crate::output::Output;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check a configuration file without touching the network.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print every key with its default, unit and meaning.
    Reference,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    match &arguments.action {
        Action::Check { file } => {
            let config = Config::read(file)?;
            config.rules()?;
            let text = format!("{}: good; roles: {}", file.display(), config.role_names().join(", "));
            output.result(&text, &json!({"file": file, "good": true, "roles": config.role_names()}));
        }
        Action::Reference => output.result(REFERENCE.trim_end(), &json!({"reference": REFERENCE})),
    }
    Ok(())
}
