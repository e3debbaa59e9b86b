//! The configuration of a whole installation, as typed, with its defaults.
//!
//! The doc comments and `reference.toml` are the manual; a test holds them
//! together. Unknown keys are refused by name.

mod defaults;
mod dev;
mod folder;
mod http;
mod install;
mod rules;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fanal_etl::EtlConfig;
use fanal_hdfs::HdfsConfig;
use fanal_ingest::IngestConfig;
use fanal_ingest::spool::SpoolConfig;
use fanal_kafka::KafkaConfig;
use fanal_model::{ByteSize, HumanDuration};
use fanal_profiles::ProfilesConfig;
use fanal_service::config::{ListenAddress, TlsSection, byte_size, human_duration};
use fanal_service::logs::LogFormat;
use fanal_storage::archive::Rotation;
use fanal_storage::catalogue::CatalogueConfig;
use fanal_storage::clickhouse::{ClickHouseConfig, ClickHouseError, ClusterConfig};
use fanal_storage::log::LogConfig;
use serde::{Deserialize, Serialize};

use crate::exit::Ending;
pub(crate) use http::HttpSection;
pub(crate) use install::password;

/// Every key, with its default and meaning.
pub(crate) const REFERENCE: &str = include_str!("reference.toml");

/// The file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Folder of everything embedded: event log, archive, catalogue, tables, keys.
    pub(crate) data_dir: PathBuf,
    /// After SIGTERM: the longest that requests, flushes and commits may take.
    #[serde(default = "defaults::drain_timeout", with = "human_duration")]
    pub(crate) drain_timeout: HumanDuration,
    #[serde(default)]
    pub(crate) logs: LogsSection,
    #[serde(default)]
    pub(crate) event_log: EventLogSection,
    #[serde(default)]
    pub(crate) archive: ArchiveSection,
    #[serde(default)]
    pub(crate) clickhouse: ClickHouseSection,
    /// Visitors as delivery reads them.
    #[serde(default)]
    pub(crate) profiles: ProfilesConfig,
    /// Sites, SDK configurations, token clients.
    #[serde(default)]
    pub(crate) catalogue: CatalogueConfig,
    /// Where requests go while Kafka does not confirm them.
    #[serde(default)]
    pub(crate) spool: SpoolConfig,
    /// The listeners of data.
    #[serde(default)]
    pub(crate) http: HttpSection,
    /// The collector; without this section the role does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ingest: Option<IngestConfig>,
    /// Archive, visits and rebuild; without this section the role does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etl: Option<EtlSection>,
    /// What goes out to browsers and SDKs, on the collector's listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<DeliverySection>,
    /// The admin API; without this section the role does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<AdminSection>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogsSection {
    /// `auto` (human on a terminal, else JSON), `human`, `json`.
    pub(crate) format: LogFormat,
    /// A level, or levels by part, as in `RUST_LOG`.
    pub(crate) filter: String,
}

/// Which log holds the beacons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventLogKind {
    #[default]
    Embedded,
    Kafka,
}

/// Where the raw archive lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ArchiveStore {
    #[default]
    Local,
    Hdfs,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EventLogSection {
    /// `embedded`: files of the data folder; `kafka`.
    pub(crate) kind: EventLogKind,
    pub(crate) kafka: KafkaConfig,
    #[serde(with = "byte_size")]
    pub(crate) segment_bytes: ByteSize,
    #[serde(with = "human_duration")]
    pub(crate) retention: HumanDuration,
    #[serde(with = "byte_size")]
    pub(crate) commit_bytes_max: ByteSize,
    #[serde(with = "byte_size")]
    pub(crate) queue_bytes_max: ByteSize,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ArchiveSection {
    /// `local`: a folder of the data folder; `hdfs`.
    pub(crate) store: ArchiveStore,
    pub(crate) hdfs: HdfsConfig,
    #[serde(with = "human_duration")]
    pub(crate) bucket: HumanDuration,
    pub(crate) records_max: u64,
    #[serde(with = "byte_size")]
    pub(crate) bytes_max: ByteSize,
    #[serde(with = "human_duration")]
    pub(crate) seal_after: HumanDuration,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClickHouseSection {
    /// Where the embedded engine answers the ClickHouse HTTP interface.
    pub(crate) listen: ListenAddress,
    /// A ClickHouse server to use in place of the embedded engine, such as `http://ch-1:8123`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    pub(crate) database: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// File (mode 0600) with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted beside those of the system, for `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// The server is one of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<ClusterConfig>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EtlSection {
    #[serde(with = "human_duration")]
    pub(crate) allowed_lateness: HumanDuration,
    #[serde(with = "human_duration")]
    pub(crate) dedupe_horizon: HumanDuration,
    #[serde(with = "human_duration")]
    pub(crate) flush_interval: HumanDuration,
    pub(crate) flush_records_max: u32,
    #[serde(with = "human_duration")]
    pub(crate) checkpoint_interval: HumanDuration,
    #[serde(with = "human_duration")]
    pub(crate) rebuild_quiet: HumanDuration,
    #[serde(with = "human_duration")]
    pub(crate) rebuild_wait_max: HumanDuration,
    pub(crate) rebuild_events_max: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliverySection {
    /// Where the real-time stream is answered; SDKs use port 8110.
    pub(crate) sse_listen: ListenAddress,
    /// Its certificate; SDKs speak TLS to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sse_tls: Option<TlsSection>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminSection {
    pub(crate) listen: ListenAddress,
    /// File (mode 0600) with the admin token; made if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

impl Config {
    /// Reads and checks a file; touches no network.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let bad = |text: String| Ending::BadConfiguration(text);
        let mut config: Self = fanal_service::config::read(file).map_err(|error| bad(error.to_string()))?;
        config.data_dir = absolute(&config.data_dir);
        config.check().map_err(|problem| bad(format!("{}: {problem}", file.display())))?;
        Ok(config)
    }

    /// The configuration of `fanal dev` on this folder, with the default addresses.
    pub(crate) fn dev(data_dir: &Path) -> Self {
        dev::config(&absolute(data_dir))
    }

    /// What the types alone cannot check.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.role_names().is_empty() {
            return Err("it enables no role; add [ingest], [etl], [delivery] or [admin]".to_owned());
        }
        if self.delivery.is_some() && self.ingest.is_none() {
            return Err("[delivery] answers on the listeners of [ingest]; add that section".to_owned());
        }
        if let Some(ingest) = &self.ingest {
            ingest.resolve("host").map_err(|problem| problem.to_string())?;
            if ingest.request_bytes_max > self.event_log.commit_bytes_max {
                return Err("ingest.request_bytes_max is larger than event_log.commit_bytes_max".to_owned());
            }
        }
        self.http.check()?;
        self.check_servers()?;
        let clickhouse = &self.clickhouse;
        if clickhouse.url.is_none()
            && clickhouse.password_file.is_none()
            && !clickhouse.listen.0.ip().is_loopback()
        {
            return Err(format!(
                "clickhouse.listen {} can be reached from other machines and has no password; \
                 name a clickhouse.password_file, or listen on 127.0.0.1",
                clickhouse.listen
            ));
        }
        if let Some(tls) = self.delivery.as_ref().and_then(|delivery| delivery.sse_tls.as_ref())
            && tls.certificate == tls.key
        {
            return Err("delivery.sse_tls: certificate and key are the same file".to_owned());
        }
        Ok(())
    }

    /// The ClickHouse server at `url`.
    pub(crate) fn clickhouse_config(&self, url: String, password: Option<String>) -> ClickHouseConfig {
        let section = &self.clickhouse;
        ClickHouseConfig {
            url,
            database: section.database.clone(),
            user: section.user.clone(),
            password,
            tls_ca_file: section.tls_ca_file.clone(),
            cluster: section.cluster.clone(),
        }
    }

    /// The sections of servers that are used.
    fn check_servers(&self) -> Result<(), String> {
        if self.event_log.kind == EventLogKind::Kafka {
            let kafka = &self.event_log.kafka;
            kafka.check().map_err(|problem| format!("event_log.kafka: {problem}"))?;
            let spool = self.spool.resolve(&self.data_dir).map_err(|problem| problem.to_string())?;
            if spool.drain_timeout < kafka.confirm_timeout.0 {
                return Err("spool.drain_timeout is shorter than event_log.kafka.confirm_timeout".to_owned());
            }
            if let Some(ingest) = &self.ingest
                && ingest.request_bytes_max > kafka.batch_bytes_max
            {
                return Err(
                    "ingest.request_bytes_max is larger than event_log.kafka.batch_bytes_max".to_owned()
                );
            }
        }
        if self.archive.store == ArchiveStore::Hdfs {
            self.archive.hdfs.check().map_err(|problem| format!("archive.hdfs: {problem}"))?;
        }
        let url = self.clickhouse.url.clone().unwrap_or_else(|| "http://127.0.0.1".to_owned());
        self.clickhouse_config(url, None).check().map_err(|problem| match problem {
            ClickHouseError::Config { key, remedy } => format!("clickhouse.{key} {remedy}"),
            other => other.to_string(),
        })?;
        if self.clickhouse.url.is_none() && self.clickhouse.cluster.is_some() {
            return Err(
                "clickhouse.cluster needs clickhouse.url: the embedded engine is no cluster".to_owned()
            );
        }
        self.profiles.check().map_err(|problem| problem.to_string())
    }

    /// Kafka for a command that no request waits for: giving up a batch that is only slow
    /// would end the command.
    pub(crate) fn patient_kafka(&self) -> KafkaConfig {
        let mut kafka = self.event_log.kafka.clone();
        kafka.confirm_timeout = kafka.confirm_timeout.max(defaults::patience());
        kafka
    }

    /// Where `fanal dev` keeps the servers that it was started with, so that the other
    /// commands on its data folder use them too.
    pub(crate) fn servers_file(&self) -> PathBuf {
        self.path("servers.toml")
    }

    /// Takes the servers of a file in place of embedded parts.
    fn on_cluster(&mut self, file: &Path) -> anyhow::Result<()> {
        let bad = |text: String| Ending::BadConfiguration(text);
        let cluster: Cluster = fanal_service::config::read(file).map_err(|error| bad(error.to_string()))?;
        let Cluster { event_log, archive, clickhouse, profiles, catalogue, spool } = cluster;
        let listen = self.clickhouse.listen;
        (self.event_log, self.archive, self.clickhouse) = (event_log, archive, clickhouse);
        (self.profiles, self.catalogue, self.spool) = (profiles, catalogue, spool);
        self.clickhouse.listen = listen;
        Ok(())
    }

    /// The roles that run.
    pub(crate) fn role_names(&self) -> Vec<&'static str> {
        let roles = [
            ("ingest", self.ingest.is_some()),
            ("etl", self.etl.is_some()),
            ("delivery", self.delivery.is_some()),
            ("admin", self.admin.is_some()),
        ];
        roles.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect()
    }

    /// A path in the data folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }

    pub(crate) fn admin_token_file(&self) -> PathBuf {
        let named = self.admin.as_ref().and_then(|admin| admin.token_file.clone());
        named.unwrap_or_else(|| self.path("admin.token"))
    }

    pub(crate) fn log_config(&self) -> LogConfig {
        let section = &self.event_log;
        LogConfig {
            segment_bytes: section.segment_bytes.0,
            retention: section.retention.0,
            commit_bytes_max: usize::try_from(section.commit_bytes_max.0).unwrap_or(usize::MAX),
            queue_bytes_max: usize::try_from(section.queue_bytes_max.0).unwrap_or(usize::MAX),
            ..LogConfig::default()
        }
    }

    pub(crate) fn etl_config(&self) -> EtlConfig {
        let section = self.etl.clone().unwrap_or_default();
        EtlConfig {
            allowed_lateness: section.allowed_lateness.0,
            dedupe_horizon: section.dedupe_horizon.0,
            flush_interval: section.flush_interval.0,
            flush_records_max: section.flush_records_max as usize,
            checkpoint_interval: section.checkpoint_interval.0,
            rotation: Rotation {
                bucket_ms: u64::try_from(self.archive.bucket.0.as_millis()).unwrap_or(u64::MAX),
                records_max: self.archive.records_max,
                bytes_max: self.archive.bytes_max.0,
            },
            seal_after: self.archive.seal_after.0,
            rebuild_quiet: section.rebuild_quiet.0,
            rebuild_wait_max: section.rebuild_wait_max.0,
            rebuild_events_max: section.rebuild_events_max,
            ..EtlConfig::default()
        }
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.drain_timeout.0
    }
}

/// The sections of a configuration that name servers.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Cluster {
    event_log: EventLogSection,
    archive: ArchiveSection,
    clickhouse: ClickHouseSection,
    profiles: ProfilesConfig,
    catalogue: CatalogueConfig,
    spool: SpoolConfig,
}

/// The ClickHouse engine resolves relative paths against its own folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
