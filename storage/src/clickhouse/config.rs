//! Where ClickHouse is, who we are there, and what cannot work.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ClickHouseError;

/// Where ClickHouse is and who we are there.
#[derive(Debug, Clone, Default)]
pub struct ClickHouseConfig {
    /// Such as `http://127.0.0.1:8123`, or `https://…` with a verified certificate.
    pub url: String,
    pub database: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// Certificates (PEM) that are trusted beside those of the system, for `https`.
    pub tls_ca_file: Option<PathBuf>,
    /// Without it the server is a single node.
    pub cluster: Option<ClusterConfig>,
}

/// A cluster of ClickHouse servers with Keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Name of the cluster, as `system.clusters` has it.
    pub name: String,
    /// Path in Keeper under which replicated tables keep their state. The servers'
    /// macros `shard` and `replica` complete it.
    #[serde(default = "keeper_prefix")]
    pub keeper_prefix: String,
    /// Replicas that must have an insert before it counts as written. 0: the one
    /// that took it. With the number of replicas of a shard no acknowledged row is
    /// missing when another replica is read, but one that is down stops inserts.
    #[serde(default)]
    pub insert_quorum: u32,
}

impl ClusterConfig {
    /// A cluster with this name and the defaults.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), keeper_prefix: keeper_prefix(), insert_quorum: 0 }
    }
}

fn keeper_prefix() -> String {
    "/clickhouse/tables".to_owned()
}

impl ClickHouseConfig {
    /// What can be said without asking the server. The names stand in statements,
    /// so that they must need no quotes.
    pub fn check(&self) -> Result<(), ClickHouseError> {
        let bad = |key, remedy| Err(ClickHouseError::Config { key, remedy });
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return bad("url", "must begin with http:// or https://");
        }
        if self.url.contains('@') {
            return bad("url", "must hold no user or password; name them in `user` and `password_file`");
        }
        if !is_plain(&self.database, "_") || self.database.starts_with(|c: char| c.is_ascii_digit()) {
            return bad("database", "must be of letters, digits and `_` and begin with no digit");
        }
        let Some(cluster) = &self.cluster else { return Ok(()) };
        if !is_plain(&cluster.name, "_-.") {
            return bad("cluster.name", "must be of letters, digits, `_`, `-` and `.`");
        }
        let prefix = &cluster.keeper_prefix;
        if !prefix.starts_with('/') || prefix.ends_with('/') || !is_plain(prefix, "/_-.") {
            return bad(
                "cluster.keeper_prefix",
                "must begin with `/`, not end with it, and be of letters, digits and `/_-.`",
            );
        }
        Ok(())
    }
}

fn is_plain(text: &str, marks: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut ClickHouseConfig)) -> Result<(), String> {
        let mut config = ClickHouseConfig {
            url: "http://127.0.0.1:8123".to_owned(),
            database: "fanal".to_owned(),
            cluster: Some(ClusterConfig::named("main")),
            ..ClickHouseConfig::default()
        };
        change(&mut config);
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_work_is_refused_by_the_name_of_its_key() {
        assert_eq!(checked(|_| {}), Ok(()));
        assert!(checked(|c| c.url = "127.0.0.1:8123".to_owned()).unwrap_err().contains("`url`"));
        assert!(checked(|c| c.url = "http://a:b@host".to_owned()).unwrap_err().contains("password_file"));
        assert!(checked(|c| c.database = "a`b".to_owned()).unwrap_err().contains("`database`"));
        assert!(checked(|c| c.database = "1a".to_owned()).is_err());
        let cluster = |c: &mut ClickHouseConfig, name: &str, prefix: &str| {
            let known = c.cluster.as_mut().unwrap();
            (known.name, known.keeper_prefix) = (name.to_owned(), prefix.to_owned());
        };
        assert!(checked(|c| cluster(c, "it's", "/a")).unwrap_err().contains("cluster.name"));
        for prefix in ["a", "/a/", "/{shard}", ""] {
            assert!(checked(|c| cluster(c, "main", prefix)).unwrap_err().contains("keeper_prefix"));
        }
    }

    #[test]
    fn a_cluster_needs_its_name_only_and_takes_no_unknown_key() {
        let read: ClusterConfig = serde_json::from_str(r#"{"name": "main"}"#).unwrap();
        assert_eq!(read, ClusterConfig::named("main"));
        assert!(serde_json::from_str::<ClusterConfig>("{}").is_err());
        assert!(serde_json::from_str::<ClusterConfig>(r#"{"name": "main", "sharding": 1}"#).is_err());
    }
}
