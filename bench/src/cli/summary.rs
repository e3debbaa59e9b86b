//! `fanal-bench summary`.

use super::show;
use anyhow::{Context, Result};
use fanal_bench::record::{Machine, runs, summary};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of a record: reads runs.jsonl, writes machine.json and summary.md.
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let path = args.dir.join("runs.jsonl");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; did a definition run?", path.display()))?;
    let machine = Machine::here();
    let table = summary(&machine, &runs(&text)?);
    std::fs::write(args.dir.join("machine.json"), serde_json::to_string_pretty(&machine)? + "\n")?;
    std::fs::write(args.dir.join("summary.md"), &table)?;
    show(&table);
    Ok(ExitCode::SUCCESS)
}
