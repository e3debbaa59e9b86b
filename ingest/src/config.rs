//! The collector's section of the configuration, as typed and as used.

use std::path::PathBuf;

use fanal_model::{ByteSize, HumanDuration};
use fanal_parser::Limits;
use fanal_service::config::{ListenAddress, Networks, TlsSection, byte_size, human_duration};
use fanal_service::http::BodyLimits;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The section `[ingest]`, as a person writes it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// Where cleartext HTTP/1.1 and HTTP/2 are answered.
    pub listen: ListenAddress,
    /// Where the same is answered over TLS; needs `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_tls: Option<ListenAddress>,
    /// The certificate of `listen_tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSection>,
    /// Name of this collector in every record; the host name by default.
    #[serde(default)]
    pub node: String,
    /// File with the key for hashes of client addresses; made if it is not there.
    /// All collectors of an installation must have the same.
    pub address_key_file: PathBuf,
    /// Networks of proxies whose word on the client's address is taken.
    #[serde(default)]
    pub trusted_proxies: Networks,
    /// The header in which those proxies name the client: `x-forwarded-for` or `forwarded`.
    #[serde(default)]
    pub client_address_header: ClientAddressHeader,
    /// The largest body, as sent and again once decoded.
    #[serde(default = "defaults::body_bytes_max", with = "byte_size")]
    pub body_bytes_max: ByteSize,
    /// Bodies that are being received, all requests together; beyond it requests get 503 with `Retry-After`.
    #[serde(default = "defaults::bodies_bytes_max", with = "byte_size")]
    pub bodies_bytes_max: ByteSize,
    /// A body that takes longer to arrive is refused.
    #[serde(default = "defaults::body_timeout", with = "human_duration")]
    pub body_timeout: HumanDuration,
    /// A longer line is rejected; its neighbours are kept.
    #[serde(default = "defaults::line_bytes_max", with = "byte_size")]
    pub line_bytes_max: ByteSize,
    /// A request with more lines is refused.
    #[serde(default = "defaults::lines_max")]
    pub lines_max: u32,
    /// The most that one request may take in the event log; at most the log's `commit_bytes_max`.
    #[serde(default = "defaults::request_bytes_max", with = "byte_size")]
    pub request_bytes_max: ByteSize,
    /// Lines that wait for the event log in one worker; beyond it requests get 503 with `Retry-After`.
    #[serde(default = "defaults::lane_bytes_max", with = "byte_size")]
    pub lane_bytes_max: ByteSize,
    /// Quotas and kill rules, read again when the file changes; `ingest-rules.toml` in `data_dir` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_file: Option<PathBuf>,
    /// The share of requests that get a line in the access log: 0 none, 1 all.
    #[serde(default)]
    pub access_log_share: f64,
}

mod defaults {
    use std::time::Duration;

    use super::{ByteSize, HumanDuration, Limits};

    pub(super) fn body_bytes_max() -> ByteSize {
        ByteSize(4 << 20)
    }

    pub(super) fn bodies_bytes_max() -> ByteSize {
        ByteSize(256 << 20)
    }

    pub(super) fn body_timeout() -> HumanDuration {
        HumanDuration(Duration::from_secs(30))
    }

    pub(super) fn line_bytes_max() -> ByteSize {
        ByteSize(Limits::LINE_BYTES_MAX as u64)
    }

    pub(super) fn lines_max() -> u32 {
        u32::try_from(Limits::LINES_MAX).unwrap_or(u32::MAX)
    }

    pub(super) fn lane_bytes_max() -> ByteSize {
        ByteSize(64 << 20)
    }

    /// A full body of short lines, each record with the headers of a browser, is well below.
    pub(super) fn request_bytes_max() -> ByteSize {
        ByteSize(32 << 20)
    }
}

/// The header in which trusted proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddressHeader {
    #[default]
    XForwardedFor,
    Forwarded,
}

/// What is wrong with a section that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigProblem {
    #[error("ingest.{key} is 0; leave it out for the default")]
    Zero { key: &'static str },
    #[error(
        "ingest.line_bytes_max is larger than ingest.body_bytes_max: no line of that length could arrive"
    )]
    LineAboveBody,
    #[error(
        "ingest.listen_tls needs [ingest.tls] with certificate and key, and [ingest.tls] needs listen_tls"
    )]
    TlsIncomplete,
    #[error(
        "ingest.body_bytes_max is larger than ingest.bodies_bytes_max: no body of that size could arrive"
    )]
    BodyAboveBodies,
    #[error("ingest.access_log_share is the share of requests that are logged: write 0 to 1")]
    AccessLogShare,
    #[error("ingest.{key} is larger than this machine can address")]
    TooLarge { key: &'static str },
}

/// What the collector works with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub node: String,
    pub trusted_proxies: Networks,
    pub client_address_header: ClientAddressHeader,
    pub body: BodyLimits,
    /// Bodies that are being received, all requests together.
    pub bodies_bytes_max: usize,
    pub lines: Limits,
    pub request_bytes_max: usize,
    /// What may wait for the event log in one thread.
    pub lane_bytes_max: usize,
    /// Of the requests, how many are logged.
    pub access_log_share: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: "local".to_owned(),
            trusted_proxies: Networks::default(),
            client_address_header: ClientAddressHeader::default(),
            body: BodyLimits::default(),
            bodies_bytes_max: 256 << 20,
            lines: Limits::default(),
            request_bytes_max: 32 << 20,
            lane_bytes_max: 64 << 20,
            access_log_share: 0.0,
        }
    }
}

impl IngestConfig {
    /// The section with the defaults of every key that has one.
    #[must_use]
    pub fn new(listen: ListenAddress, address_key_file: PathBuf) -> Self {
        Self {
            listen,
            listen_tls: None,
            tls: None,
            node: String::new(),
            address_key_file,
            trusted_proxies: Networks::default(),
            client_address_header: ClientAddressHeader::default(),
            body_bytes_max: defaults::body_bytes_max(),
            bodies_bytes_max: defaults::bodies_bytes_max(),
            body_timeout: defaults::body_timeout(),
            line_bytes_max: defaults::line_bytes_max(),
            lines_max: defaults::lines_max(),
            request_bytes_max: defaults::request_bytes_max(),
            lane_bytes_max: defaults::lane_bytes_max(),
            rules_file: None,
            access_log_share: 0.0,
        }
    }

    /// Checks what the types alone cannot. `host_name` stands in for an empty `node`.
    pub fn resolve(&self, host_name: &str) -> Result<Settings, ConfigProblem> {
        if self.listen_tls.is_some() != self.tls.is_some() {
            return Err(ConfigProblem::TlsIncomplete);
        }
        if self.line_bytes_max > self.body_bytes_max {
            return Err(ConfigProblem::LineAboveBody);
        }
        if self.body_bytes_max > self.bodies_bytes_max {
            return Err(ConfigProblem::BodyAboveBodies);
        }
        if self.lines_max == 0 {
            return Err(ConfigProblem::Zero { key: "lines_max" });
        }
        if self.body_timeout.0.is_zero() {
            return Err(ConfigProblem::Zero { key: "body_timeout" });
        }
        if !(0.0..=1.0).contains(&self.access_log_share) {
            return Err(ConfigProblem::AccessLogShare);
        }
        Ok(Settings {
            node: if self.node.is_empty() { host_name.to_owned() } else { self.node.clone() },
            trusted_proxies: self.trusted_proxies.clone(),
            client_address_header: self.client_address_header,
            body: BodyLimits {
                bytes_max: size(self.body_bytes_max, "body_bytes_max")?,
                timeout: self.body_timeout.0,
                ..BodyLimits::default()
            },
            bodies_bytes_max: size(self.bodies_bytes_max, "bodies_bytes_max")?,
            lines: Limits {
                line_bytes_max: size(self.line_bytes_max, "line_bytes_max")?,
                lines_max: self.lines_max as usize,
            },
            request_bytes_max: size(self.request_bytes_max, "request_bytes_max")?,
            lane_bytes_max: size(self.lane_bytes_max, "lane_bytes_max")?,
            access_log_share: self.access_log_share,
        })
    }
}

fn size(size: ByteSize, key: &'static str) -> Result<usize, ConfigProblem> {
    match usize::try_from(size.0) {
        Ok(0) => Err(ConfigProblem::Zero { key }),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(ConfigProblem::TooLarge { key }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        ingest: IngestConfig,
    }

    fn read(text: &str) -> Result<IngestConfig, toml::de::Error> {
        toml::from_str::<File>(text).map(|file| file.ingest)
    }

    #[test]
    fn the_minimal_file_and_the_reference_mean_the_same_where_both_speak() {
        let minimal = read(include_str!("../config/minimal.toml")).unwrap();
        let reference = read(include_str!("../config/reference.toml")).unwrap();
        minimal.resolve("host").unwrap();
        let settings = reference.resolve("host").unwrap();
        assert_eq!(settings.node, "collector-1");
        let defaults = IngestConfig {
            node: reference.node.clone(),
            listen_tls: reference.listen_tls,
            tls: reference.tls.clone(),
            trusted_proxies: reference.trusted_proxies.clone(),
            rules_file: reference.rules_file.clone(),
            ..minimal
        };
        assert_eq!(reference, defaults, "the reference shows the defaults");
    }

    #[test]
    fn the_reference_names_every_key() {
        let reference = include_str!("../config/reference.toml");
        let shown: toml::Table = toml::from_str(reference).unwrap();
        let all = toml::Value::try_from(read(reference).unwrap()).unwrap();
        let names = |table: &toml::Table| table.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(shown["ingest"].as_table().unwrap()), names(all.as_table().unwrap()));
    }

    #[test]
    fn a_section_that_cannot_work_is_refused_with_its_key() {
        let minimal = read(include_str!("../config/minimal.toml")).unwrap();
        let problem = |change: fn(&mut IngestConfig)| {
            let mut config = minimal.clone();
            change(&mut config);
            config.resolve("host").unwrap_err().to_string()
        };
        assert!(problem(|c| c.lines_max = 0).contains("lines_max"));
        assert!(problem(|c| c.body_bytes_max = ByteSize(10)).contains("line_bytes_max"));
        assert!(problem(|c| c.bodies_bytes_max = ByteSize(10)).contains("bodies_bytes_max"));
        assert!(problem(|c| c.request_bytes_max = ByteSize(0)).contains("request_bytes_max"));
        assert!(problem(|c| c.access_log_share = f64::NAN).contains("access_log_share"));
        assert!(problem(|c| c.listen_tls = Some(c.listen)).contains("tls"));
        assert!(read("[ingest]\nlisten = \"127.0.0.1:1\"\naddress_key_file = \"k\"\nlimes = 3").is_err());
    }
}
