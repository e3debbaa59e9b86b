//! `fanal-bench day`.

use super::show;
use anyhow::{Context, Result};
use fanal_bench::day::{Options, generate};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder for the logs, truth.json and visits.tsv.
    #[arg(long)]
    out: PathBuf,
    /// Distinct accepted lines (heartbeats included); the visitor that reaches the number is finished.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Sites; the first ones are the busy ones.
    #[arg(long, default_value_t = 3)]
    sites: u16,
    /// Nodes; each has its own files.
    #[arg(long, default_value_t = 2)]
    nodes: u16,
    /// Same seed and options, same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The UTC day.
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "2026-10-01")]
    date: String,
    /// Start here instead of at the date's midnight (Unix time in ms); the day is the 24 h from there.
    #[arg(long)]
    start_ms: Option<u64>,
    /// Leave out lines with a malformed nonce, for a reader that does not reject them.
    #[arg(long)]
    no_bad_nonces: bool,
    /// Print truth.json instead of a summary.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let start_ms = match args.start_ms {
        Some(start) => start,
        None => midnight(&args.date)?,
    };
    let started = Instant::now();
    let truth = generate(&Options {
        out: args.out.clone(),
        events: args.events,
        sites: args.sites,
        nodes: args.nodes,
        seed: args.seed,
        start_ms,
        bad_nonces: !args.no_bad_nonces,
    })?;
    if args.json {
        show(&serde_json::to_string_pretty(&truth)?);
        return Ok(ExitCode::SUCCESS);
    }
    show(&format!(
        "{} events ({} heartbeats), {} visits, {} log lines, {} MB in {} files, {:.1} s",
        truth.events_distinct,
        truth.heartbeats,
        truth.visits,
        truth.log_lines,
        truth.bytes / 1_000_000,
        truth.files.len(),
        started.elapsed().as_secs_f64(),
    ));
    for (code, site) in &truth.sites {
        show(&format!(
            "site {code}: {} visits, {} events, revenue {}",
            site.visits, site.events_distinct, site.revenue
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn midnight(date: &str) -> Result<u64> {
    let day: jiff::civil::Date =
        date.parse().with_context(|| format!("--date {date} is not a date; write it as 2026-10-01"))?;
    let zoned = day.to_zoned(jiff::tz::TimeZone::UTC)?;
    u64::try_from(zoned.timestamp().as_millisecond()).context("--date is before 1970; give a later day")
}
