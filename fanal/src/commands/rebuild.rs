//! `fanal rebuild`: days made anew from the raw archive.

use clap::Args;
use fanal_etl::rebuild::{Difference, Report};

use super::Installation;
use crate::client;
use crate::exit::Ending;
use crate::node::{REBUILD_PATH, RebuildOrder, RebuildOutcome};
use crate::output::{Output, Progress, table};
use crate::session::{Remote, Session};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// One site.
    #[arg(long, value_name = "S", required_unless_present = "all", conflicts_with = "all")]
    site: Option<String>,
    /// All sites.
    #[arg(long)]
    all: bool,
    /// First day, in UTC, such as 2026-10-01.
    #[arg(long, value_name = "DAY")]
    from: String,
    /// Last day, included.
    #[arg(long, value_name = "DAY")]
    to: String,
    /// Print the differences and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let order = RebuildOrder {
        site: arguments.site.clone(),
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        dry_run: arguments.dry_run,
    };
    order.request().map_err(|error| Ending::WrongUse(error.to_string()))?;
    let _logs = super::quiet_logs()?;
    let config = arguments.installation.config()?;
    super::runtime()?.block_on(async {
        let session = Session::open(config).await?;
        let mut progress = output.progress();
        let report = match &session {
            Session::Remote(remote) => ask(remote, &order, &mut progress).await,
            Session::Local(local) => {
                order.run(&local.parts.etl, &mut |step| show_step(&mut progress, &step)).await
            }
        };
        drop(progress);
        session.close().await;
        let report = report?;
        output.result(&describe(&report, arguments.dry_run), &report);
        Ok(())
    })
}

async fn ask(remote: &Remote, order: &RebuildOrder, progress: &mut Progress) -> anyhow::Result<Report> {
    let mut line = Vec::new();
    let mut last = None;
    let mut each = |bytes: &[u8]| {
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            if let Ok(outcome) = serde_json::from_slice::<RebuildOutcome>(&line) {
                show_step(progress, &outcome);
                last = Some(outcome);
            }
            line.clear();
        }
    };
    let body = serde_json::to_vec(order)?;
    client::send_long(&remote.admin()?, REBUILD_PATH, Some(&remote.token), body, &mut each)
        .await?
        .success("the rebuild")?;
    match last {
        Some(RebuildOutcome::Done(report)) => Ok(report),
        Some(RebuildOutcome::Failed(reason)) => anyhow::bail!(reason),
        _ => anyhow::bail!("the process ended before the rebuild did; run it again, nothing is lost"),
    }
}

fn show_step(progress: &mut Progress, outcome: &RebuildOutcome) {
    if let RebuildOutcome::Step { files_done, files, shard, shards } = outcome {
        progress.show(|| format!("shard {} of {shards}: file {files_done} of {files}", shard + 1));
    }
}

fn describe(report: &Report, is_dry_run: bool) -> String {
    let row = |name: &str, rows: Difference| {
        let counts = [rows.added, rows.changed, rows.gone, rows.same];
        [name.to_owned()].into_iter().chain(counts.iter().map(u64::to_string)).collect::<Vec<_>>()
    };
    let header = if is_dry_run {
        ["table", "would be added", "would change", "would go", "same"]
    } else {
        ["table", "added", "changed", "gone", "same"]
    };
    let mut text = table(
        &header,
        &[row("events", report.events), row("visits", report.visits), row("duplicates", report.duplicates)],
    );
    text.push_str(&format!("\n{} beacons read from the archive", report.beacons_read));
    if report.unreadable > 0 {
        text.push_str(&format!("; {} of them today's rules cannot read", report.unreadable));
    }
    if report.unsure_visitors > 0 {
        text.push_str(&format!(
            "\n{} visitors are active without a pause since 31 days before the range: their first visit may begin too early",
            report.unsure_visitors
        ));
    }
    text
}
