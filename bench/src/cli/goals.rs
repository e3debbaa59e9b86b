//! `fanal-bench goals`.

use super::show;
use anyhow::{Context, Result};
use fanal_bench::goals::{goals, table};
use fanal_bench::record::runs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of a record: reads runs.jsonl, writes goals.md.
    #[arg(long)]
    dir: PathBuf,
    /// What is aimed at, one goal a line.
    #[arg(long)]
    goals: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}; did a definition run?", path.display()))
    };
    let text = table(&goals(&read(&args.goals)?)?, &runs(&read(&args.dir.join("runs.jsonl"))?)?);
    std::fs::write(args.dir.join("goals.md"), &text)?;
    show(&text);
    Ok(ExitCode::SUCCESS)
}
