//! `fanal config check` and `fanal config reference`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use fanal_ingest::rules::{RulesCount, RulesHandle};
use serde_json::json;

use crate::config::{Config, REFERENCE};
use crate::exit::Ending;
use crate::output::Output;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check a configuration file, and the rules that it names, without touching the network.
    Check {
        /// The file.
        #[arg(required_unless_present = "rules")]
        file: Option<PathBuf>,
        /// Check this file of quotas and kill rules, in place of the one that the configuration names.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
    },
    /// Print every key with its default, unit and meaning.
    Reference,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    match &arguments.action {
        Action::Check { file, rules } => {
            if let Some(file) = file {
                check(file, rules.is_none(), output)?;
            }
            if let Some(rules) = rules {
                check_rules(rules, output)?;
            }
        }
        Action::Reference => output.result(REFERENCE.trim_end(), &json!({"reference": REFERENCE})),
    }
    Ok(())
}

fn check(file: &Path, with_its_rules: bool, output: &Output) -> anyhow::Result<()> {
    let config = Config::read(file)?;
    if with_its_rules {
        config.rules()?;
    }
    let text = format!("{}: good; roles: {}", file.display(), config.role_names().join(", "));
    output.result(&text, &json!({"file": file, "good": true, "roles": config.role_names()}));
    Ok(())
}

fn check_rules(file: &Path, output: &Output) -> anyhow::Result<()> {
    let checked = RulesHandle::check(file).map_err(|error| Ending::BadConfiguration(error.to_string()))?;
    let RulesCount { quotas, kill_rules } = checked;
    let text = format!("{}: good; quotas: {quotas}, kill rules: {kill_rules}", file.display());
    output.result(&text, &json!({"file": file, "good": true, "quotas": quotas, "kill_rules": kill_rules}));
    Ok(())
}
