//! The work of the commands, on a running process or without one.

use std::time::Duration;

use fanal_ingest::AddressKey;
use fanal_ingest::import::RemoteTarget;
use fanal_ingest::replay::{
    DeadLetterStore, LetterFilter, Listed, ListedLetter, LogTarget, ReplayOptions, ReplayProgress,
    ReplayReport, Replayer,
};
use fanal_kafka::Kafka;
use fanal_storage::catalogue::SiteDirectory;
use fanal_storage::log::wall_clock;

use crate::config::{Config, EventLogKind};
use crate::node::{archive_store, host_name, open_catalogue};
use crate::output::{Output, Progress, table};
use crate::session::Session;

/// How long the latest records are waited for on their way into the archive.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(10);
/// Characters of a sample that a table shows.
const SAMPLE_CHARS: usize = 60;

pub(super) async fn list(
    config: Config,
    filter: &LetterFilter,
    limit: u64,
    output: &Output,
) -> anyhow::Result<()> {
    let (store, session) = (store(&config)?, Session::open(config.clone()).await?);
    let listed = async {
        freshen(&session).await?;
        Ok::<_, anyhow::Error>(store.list(filter, usize::try_from(limit).unwrap_or(usize::MAX)).await?)
    }
    .await;
    session.close().await;
    show_list(&listed?, output);
    Ok(())
}

pub(super) async fn replay(
    config: Config,
    filter: &LetterFilter,
    limit: u64,
    output: &Output,
) -> anyhow::Result<()> {
    let (limits, key_file) = (config.line_limits(&host_name())?, config.address_key_file());
    let (store, session) = (store(&config)?, Session::open(config.clone()).await?);
    let key = AddressKey::load_or_create(&key_file)?;
    let options = |sites: SiteDirectory| ReplayOptions { sites, key, limits };
    let mut progress = output.progress();
    let replayed = async {
        freshen(&session).await?;
        let catalogue = open_catalogue(&config).await?;
        let options = options(catalogue.sites());
        let mut shown = |at: ReplayProgress| show(&mut progress, &at);
        let now_ms = wall_clock()();
        let report = match (&session, config.event_log.kind) {
            // Kafka takes records from everywhere.
            (_, EventLogKind::Kafka) => {
                let kafka = Kafka::connect(config.patient_kafka()).await?;
                let target = LogTarget::new(kafka.log());
                Replayer::new(store, target, now_ms).replay(filter, limit, options, &mut shown).await
            }
            (Session::Remote(remote), EventLogKind::Embedded) => {
                let target = RemoteTarget::new(remote.admin()?, remote.token.clone());
                Replayer::new(store, target, now_ms).replay(filter, limit, options, &mut shown).await
            }
            (Session::Local(local), EventLogKind::Embedded) => {
                let target = LogTarget::new(local.parts.writer());
                Replayer::new(store, target, now_ms).replay(filter, limit, options, &mut shown).await
            }
        };
        catalogue.close().await;
        Ok::<_, anyhow::Error>(report?)
    }
    .await;
    drop(progress);
    session.close().await;
    let report = replayed?;
    output.result(&describe_replay(&report), &report);
    Ok(())
}

pub(super) async fn drop_letters(
    config: Config,
    filter: &LetterFilter,
    limit: u64,
    output: &Output,
) -> anyhow::Result<()> {
    let (store, session) = (store(&config)?, Session::open(config).await?);
    let mut progress = output.progress();
    let dropped = async {
        freshen(&session).await?;
        Ok::<_, anyhow::Error>(
            store.drop_letters(filter, limit, wall_clock()(), |at| show(&mut progress, &at)).await?,
        )
    }
    .await;
    drop(progress);
    session.close().await;
    let report = dropped?;
    output.result(&format!("{} dead letters dropped; the archive keeps them", report.handled), &report);
    Ok(())
}

/// The archive's store.
fn store(config: &Config) -> anyhow::Result<DeadLetterStore> {
    Ok(DeadLetterStore::new(archive_store(config)?))
}

/// Ends the archive's files and waits for them, so that the latest letters are seen.
async fn freshen(session: &Session) -> anyhow::Result<()> {
    match tokio::time::timeout(ARCHIVED_WITHIN, session.archive_all()).await {
        Ok(archived) => archived,
        Err(_) => {
            tracing::warn!("the archive does not come on; letters of the last minutes may be missing");
            Ok(())
        }
    }
}

fn show(progress: &mut Progress, at: &ReplayProgress) {
    let ReplayProgress { files_done, files, letters, handled } = *at;
    progress.show(|| format!("file {files_done} of {files}: {letters} dead letters read, {handled} done"));
}

fn show_list(listed: &Listed, output: &Output) {
    if output.is_json() {
        for letter in &listed.letters {
            output.result("", letter);
        }
        return;
    }
    if listed.letters.is_empty() {
        output.say("no dead letters");
        return;
    }
    let rows: Vec<Vec<String>> = listed.letters.iter().map(row).collect();
    let mut text = table(&["id", "received (UTC)", "site", "reason", "bytes", "begins with"], &rows);
    if listed.is_cut {
        text.push_str("\nolder ones are not shown; --limit shows more");
    }
    output.say(&text);
}

fn row(letter: &ListedLetter) -> Vec<String> {
    let mut sample: String = letter.sample.chars().take(SAMPLE_CHARS).collect();
    if sample.len() < letter.sample.len() || letter.sample.len() < letter.bytes {
        sample.push('…');
    }
    vec![
        letter.id.clone(),
        utc(letter.received_at_ms),
        letter.site.clone(),
        letter.reason.clone(),
        letter.bytes.to_string(),
        sample,
    ]
}

/// Such as `2026-10-01 12:34:56`.
fn utc(at_ms: u64) -> String {
    let day = fanal_etl::day::Day::of_ms(at_ms);
    let seconds = (at_ms - day.start_ms().min(at_ms)) / 1000;
    format!("{day} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn describe_replay(report: &ReplayReport) -> String {
    let mut rows = vec![
        vec!["dead letters read".to_owned(), report.letters.to_string()],
        vec!["done with".to_owned(), report.handled.to_string()],
        vec!["lines accepted".to_owned(), report.accepted.to_string()],
    ];
    if report.rejected_lines > 0 {
        rows.push(vec!["lines of these still rejected".to_owned(), report.rejected_lines.to_string()]);
    }
    for (reason, count) in &report.still_rejected {
        rows.push(vec![format!("still rejected: {reason}"), count.to_string()]);
    }
    let mut text = table(&["outcome", "count"], &rows);
    if report.accepted > 0 {
        text.push_str(
            "\nevents and visits of their days follow by themselves; `fanal reconcile` counts them",
        );
    }
    text
}
