//! `fanal doctor`: one test event through every stage, and what surrounds them.

mod checks;
mod servers;
mod spool;
mod walk;

use clap::Args;
use fanal_storage::log;
use serde::Serialize;
use serde_json::json;

use super::Installation;
use crate::config::{Config, EventLogKind};
use crate::exit::Ending;
use crate::output::{Output, table};
use crate::session::Session;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// Save damaged bytes of the event log, or of the spool before Kafka, to its folder `quarantine` and keep
    /// every whole record.
    #[arg(long)]
    repair_log: bool,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) is_good: bool,
    /// Good, but somebody should look.
    pub(crate) is_warning: bool,
    pub(crate) detail: String,
}

impl Finding {
    pub(crate) fn good(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, is_good: true, is_warning: false, detail: detail.into() }
    }

    pub(crate) fn bad(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, is_good: false, is_warning: false, detail: detail.into() }
    }

    pub(crate) fn warning(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, is_good: true, is_warning: true, detail: detail.into() }
    }

    fn verdict(&self) -> &'static str {
        match (self.is_good, self.is_warning) {
            (false, _) => "BAD",
            (true, true) => "WARN",
            (true, false) => "good",
        }
    }
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let _logs = super::quiet_logs()?;
    let config = arguments.installation.config()?;
    if arguments.repair_log {
        return repair(&config, output);
    }
    let findings = super::runtime()?.block_on(examine(config));
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|finding| vec![finding.what.to_owned(), finding.verdict().to_owned(), finding.detail.clone()])
        .collect();
    let is_healthy = findings.iter().all(|finding| finding.is_good);
    output.result(
        &table(&["what", "", "detail"], &rows),
        &json!({"healthy": is_healthy, "findings": findings}),
    );
    if is_healthy { Ok(()) } else { Err(Ending::Negative.into()) }
}

async fn examine(config: Config) -> Vec<Finding> {
    let mut findings = checks::surroundings(&config);
    findings.extend(Box::pin(servers::servers(&config)).await);
    let session = match Session::open(config.clone()).await {
        Ok(session) => session,
        Err(error) => {
            findings.push(Finding::bad("parts", format!("{error:#}")));
            return findings;
        }
    };
    findings.push(match &session {
        Session::Remote(remote) => {
            Finding::good("process", format!("process {} answers", remote.addresses.pid))
        }
        Session::Local(_) => Finding::good("process", "none runs; this command opened the parts itself"),
    });
    if let Session::Remote(remote) = &session {
        findings.extend(servers::readiness(remote).await);
    }
    if config.clickhouse.url.is_none() {
        findings.extend(checks::tables(session.clickhouse(&config)).await);
    }
    findings.extend(walk::walk(&session, &config).await);
    session.close().await;
    findings
}

fn repair(config: &Config, output: &Output) -> anyhow::Result<()> {
    // On Kafka the only log of this machine is the spool.
    let dir = match config.event_log.kind {
        EventLogKind::Embedded => config.path("log"),
        EventLogKind::Kafka => config.spool.resolve(&config.data_dir)?.dir,
    };
    let report = log::repair(&dir)?;
    let rows: Vec<Vec<String>> = report
        .regions
        .iter()
        .map(|region| {
            vec![
                region.segment.display().to_string(),
                region.position.to_string(),
                region.bytes.to_string(),
                region.kept_records.to_string(),
                region.lost_records.to_string(),
                format!("{}..{}", region.first_offset, region.next_offset),
                region.quarantine.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
            ]
        })
        .collect();
    let mut text = format!("{} segments checked, {} damaged places", report.checked_segments, rows.len());
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &["segment", "byte", "bytes", "records kept", "records lost", "offsets", "saved to"],
            &rows,
        ));
    }
    let (kept, lost) = (report.kept_records(), report.lost_records());
    output.result(
        &text,
        &json!({
            "checked_segments": report.checked_segments, "damaged": report.regions.len(),
            "kept_records": kept, "lost_records": lost,
        }),
    );
    Ok(())
}
