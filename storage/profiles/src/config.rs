//! `[profiles]` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Limits;
use crate::error::ProfileError;

/// What Cassandra takes as time to live, in days (20 years).
const RETENTION_DAYS_MAX: u32 = 7300;
/// More visits than any reader asks for, in slots that a read has to pass.
const VISITS_PER_VISITOR_LIMIT: u32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfilesConfig {
    /// Where profiles are: `embedded` (a file in the data folder) or `cassandra`.
    pub store: ProfileStore,
    /// How long a visit is kept from its start, and a link from the last time that it was stated, in days. Cassandra applies a change to what is written from then on.
    pub retention_days: u32,
    /// Visits kept of one visitor; the oldest drop out. SDKs ask for up to 26.
    pub visits_per_visitor_max: u32,
    pub embedded: EmbeddedConfig,
    pub cassandra: CassandraConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileStore {
    #[default]
    Embedded,
    Cassandra,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedConfig {
    /// Memory for pages of the file, in MiB.
    pub cache_mib: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CassandraConfig {
    /// Addresses of some nodes as `host:port`; the others are found through them.
    pub nodes: Vec<String>,
    /// Data centre whose nodes are spoken to, as `nodetool status` names it. Empty: any.
    pub local_datacenter: String,
    /// Keyspace of the tables: lower-case letters, digits and `_`.
    pub keyspace: String,
    /// `network` (NetworkTopologyStrategy, in `local_datacenter`) or `simple` (SimpleStrategy, for one node).
    pub replication: Replication,
    /// Copies of every row, used when the keyspace is created.
    pub replication_factor: u32,
    /// Whether to create the keyspace when it is missing; tables are always created.
    pub create_keyspace: bool,
    /// User name; empty if the cluster asks for none.
    pub user: String,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    pub tls: CassandraTls,
    /// Time to connect and read the cluster's state, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Time for one attempt of a request, in milliseconds.
    pub request_timeout_ms: u64,
    /// Attempts of one request before the batch fails.
    pub attempts_max: u32,
    /// Requests of this process that wait for an answer at a time.
    pub requests_in_flight_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replication {
    #[default]
    Network,
    Simple,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CassandraTls {
    /// Whether connections are encrypted and the nodes' certificates checked.
    pub enabled: bool,
    /// PEM file with the authorities that sign the nodes' certificates. Unset: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this program's certificate chain, where nodes ask for one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the key of `certificate_file`.
    pub key_file: Option<PathBuf>,
}

impl Default for ProfilesConfig {
    fn default() -> Self {
        Self {
            store: ProfileStore::Embedded,
            retention_days: 390,
            visits_per_visitor_max: 50,
            embedded: EmbeddedConfig::default(),
            cassandra: CassandraConfig::default(),
        }
    }
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { cache_mib: 64 }
    }
}

impl Default for CassandraConfig {
    fn default() -> Self {
        Self {
            nodes: vec!["127.0.0.1:9042".to_owned()],
            local_datacenter: String::new(),
            keyspace: "fanal".to_owned(),
            replication: Replication::Network,
            replication_factor: 3,
            create_keyspace: true,
            user: String::new(),
            password_file: None,
            tls: CassandraTls::default(),
            connect_timeout_ms: 5000,
            request_timeout_ms: 5000,
            attempts_max: 3,
            requests_in_flight_max: 128,
        }
    }
}

impl ProfilesConfig {
    /// Refuses what cannot work, before anything is opened.
    pub fn check(&self) -> Result<(), ProfileError> {
        let within = |key, value: u32, max: u32| match (1..=max).contains(&value) {
            true => Ok(()),
            false => Err(problem(key, format!("{value} is not between 1 and {max}"))),
        };
        within("retention_days", self.retention_days, RETENTION_DAYS_MAX)?;
        within("visits_per_visitor_max", self.visits_per_visitor_max, VISITS_PER_VISITOR_LIMIT)?;
        match self.store {
            ProfileStore::Embedded => within("embedded.cache_mib", self.embedded.cache_mib, 1 << 20),
            ProfileStore::Cassandra => self.cassandra.check(),
        }
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            retention: Duration::from_secs(u64::from(self.retention_days) * 86_400),
            visits_per_visitor_max: self.visits_per_visitor_max as usize,
        }
    }
}

impl CassandraConfig {
    fn check(&self) -> Result<(), ProfileError> {
        if self.nodes.is_empty() || self.nodes.iter().any(String::is_empty) {
            return Err(problem("cassandra.nodes", "name at least one node as host:port"));
        }
        // The name stands in statements as it is.
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let starts_well = self.keyspace.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_well || !self.keyspace.chars().all(is_name) || self.keyspace.len() > 48 {
            let text = "use 1 to 48 lower-case letters, digits and `_`, a letter first";
            return Err(problem("cassandra.keyspace", text));
        }
        let dc = &self.local_datacenter;
        if !dc.chars().all(|c| c.is_ascii_alphanumeric() || "_-. ".contains(c)) {
            return Err(problem("cassandra.local_datacenter", "use the name that `nodetool status` shows"));
        }
        if self.replication == Replication::Network && self.create_keyspace && dc.is_empty() {
            let text =
                "name the data centre (see `nodetool status`), or set replication = \"simple\" for one node";
            return Err(problem("cassandra.local_datacenter", text));
        }
        if self.user.is_empty() != self.password_file.is_none() {
            return Err(problem("cassandra.user", "set user and password_file together, or none of them"));
        }
        if self.tls.certificate_file.is_some() != self.tls.key_file.is_some() {
            let text = "set certificate_file and key_file together, or none of them";
            return Err(problem("cassandra.tls", text));
        }
        let counts = [
            ("cassandra.replication_factor", u64::from(self.replication_factor), 100),
            ("cassandra.attempts_max", u64::from(self.attempts_max), 20),
            ("cassandra.requests_in_flight_max", u64::from(self.requests_in_flight_max), 10_000),
            ("cassandra.connect_timeout_ms", self.connect_timeout_ms, 600_000),
            ("cassandra.request_timeout_ms", self.request_timeout_ms, 600_000),
        ];
        for (key, value, max) in counts {
            if value == 0 || value > max {
                return Err(problem(key, format!("{value} is not between 1 and {max}")));
            }
        }
        Ok(())
    }
}

pub(crate) fn problem(key: &'static str, problem: impl Into<String>) -> ProfileError {
    ProfileError::Config { key, problem: problem.into() }
}
