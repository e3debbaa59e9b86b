//! The way of one test event, stage by stage.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use fanal_etl::Offsets;
use fanal_model::{Beacon, SiteCode, Source, record_key};
use fanal_service::secret::Secret;
use fanal_storage::catalogue::Site;
use fanal_storage::log::{Batch, EventLog, Family, Partition, Topic};
use http::Method;

use super::Finding;
use crate::client;
use crate::config::Config;
use crate::node::Stages;
use crate::session::{Local, Remote, Session};

/// The site of test events; its rows may be looked at and never count as traffic.
const SITE: &str = "fanal-doctor";
/// A stage that takes longer is stuck.
const STAGE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

pub(super) async fn walk(session: &Session, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let nonce = match Secret::random() {
        Ok(secret) => {
            secret.reveal().chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>()
        }
        Err(error) => return vec![Finding::bad("test event", error.to_string())],
    };
    let sent = match session {
        Session::Remote(remote) => through_http(remote, &nonce).await,
        Session::Local(local) => into_log(local, &nonce).await,
    };
    match sent {
        Ok(detail) => findings.push(Finding::good("test event accepted", detail)),
        Err(error) => {
            findings.push(Finding::bad("test event accepted", format!("stopped here: {error:#}")));
            return findings;
        }
    }
    let end = match stages(session).await {
        Ok(stages) => stages.log_end,
        Err(error) => {
            findings.push(Finding::bad("event log", format!("stopped here: {error:#}")));
            return findings;
        }
    };
    findings.push(Finding::good("event log", format!("durable, {}", shown(&end))));
    if let Err(error) = ask_for_seal(session).await {
        findings.push(Finding::bad("archive", format!("stopped here: {error:#}")));
        return findings;
    }
    type Way = (&'static str, fn(Stages) -> Offsets);
    let ways: [Way; 3] = [("archive", |s| s.archived), ("ledger", |s| s.counted), ("visits", |s| s.visited)];
    for (name, offsets) in ways {
        // Dead letters are no part of any visit.
        let concerned = |p: &Partition| name != "visits" || p.family() != Family::Dead;
        let end: Offsets = end.iter().filter(|(p, _)| concerned(p)).map(|(p, at)| (*p, *at)).collect();
        match wait_for(session, &end, offsets).await {
            Ok(()) => findings.push(Finding::good(name, format!("holds everything, {}", shown(&end)))),
            Err(error) => {
                findings.push(Finding::bad(
                    name,
                    format!("stopped here: {error:#}; /health/ready names the reason"),
                ));
                return findings;
            }
        }
    }
    findings.push(match visible(session, config, &nonce).await {
        Ok(()) => Finding::good("tables", "the test event and its visit are visible"),
        Err(error) => Finding::bad("tables", format!("stopped here: {error:#}")),
    });
    findings
}

fn line(nonce: &str) -> String {
    format!("eventType=activity&nonce={nonce}&visitorCode=doctor-{nonce}")
}

async fn through_http(remote: &Remote, nonce: &str) -> anyhow::Result<String> {
    let path = format!("/api/v1/sites/{SITE}");
    let body = r#"{"name": "Test events of fanal doctor"}"#;
    client::send(&remote.admin()?, Method::PUT, &path, Some(&remote.token), body)
        .await?
        .success("the test site")?;
    let http = remote.addresses.http.context("the running process has no collector")?.to_string();
    let path = format!("/visit/events?siteCode={SITE}");
    let answer =
        client::send(&http, Method::POST, &path, None, line(nonce)).await?.success("the test event")?;
    Ok(format!("{} from http://{http}{path}", answer.status))
}

async fn into_log(local: &Local, nonce: &str) -> anyhow::Result<String> {
    local.parts.catalogue.put_site(&Site::new(SiteCode::parse(SITE)?)).await?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let (line, visitor) = (line(nonce), format!("doctor-{nonce}"));
    let beacon = Beacon {
        received_at_ms: now_ms,
        site_code: SITE,
        visitor_code: &visitor,
        source: Source::Http,
        node: "doctor",
        line: line.as_bytes(),
        visitor_lines: 1,
        ..Beacon::default()
    };
    let mut key = Vec::new();
    record_key(&mut key, SITE, &visitor);
    let mut batch = Batch::new();
    batch.push(Topic::Beacons, &key, |out| beacon.encode(out))?;
    batch.receipt(now_ms / 60_000 * 60_000, SITE, 1, 1, 0);
    let appended = local.parts.writer().append(batch).await?;
    Ok(format!("written to the event log at offset {}; no collector runs", appended.base_offset))
}

async fn stages(session: &Session) -> anyhow::Result<Stages> {
    match session {
        Session::Local(local) => Ok(Stages::of(&local.parts.etl).await?),
        Session::Remote(remote) => remote.stages().await,
    }
}

async fn ask_for_seal(session: &Session) -> anyhow::Result<()> {
    match session {
        Session::Local(local) => {
            let etl = &local.parts.etl;
            etl.seal(&etl.log.ends().await?).await?;
        }
        Session::Remote(remote) => {
            let path = fanal_ingest::import::ImportEndpoint::SEAL_PATH;
            client::send(&remote.admin()?, Method::POST, path, Some(&remote.token), "")
                .await?
                .success("the seal")?;
        }
    }
    Ok(())
}

async fn wait_for(session: &Session, end: &Offsets, offsets: fn(Stages) -> Offsets) -> anyhow::Result<()> {
    let began = tokio::time::Instant::now();
    loop {
        let at = offsets(stages(session).await?);
        let behind = end.iter().find(|(partition, end)| at.get(partition).is_none_or(|at| at < *end));
        let Some((partition, end)) = behind else { return Ok(()) };
        if began.elapsed() >= STAGE_TIMEOUT {
            let at = at.get(partition).copied().unwrap_or(0);
            let waited = STAGE_TIMEOUT.as_secs();
            anyhow::bail!("at offset {at} of {end} in partition {partition} after {waited} s");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn shown(ends: &Offsets) -> String {
    match ends.len() {
        1 => format!("below offset {}", ends.values().sum::<u64>()),
        partitions => format!("{partitions} partitions"),
    }
}

async fn visible(session: &Session, config: &Config, nonce: &str) -> anyhow::Result<()> {
    let clickhouse = session.clickhouse(config)?;
    for view in ["events", "visits"] {
        let sql = format!(
            "SELECT count() FROM {view} WHERE site_code = '{SITE}' AND visitor_code = 'doctor-{nonce}'"
        );
        let count: u64 = clickhouse.fetch_one("look for the test event", &sql).await?;
        anyhow::ensure!(count == 1, "`{view}` has it {count} times");
    }
    Ok(())
}
