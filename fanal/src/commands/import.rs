//! `fanal import`: nginx access logs into the event log.

use anyhow::Context;
use clap::Args;
use fanal_ingest::AddressKey;
use fanal_ingest::import::{
    ImportOptions, ImportTarget, Importer, Input, KafkaTarget, LocalTarget, Progress, RemoteTarget, Report,
};
use fanal_kafka::Kafka;
use fanal_model::ByteSize;
use fanal_parser::log_format::LogFormat;
use fanal_storage::log::wall_clock;
use serde_json::json;

use super::Installation;
use crate::config::{Config, EventLogKind};
use crate::exit::Ending;
use crate::node::{host_name, open_catalogue};
use crate::output::{Output, table};
use crate::session::Session;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// Format of the lines: a `log_format` of nginx.conf as it stands there, `fanal`, `combined` or `main`.
    #[arg(long, value_name = "FORMAT", default_value = "fanal")]
    log_format: String,
    /// Name of the node that wrote the logs; the host name by default.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Access logs: plain, .gz, .zst, or `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let format = log_format(&arguments.log_format)?;
    check_files(&arguments.files)?;
    let _logs = super::quiet_logs()?;
    let config = arguments.installation.config()?;
    super::runtime()?.block_on(import(config, format, arguments, output))
}

/// Compiles `--log-format`. One that cannot be read back is wrong use.
pub(super) fn log_format(text: &str) -> anyhow::Result<LogFormat> {
    let refused = |error| Ending::WrongUse(format!("--log-format: {error}"));
    Ok(LogFormat::compile(text).map_err(refused)?)
}

/// A wrong name is said before anything is imported, not after half of it.
fn check_files(files: &[String]) -> anyhow::Result<()> {
    for file in files.iter().filter(|file| *file != "-") {
        std::fs::File::open(file).with_context(|| format!("cannot read {file}; nothing was imported"))?;
    }
    Ok(())
}

async fn import(
    config: Config,
    format: LogFormat,
    arguments: &Arguments,
    output: &Output,
) -> anyhow::Result<()> {
    let (limits, key_file) = (config.line_limits(&host_name())?, config.address_key_file());
    let node = arguments.node.clone().unwrap_or_else(host_name);
    let options = ImportOptions { node, format, limits, ..ImportOptions::default() };
    let key = AddressKey::load_or_create(&key_file)?;
    let report = match config.event_log.kind {
        EventLogKind::Kafka => into_kafka(&config, key, options, arguments, output).await?,
        EventLogKind::Embedded => Box::pin(into_embedded(config, key, options, arguments, output)).await?,
    };
    show(&report, output);
    Ok(())
}

/// Kafka takes imports from everywhere.
async fn into_kafka(
    config: &Config,
    key: AddressKey,
    options: ImportOptions,
    arguments: &Arguments,
    output: &Output,
) -> anyhow::Result<Report> {
    let catalogue = open_catalogue(config).await?;
    let target = KafkaTarget::new(Kafka::connect(config.patient_kafka()).await?);
    let importer = Importer::new(target, catalogue.sites(), key, options, wall_clock());
    let report = read(importer, arguments, output).await;
    catalogue.close().await;
    report
}

async fn into_embedded(
    config: Config,
    key: AddressKey,
    options: ImportOptions,
    arguments: &Arguments,
    output: &Output,
) -> anyhow::Result<Report> {
    let session = Session::open(config.clone()).await?;
    let report = match &session {
        Session::Remote(remote) => {
            // The catalogue takes several processes; the embedded log takes one.
            let catalogue = open_catalogue(&config).await?;
            let target = RemoteTarget::new(remote.admin()?, remote.token.clone());
            let importer = Importer::new(target, catalogue.sites(), key, options, wall_clock());
            let report = read(importer, arguments, output).await;
            catalogue.close().await;
            report
        }
        Session::Local(local) => {
            let imports =
                local.parts.imports.clone().context("the embedded log has no positions; this is a bug")?;
            let sites = local.parts.catalogue.sites();
            let target = LocalTarget { imports };
            read(Importer::new(target, sites, key, options, wall_clock()), arguments, output).await
        }
    };
    session.close().await;
    report
}

async fn read<T: ImportTarget>(
    mut importer: Importer<T>,
    arguments: &Arguments,
    output: &Output,
) -> anyhow::Result<Report> {
    let inputs: Vec<Input> = arguments.files.iter().map(|file| Input::parse(file)).collect();
    let mut progress = output.progress();
    let began = std::time::Instant::now();
    Ok(importer
        .run(&inputs, |at| progress.show(|| progress_line(&at, began.elapsed().as_secs_f64())))
        .await?)
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn progress_line(at: &Progress<'_>, seconds: f64) -> String {
    let rate = at.log_lines as f64 / seconds.max(0.001);
    format!(
        "{}: {} of {} MiB, {} lines, {} beacons, {rate:.0} lines/s",
        at.file,
        at.done_bytes >> 20,
        ByteSize(at.total_bytes).0 >> 20,
        at.log_lines,
        at.accepted
    )
}

fn show(report: &Report, output: &Output) {
    let mut rows = Vec::new();
    let mut files = Vec::new();
    let mut hints = Vec::new();
    for file in &report.files {
        let mut add = |outcome: &str, count: u64| {
            if count > 0 {
                rows.push(vec![file.file.clone(), outcome.to_owned(), count.to_string()]);
            }
        };
        add("log lines read", file.log_lines);
        add("already imported log lines", file.already_imported);
        add("accepted", file.accepted);
        for (reason, count) in &file.rejected {
            add(&format!("rejected: {reason}"), *count);
        }
        for (reason, count) in &file.ignored {
            add(&format!("ignored: {reason}"), *count);
        }
        if file.unfinished_line {
            hints.push(format!("{}: the last line has no end yet; run again when it has", file.file));
        }
        for (site, lines) in &file.unknown_sites {
            hints.push(format!(
                "{}: site `{site}` is not in the catalogue ({lines} lines are in the dead letters); create it with PUT /api/v1/sites/{site}",
                file.file
            ));
        }
        files.push(json!({
            "file": file.file, "log_lines": file.log_lines, "already_imported": file.already_imported,
            "accepted": file.accepted, "rejected": file.rejected, "ignored": file.ignored,
            "unfinished_line": file.unfinished_line, "unknown_sites": file.unknown_sites,
        }));
    }
    let mut text = table(&["file", "outcome", "count"], &rows);
    for hint in hints {
        text.push('\n');
        text.push_str(&hint);
    }
    let value = json!({
        "accepted": report.accepted(), "rejected": report.rejected(),
        "already_imported": report.already_imported(), "files": files,
    });
    output.result(&text, &value);
}
