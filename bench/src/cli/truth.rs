//! `fanal-bench truth`.

use super::show;
use anyhow::{Result, bail};
use fanal_bench::compare::compare;
use fanal_bench::load::address;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value = "http://127.0.0.1:8123")]
    clickhouse: String,
    /// Folder that `fanal-bench day` wrote.
    #[arg(long)]
    dir: PathBuf,
    /// Differences to print.
    #[arg(long, default_value_t = 10)]
    show: usize,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (address, tls) = address(&args.clickhouse)?;
    if tls {
        bail!("{} is https; the bench asks ClickHouse over http://", args.clickhouse);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(compare(&address, &args.dir, args.show))?;
    for difference in &findings.shown {
        show(difference);
    }
    show(&format!(
        "visits: {} true, {} found, {} missing, {} unexpected, {} different; events: {} found, {} sites differ",
        findings.visits_true,
        findings.visits_found,
        findings.missing,
        findings.unexpected,
        findings.different,
        findings.events_found,
        findings.events_different,
    ));
    show(if findings.is_equal() { "equal" } else { "NOT equal" });
    Ok(if findings.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
