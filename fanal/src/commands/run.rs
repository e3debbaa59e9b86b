//! `fanal run`: the roles of a configuration file.

use std::path::PathBuf;

use clap::Args;

use crate::config::Config;
use crate::node;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Configuration file; `fanal config reference` lists its keys.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    node::use_small_pages();
    let config = Config::read(&arguments.config)?;
    // Before there are threads: it changes the environment.
    let handed = fanal_service::supervisor::handed_over()?;
    let _logs = fanal_service::logs::start(config.logs.format, &config.logs.filter)?;
    super::runtime()?.block_on(async {
        let node = node::Node::start_on(config, handed).await?;
        if node.until_ready().await {
            tracing::info!(addresses = serde_json::to_string(&node.addresses)?, "ready");
        }
        node.until_stopped().await
    })
}
