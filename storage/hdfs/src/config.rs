//! `[archive.hdfs]` of the configuration, and the client's settings made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hdfs_native::{Client, ClientBuilder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// HDFS takes no smaller block by its own defaults.
const BLOCK_MIB_MIN: u64 = 1;

/// Where the archive is on HDFS, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HdfsConfig {
    /// `hdfs://host:port` of the NameNode, or `hdfs://name` of a name service in `name_services` or `hadoop_conf_dir`.
    pub url: String,
    /// Folder of the archive; created if it is not there.
    pub root: String,
    /// User to act as where Kerberos is off; empty: the user of this process. With Kerberos, the user to impersonate.
    pub user: String,
    /// Copies of every block; 0: as the server says.
    pub replication: u32,
    /// Size of a block, in MiB.
    pub block_mib: u64,
    /// Whether DataNodes put a file on their disks before it is confirmed. Off only where the folder is erasure-coded, which cannot do it.
    pub sync: bool,
    /// Addresses (`host:port`) of the NameNodes of each name service.
    pub name_services: BTreeMap<String, Vec<String>>,
    /// Folder with `core-site.xml` and `hdfs-site.xml`, whose settings hold where nothing else is said here.
    pub hadoop_conf_dir: Option<PathBuf>,
    /// Other Hadoop settings by name, such as `dfs.data.transfer.protection`; they outweigh everything else.
    pub extra: BTreeMap<String, String>,
    pub kerberos: KerberosConfig,
    /// Time for one question to the NameNode or one piece of a file, in milliseconds.
    pub operation_timeout_ms: u64,
    /// Time for writing one file, in milliseconds.
    pub put_timeout_ms: u64,
    /// How often a NameNode that refuses the connection, or stands by, is followed by the next one.
    pub failovers_max: u32,
    /// Age from which a temporary file is taken for the leftover of a dead writer, in milliseconds.
    pub leftover_after_ms: u64,
}

/// Kerberos is on where a principal is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KerberosConfig {
    /// Principal of this program, such as `fanal/host@REALM`. Empty: no Kerberos.
    pub principal: String,
    /// File with the principal's keys. Unset: the ticket cache is used.
    pub keytab_file: Option<PathBuf>,
    /// Ticket cache, such as `FILE:/run/fanal/krb5cc`. Empty: the one of the process; with a keytab, one in memory.
    pub ticket_cache: String,
}

impl Default for HdfsConfig {
    fn default() -> Self {
        Self {
            url: "hdfs://127.0.0.1:9000".to_owned(),
            root: "/fanal/archive".to_owned(),
            user: String::new(),
            replication: 0,
            block_mib: 128,
            sync: true,
            name_services: BTreeMap::new(),
            hadoop_conf_dir: None,
            extra: BTreeMap::new(),
            kerberos: KerberosConfig::default(),
            operation_timeout_ms: 30_000,
            put_timeout_ms: 300_000,
            failovers_max: 4,
            leftover_after_ms: 3_600_000,
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Error)]
pub enum HdfsConfigError {
    #[error("hdfs.{key} `{value}` {problem}")]
    Value { key: &'static str, value: String, problem: &'static str },
    #[error(
        "no HDFS client can be made for {url}: {source}; check hdfs.url, hdfs.name_services and hdfs.hadoop_conf_dir"
    )]
    Client { url: String, source: hdfs_native::HdfsError },
}

impl HdfsConfig {
    /// Refuses what cannot work, before anything is opened.
    pub fn check(&self) -> Result<(), HdfsConfigError> {
        let wrong = |key, value: &dyn ToString, problem| {
            Err(HdfsConfigError::Value { key, value: value.to_string(), problem })
        };
        let Some(host) = self.url.strip_prefix("hdfs://").filter(|host| !host.is_empty()) else {
            return wrong(
                "url",
                &self.url,
                "does not begin with hdfs://; write hdfs://host:port or hdfs://name",
            );
        };
        if host.contains('/') {
            return wrong("url", &self.url, "has a path; put it into hdfs.root");
        }
        let is_known = self.name_services.contains_key(host)
            || self.hadoop_conf_dir.is_some()
            || self.extra.contains_key(&format!("dfs.ha.namenodes.{host}"));
        if !host.contains(':') && !is_known {
            return wrong(
                "url",
                &self.url,
                "has no port and is no name of hdfs.name_services; add one of them",
            );
        }
        let root = self.root.strip_prefix('/').unwrap_or_default();
        let is_plain = |part: &str| !part.is_empty() && !matches!(part, "." | "..");
        if !root.split('/').all(is_plain) {
            return wrong("root", &self.root, "is not a folder such as /fanal/archive");
        }
        if self.block_mib < BLOCK_MIB_MIN || self.block_mib > u64::MAX >> 20 {
            return wrong("block_mib", &self.block_mib, "is no size of a block; 128 suits most");
        }
        let kerberos = &self.kerberos;
        let credentials = kerberos.keytab_file.is_some() || !kerberos.ticket_cache.is_empty();
        if kerberos.principal.is_empty() && credentials {
            return wrong(
                "kerberos.principal",
                &"",
                "is missing; name it beside the keytab or the ticket cache",
            );
        }
        for (key, value) in [
            ("operation_timeout_ms", self.operation_timeout_ms),
            ("put_timeout_ms", self.put_timeout_ms),
            ("leftover_after_ms", self.leftover_after_ms),
        ] {
            if value == 0 {
                return wrong(key, &value, "must be more than 0");
            }
        }
        if self.leftover_after_ms < self.put_timeout_ms.saturating_mul(2) {
            let problem =
                "is less than twice hdfs.put_timeout_ms: files that are being written would be removed";
            return wrong("leftover_after_ms", &self.leftover_after_ms, problem);
        }
        if let Some((_, addresses)) = self.name_services.iter().find(|(_, addresses)| addresses.is_empty()) {
            return wrong(
                "name_services",
                &format!("{addresses:?}"),
                "has a service without addresses; list its NameNodes",
            );
        }
        Ok(())
    }

    pub(crate) fn operation_timeout(&self) -> Duration {
        Duration::from_millis(self.operation_timeout_ms)
    }

    pub(crate) fn put_timeout(&self) -> Duration {
        Duration::from_millis(self.put_timeout_ms)
    }

    pub(crate) fn block_bytes(&self) -> u64 {
        self.block_mib << 20
    }

    /// Connects to nothing yet.
    pub(crate) fn client(&self) -> Result<Client, HdfsConfigError> {
        self.check()?;
        let mut builder = ClientBuilder::new().with_url(&self.url).with_config(self.settings());
        if let Some(dir) = &self.hadoop_conf_dir {
            builder = builder.with_config_dir(dir.to_string_lossy());
        }
        if !self.user.is_empty() {
            builder = builder.with_user(&self.user);
        }
        let kerberos = &self.kerberos;
        if !kerberos.principal.is_empty() {
            builder = builder.with_kerberos_principal(&kerberos.principal);
        }
        if let Some(keytab) = &kerberos.keytab_file {
            builder = builder.with_kerberos_keytab(keytab.to_string_lossy());
        }
        if !kerberos.ticket_cache.is_empty() {
            builder = builder.with_kerberos_cache(&kerberos.ticket_cache);
        }
        builder.build().map_err(|source| HdfsConfigError::Client { url: self.url.clone(), source })
    }

    /// Settings as Hadoop names them.
    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::from([
            // By default a client waits for minutes before it says that a NameNode is
            // not there; whoever asked tries again anyway.
            ("dfs.client.failover.max.attempts".to_owned(), self.failovers_max.to_string()),
            ("dfs.client.failover.sleep.base.millis".to_owned(), "50".to_owned()),
            ("dfs.client.failover.sleep.max.millis".to_owned(), "1000".to_owned()),
            ("dfs.client.socket-timeout".to_owned(), self.operation_timeout_ms.to_string()),
        ]);
        if !self.kerberos.principal.is_empty() {
            settings.insert("hadoop.security.authentication".to_owned(), "kerberos".to_owned());
        }
        for (service, addresses) in &self.name_services {
            let ids: Vec<String> = (0..addresses.len()).map(|number| format!("nn{number}")).collect();
            settings.insert(format!("dfs.ha.namenodes.{service}"), ids.join(","));
            for (id, address) in ids.iter().zip(addresses) {
                settings.insert(format!("dfs.namenode.rpc-address.{service}.{id}"), address.clone());
            }
        }
        settings.extend(self.extra.clone());
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_accepted_and_reads_back() {
        let config = HdfsConfig::default();
        config.check().unwrap();
        assert_eq!(toml::from_str::<HdfsConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert!(toml::from_str::<HdfsConfig>("ur = \"x\"").unwrap_err().to_string().contains("ur"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        let keytab = KerberosConfig { keytab_file: Some("/k".into()), ..KerberosConfig::default() };
        let base = HdfsConfig::default;
        for (key, config) in [
            ("url", HdfsConfig { url: "http://x".into(), ..base() }),
            ("url", HdfsConfig { url: "hdfs://".into(), ..base() }),
            ("url", HdfsConfig { url: "hdfs://h:1/x".into(), ..base() }),
            ("url", HdfsConfig { url: "hdfs://unknown".into(), ..base() }),
            ("root", HdfsConfig { root: "relative".into(), ..base() }),
            ("root", HdfsConfig { root: "/a/../b".into(), ..base() }),
            ("root", HdfsConfig { root: "/".into(), ..base() }),
            ("block_mib", HdfsConfig { block_mib: 0, ..base() }),
            ("kerberos.principal", HdfsConfig { kerberos: keytab, ..base() }),
            ("put_timeout_ms", HdfsConfig { put_timeout_ms: 0, ..base() }),
            ("leftover_after_ms", HdfsConfig { leftover_after_ms: 1000, ..base() }),
            ("name_services", HdfsConfig { name_services: [("a".into(), vec![])].into(), ..base() }),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("hdfs.{key} ")), "{error}");
        }
    }

    #[test]
    fn extra_settings_outweigh_the_others() {
        let config = HdfsConfig {
            name_services: [("prod".to_owned(), vec!["a:1".to_owned(), "b:2".to_owned()])].into(),
            extra: [("dfs.client.failover.max.attempts".to_owned(), "9".to_owned())].into(),
            ..HdfsConfig::default()
        };
        let settings = config.settings();
        assert_eq!(settings["dfs.ha.namenodes.prod"], "nn0,nn1");
        assert_eq!(settings["dfs.namenode.rpc-address.prod.nn1"], "b:2");
        assert_eq!(settings["dfs.client.failover.max.attempts"], "9");
    }
}
