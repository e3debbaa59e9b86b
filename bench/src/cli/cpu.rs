//! `fanal-bench cpu`.

use super::show;
use anyhow::{Context, Result, bail};
use fanal_bench::process::{self, Usage};
use serde::Serialize;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How often a running command's memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Running processes.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Each with all its children.
    #[arg(long)]
    tree: bool,
    #[arg(long)]
    json: bool,
    /// Run this, and give what it and the processes spent meanwhile. Its standard output goes to standard error.
    #[arg(last = true)]
    command: Vec<String>,
}

/// What a command and the processes beside it spent.
#[derive(Serialize)]
struct Spent {
    elapsed_s: f64,
    exit_code: Option<i32>,
    command_cpu_s: f64,
    command_peak_rss_bytes: u64,
    /// CPU seconds of the processes while the command ran.
    processes_cpu_s: f64,
    /// Their CPU seconds are those of the command's time.
    processes: Vec<Usage>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.pid.is_empty() && args.command.is_empty() {
        bail!("nothing to look at; give --pid PID, or a command after --");
    }
    let Some((program, rest)) = args.command.split_first() else {
        let now = look(args)?;
        show(&if args.json { serde_json::to_string(&now)? } else { table(&now) });
        return Ok(ExitCode::SUCCESS);
    };
    let before = look(args)?;
    let children_before = process::ended_children_cpu_s()?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(rest)
        .stdout(Stdio::from(std::io::stderr()))
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut peak = 0;
    let status = loop {
        if let Ok(tree) = process::tree(child.id()) {
            peak = peak.max(tree.iter().map(|usage| usage.peak_rss_bytes).sum());
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(SAMPLE);
    };
    let mut after = look(args)?;
    process::subtract(&mut after, &before);
    let spent = Spent {
        elapsed_s: started.elapsed().as_secs_f64(),
        exit_code: status.code(),
        command_cpu_s: process::ended_children_cpu_s()? - children_before,
        command_peak_rss_bytes: peak,
        processes_cpu_s: process::cpu_s(&after),
        processes: after,
    };
    if args.json {
        show(&serde_json::to_string(&spent)?);
    } else {
        show(&format!(
            "command: {:.2} CPU s, {:.2} s, peak RSS {} MB; the processes meanwhile: {:.2} CPU s\n{}",
            spent.command_cpu_s,
            spent.elapsed_s,
            spent.command_peak_rss_bytes / 1_000_000,
            spent.processes_cpu_s,
            table(&spent.processes)
        ));
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(args: &Args) -> Result<Vec<Usage>, process::Error> {
    let mut all = Vec::new();
    for pid in &args.pid {
        if args.tree {
            all.extend(process::tree(*pid)?);
        } else {
            all.push(process::usage(*pid)?);
        }
    }
    Ok(all)
}

fn table(list: &[Usage]) -> String {
    let rows = list.iter().map(|usage| {
        format!(
            "{:>8}  {:>10.2} CPU s  {:>7.1} MB RSS  {:>7.1} MB peak  {}",
            usage.pid,
            usage.cpu_s,
            megabytes(usage.rss_bytes),
            megabytes(usage.peak_rss_bytes),
            usage.name
        )
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "memory stays below 2^52 bytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
