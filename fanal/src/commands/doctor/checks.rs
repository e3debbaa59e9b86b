//! What surrounds the stages: disk, certificates, engine, clock.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fanal_model::ByteSize;
use fanal_service::tls::{CertificateFiles, TlsHandle};
use fanal_storage::clickhouse::ClickHouse;

use super::Finding;
use crate::config::Config;

/// Below this the event log may fill the disk before anybody has looked.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Clocks further apart than this put events into the wrong minute.
const CLOCK_MS_MAX: i64 = 2_000;

/// What can be looked at without opening anything.
pub(super) fn surroundings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::good("version", env!("CARGO_PKG_VERSION")), disk(&config.data_dir)];
    if config.clickhouse.url.is_none() {
        findings.push(match fanal_clickhouse_embedded::find_library() {
            Ok(path) => Finding::good("libchdb", path.display().to_string()),
            Err(error) => Finding::bad("libchdb", error.to_string()),
        });
    }
    let ingest = config.ingest.as_ref().and_then(|ingest| ingest.tls.as_ref());
    let sse = config.delivery.as_ref().and_then(|delivery| delivery.sse_tls.as_ref());
    if let Some(tls) = ingest {
        findings.push(certificate("certificate of ingest", &CertificateFiles::from(tls)));
    }
    if let Some(tls) = sse {
        findings.push(certificate("certificate of sse", &CertificateFiles::from(tls)));
    }
    findings
}

fn disk(dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Err(error) => Finding::bad("disk", format!("{}: {error}", dir.display())),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{} free at {}", ByteSize(free >> 20 << 20), dir.display());
            if free >= FREE_BYTES_MIN {
                Finding::good("disk", text)
            } else {
                Finding::bad("disk", format!("{text}; free space or move the data folder"))
            }
        }
    }
}

fn certificate(what: &'static str, files: &CertificateFiles) -> Finding {
    match TlsHandle::load(files) {
        Ok(_) => Finding::good(what, files.certificate.display().to_string()),
        Err(error) => Finding::bad(what, error.to_string()),
    }
}

/// The engine's version and clock.
pub(super) async fn tables(clickhouse: anyhow::Result<ClickHouse>) -> Vec<Finding> {
    let asked = async {
        let clickhouse = clickhouse?;
        let version: String = clickhouse.fetch_one("say its version", "SELECT version()").await?;
        let now_ms: i64 =
            clickhouse.fetch_one("say the time", "SELECT toUnixTimestamp64Milli(now64(3))").await?;
        let migration: u32 = clickhouse
            .fetch_one("say its schema version", "SELECT max(version) FROM schema_migrations")
            .await?;
        anyhow::Ok((version, now_ms, migration))
    };
    match asked.await {
        Err(error) => vec![Finding::bad("ClickHouse", format!("{error:#}"))],
        Ok((version, now_ms, migration)) => {
            let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let apart = i64::try_from(here).unwrap_or(i64::MAX).saturating_sub(now_ms).abs();
            let clock = if apart <= CLOCK_MS_MAX {
                Finding::good("clock", format!("{apart} ms from the clock of ClickHouse"))
            } else {
                Finding::bad(
                    "clock",
                    format!("{apart} ms from the clock of ClickHouse; set up NTP on both machines"),
                )
            };
            vec![Finding::good("ClickHouse", format!("version {version}, schema {migration}")), clock]
        }
    }
}
