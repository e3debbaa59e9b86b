//! `fanal-bench load`.

use super::show;
use anyhow::{Context, Result, bail};
use fanal_bench::load::{Method, Options, Report, address, run_and_look};
use fanal_bench::process::{self, Usage};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// http:// or https://, the latter with --insecure.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Speak TLS to any certificate: the bench makes its own.
    #[arg(long)]
    insecure: bool,
    /// A new connection for each request.
    #[arg(long)]
    new_connections: bool,
    /// Keep TLS session tickets from one connection to the next.
    #[arg(long)]
    resume: bool,
    /// HTTP/2 with --streams requests under way on each connection.
    #[arg(long)]
    http2: bool,
    #[arg(long, default_value_t = 8)]
    streams: u32,
    /// Open so many connections, send one request on each, and keep them idle until the duration ends.
    #[arg(long, value_name = "N", conflicts_with = "connections")]
    idle: Option<u32>,
    /// Code of a site that the server knows.
    #[arg(long)]
    site: String,
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Requests per second of all connections together, or max.
    #[arg(long, default_value = "max", value_parser = rate)]
    rate: Rate,
    /// How long to send, such as 10s, 500ms, 2m.
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    #[arg(long, default_value_t = 1)]
    lines_per_request: u32,
    #[arg(long, value_enum, default_value_t = Way::Post)]
    method: Way,
    /// Different visitors.
    #[arg(long, default_value_t = 10_000)]
    visitors: u32,
    /// Send what got no 2xx once more, byte for byte.
    #[arg(long)]
    retry: bool,
    /// Append visitor and nonce of every acknowledged line to this file.
    #[arg(long)]
    acked: Option<PathBuf>,
    /// Decides nonces and visitors: use another one for each run against the same server, or all are repeats.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes of the server, each with all its children: their CPU time is divided by what was acknowledged.
    #[arg(long, value_name = "PID")]
    cpu_pid: Vec<u32>,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Way {
    Get,
    Post,
}

#[derive(Clone, Copy)]
struct Rate(Option<f64>);

/// A run and what the server spent on it.
#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    report: Report,
    generator_cpu_s: f64,
    server_cpu_s: Option<f64>,
    cpu_us_per_request: Option<f64>,
    cpu_us_per_line: Option<f64>,
    /// The server's processes at the end of the run; CPU seconds are those of the run.
    processes: Vec<Usage>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let options = options(args)?;
    let before = processes(&args.cpu_pid)?;
    let own_before = process::usage(std::process::id())?.cpu_s;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (report, after) = runtime.block_on(run_and_look(&options, || processes(&args.cpu_pid)))?;
    let own = process::usage(std::process::id())?.cpu_s - own_before;
    let after = after.context("a process of the server ended during the run")?;
    let outcome = outcome(report, own, &before, after);
    if args.json {
        show(&serde_json::to_string(&outcome)?);
    } else {
        show(&text(&outcome));
    }
    if let Some(error) = outcome.report.acked_error {
        bail!("the list of acknowledged lines is incomplete: {error}; free some space and run again");
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &Args) -> Result<Options> {
    let (address, tls) = address(&args.url)?;
    if tls && !args.insecure {
        bail!("the bench knows no authorities; add --insecure to trust any certificate of {}", args.url);
    }
    Ok(Options {
        address,
        site: args.site.clone(),
        connections: args.idle.unwrap_or(args.connections),
        rate: args.rate.0,
        duration: args.duration,
        lines_per_request: args.lines_per_request,
        method: match args.method {
            Way::Get => Method::Get,
            Way::Post => Method::Post,
        },
        visitors: args.visitors,
        retry: args.retry,
        acked: args.acked.clone(),
        seed: args.seed,
        tls,
        new_connections: args.new_connections,
        resume: args.resume,
        http2_streams: args.http2.then_some(args.streams),
        idle: args.idle.is_some(),
    })
}

fn processes(roots: &[u32]) -> Result<Vec<Usage>, process::Error> {
    let mut all = Vec::new();
    for root in roots {
        all.extend(process::tree(*root)?);
    }
    Ok(all)
}

fn outcome(report: Report, generator_cpu_s: f64, before: &[Usage], mut after: Vec<Usage>) -> Outcome {
    let spent = (!after.is_empty()).then(|| process::cpu_s(&after) - process::cpu_s(before));
    #[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
    let per = |count: u64| spent.filter(|_| count > 0).map(|spent| spent * 1e6 / count as f64);
    let (cpu_us_per_request, cpu_us_per_line) = (per(report.requests_acked), per(report.lines_acked));
    process::subtract(&mut after, before);
    Outcome {
        generator_cpu_s,
        server_cpu_s: spent,
        cpu_us_per_request,
        cpu_us_per_line,
        report,
        processes: after,
    }
}

fn text(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let latency = &report.latency_us;
    let mut lines = vec![
        format!(
            "{} requests acknowledged ({} lines) in {:.1} s: {:.0} requests/s",
            report.requests_acked, report.lines_acked, report.elapsed_s, report.requests_per_s
        ),
        format!("by status: {:?}", report.by_status),
        format!(
            "connections refused or failed {}, lost {}, timeouts {}, retries {}, slots missed {}",
            report.connect_errors, report.broken, report.timeouts, report.retries, report.slots_missed
        ),
        format!(
            "latency µs: p50 {}, p99 {}, p99.9 {}, most {}",
            latency.p50, latency.p99, latency.p999, latency.max
        ),
        format!("generator: {:.2} CPU s", outcome.generator_cpu_s),
    ];
    if report.handshakes > 0 {
        lines.push(format!(
            "TLS: {} handshakes, {} of them resumed",
            report.handshakes, report.handshakes_resumed
        ));
    }
    if report.idle_kept > 0 {
        lines.push(format!("idle connections kept open: {}", report.idle_kept));
    }
    if let (Some(spent), Some(request), Some(line)) =
        (outcome.server_cpu_s, outcome.cpu_us_per_request, outcome.cpu_us_per_line)
    {
        lines.push(format!("server: {spent:.2} CPU s, {request:.2} µs per request, {line:.2} µs per beacon"));
    }
    for process in &outcome.processes {
        lines.push(format!(
            "  {} {}: {:.2} CPU s, RSS {} MB, peak {} MB",
            process.pid,
            process.name,
            process.cpu_s,
            process.rss_bytes / 1_000_000,
            process.peak_rss_bytes / 1_000_000
        ));
    }
    lines.join("\n")
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let given: f64 = text.parse().map_err(|_| "give requests per second, or max".to_owned())?;
    if given.is_finite() && (0.1..=10_000_000.0).contains(&given) {
        return Ok(Rate(Some(given)));
    }
    Err("give a rate from 0.1 to 10000000, or max".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "write a duration from 1ms to 24h as 10s, 500ms or 2m".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..unit].parse().map_err(|_| bad())?;
    let seconds = match &text[unit..] {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(bad()),
    };
    if (0.001..=86_400.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10s").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        for bad in ["", "s", "10 s", "-1s", "0s", "3d", "1e9h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_numbers_or_max() {
        assert!(rate("max").unwrap().0.is_none());
        assert!(rate("2500").unwrap().0.is_some());
        for bad in ["0", "-3", "NaN", "fast"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
