//! What several commands take from a configuration in the same way.

use std::path::{Path, PathBuf};

use fanal_parser::Limits;
use fanal_service::secret::Secret;

use super::{Config, EventLogKind};

impl Config {
    /// Whether a process of this configuration runs the embedded ClickHouse: a collector
    /// that only writes to Kafka has no use for tables.
    pub(crate) fn embeds_tables(&self) -> bool {
        let uses_tables =
            self.event_log.kind == EventLogKind::Embedded || self.etl.is_some() || self.admin.is_some();
        self.clickhouse.url.is_none() && uses_tables
    }

    /// Bounds of lines: those of the collector, where one is configured.
    pub(crate) fn line_limits(&self, host_name: &str) -> anyhow::Result<Limits> {
        Ok(match &self.ingest {
            Some(ingest) => ingest.resolve(host_name)?.lines,
            None => Limits::default(),
        })
    }

    /// The file with the key for hashes of client addresses.
    pub(crate) fn address_key_file(&self) -> PathBuf {
        let named = self.ingest.as_ref().map(|ingest| ingest.address_key_file.clone());
        named.unwrap_or_else(|| self.path("address.key"))
    }
}

/// The password in a file, if one is named.
pub(crate) fn password(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let secret = file.map(Secret::load).transpose()?;
    Ok(secret.map(|secret| secret.reveal().to_owned()))
}
