//! The work of the commands, on a running process or without one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fanal_ingest::AddressKey;
use fanal_ingest::import::{ImportTarget, LocalTarget, RemoteTarget};
use fanal_ingest::replay::{
    DeadLetterStore, LetterFilter, Listed, ListedLetter, LogTarget, ReplayOptions, ReplayProgress,
    ReplayReport, Replayer,
};
use fanal_parser::Limits;
use fanal_storage::catalogue::{Catalogue, SiteDirectory};
use fanal_storage::log::wall_clock;
use object_store::local::LocalFileSystem;

use crate::config::Config;
use crate::node::host_name;
use crate::output::{Output, Progress, table};
use crate::session::Session;

/// How long the latest records are waited for on their way into the archive.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(10);
const ARCHIVED_POLL: Duration = Duration::from_millis(100);
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
        freshen(&session, &store).await?;
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
    let limits = match &config.ingest {
        Some(ingest) => ingest.resolve(&host_name())?.lines,
        None => Limits::default(),
    };
    let key_file = config
        .ingest
        .as_ref()
        .map_or_else(|| config.path("address.key"), |ingest| ingest.address_key_file.clone());
    let catalogue_file = config.path("catalogue.sqlite");
    let (store, session) = (store(&config)?, Session::open(config).await?);
    let key = AddressKey::load_or_create(&key_file)?;
    let options = |sites: SiteDirectory| ReplayOptions { sites, key, limits };
    let mut progress = output.progress();
    let replayed = async {
        freshen(&session, &store).await?;
        match &session {
            Session::Remote(remote) => {
                let catalogue = Catalogue::open(&catalogue_file).await?;
                let target = RemoteTarget::new(remote.admin()?, remote.token.clone());
                let replayer = Replayer::new(store, target, wall_clock()());
                let options = options(catalogue.sites());
                let report = replayer.replay(filter, limit, options, |at| show(&mut progress, &at)).await;
                catalogue.close().await;
                Ok::<_, anyhow::Error>(report?)
            }
            Session::Local(local) => {
                let target = LogTarget::new(local.parts.log.appender());
                let replayer = Replayer::new(store, target, wall_clock()());
                let options = options(local.parts.catalogue.sites());
                Ok(replayer.replay(filter, limit, options, |at| show(&mut progress, &at)).await?)
            }
        }
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
        freshen(&session, &store).await?;
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

/// The archive's store. Unlike what writes the archive, this removes nothing that looks
/// left over: a running process may be writing it now.
fn store(config: &Config) -> anyhow::Result<DeadLetterStore> {
    let dir = config.path("archive");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(DeadLetterStore::new(Arc::new(LocalFileSystem::new_with_prefix(&dir)?.with_fsync(true))))
}

/// Ends the archive's file and waits for it, so that the latest letters are seen.
async fn freshen(session: &Session, store: &DeadLetterStore) -> anyhow::Result<()> {
    let before = store.ends().await?;
    match session {
        Session::Remote(remote) => RemoteTarget::new(remote.admin()?, remote.token.clone()).seal().await?,
        Session::Local(local) => LocalTarget { imports: local.parts.imports.clone() }.seal().await?,
    }
    let waiting = async {
        loop {
            let now = store.ends().await?;
            let moved = before.iter().all(|(partition, end)| {
                now.iter().any(|(other, reached)| other == partition && reached > end)
            });
            if moved && !now.is_empty() {
                return Ok::<_, anyhow::Error>(());
            }
            tokio::time::sleep(ARCHIVED_POLL).await;
        }
    };
    match tokio::time::timeout(ARCHIVED_WITHIN, waiting).await {
        Ok(waited) => waited,
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
