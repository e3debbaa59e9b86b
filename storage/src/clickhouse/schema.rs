//! One set of sources, two renderings: a single node and a cluster.
//!
//! The sources are the statements of a single node, as `storage/sql` has them.
//! On a cluster
//! - a table `X` becomes the replicated `X_local` on every server and a
//!   `Distributed` table `X` over all shards, sharded as its comment says;
//! - a table `whole on every node` becomes one replicated table without shards;
//! - a change of columns is made to both; `non_replicated_*` settings to none;
//! - a view is made on every server, over the `Distributed` tables.
//!
//! Must stay true: the sharding key is made of columns of the sorting key, so
//! that all versions of a row are on one shard and `FINAL` there sees them all.

use super::ClusterConfig;

/// What is rendered for: the database, and the cluster if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    pub database: &'a str,
    pub cluster: Option<&'a ClusterConfig>,
}

/// A statement that is of no known form: a mistake in the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnknownForm(pub(super) String);

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS ";
const CREATE_VIEW: &str = "CREATE OR REPLACE VIEW ";
const ALTER: &str = "ALTER TABLE ";
const ADD_COLUMN: &str = "\n    ADD COLUMN IF NOT EXISTS ";
const SETTING: &str = "\n    MODIFY SETTING ";
const SHARD_BY: &str = "-- shard by ";
const EVERYWHERE: &str = "-- whole on every node";

impl Layout<'_> {
    /// The first statement of all.
    pub(super) fn create_database(&self) -> String {
        let on_cluster = self.cluster.map(on_cluster).unwrap_or_default();
        format!("CREATE DATABASE IF NOT EXISTS {}{on_cluster}", self.database)
    }

    /// The statements of one source, in their order.
    pub(super) fn render(&self, source: &str) -> Result<Vec<String>, UnknownForm> {
        let mut rendered = Vec::new();
        for statement in source.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
            let code: Vec<&str> = statement.lines().filter(|line| !line.starts_with("--")).collect();
            let code = code.join("\n");
            match self.cluster {
                None => rendered.push(code),
                Some(cluster) => {
                    let unknown = || UnknownForm(code.clone());
                    rendered.extend(self.on_cluster(cluster, statement, &code).ok_or_else(unknown)?);
                }
            }
        }
        Ok(rendered)
    }

    fn on_cluster(&self, cluster: &ClusterConfig, statement: &str, code: &str) -> Option<Vec<String>> {
        let on = on_cluster(cluster);
        if let Some(rest) = code.strip_prefix(CREATE_TABLE) {
            let (name, definition) = rest.split_once('\n')?;
            if statement.lines().any(|line| line == EVERYWHERE) {
                let path = format!("{}/everywhere/{}/{name}", cluster.keeper_prefix, self.database);
                let definition = replicated(definition, &path, "{shard}-{replica}")?;
                return Some(vec![format!("{CREATE_TABLE}{name}{on}\n{definition}")]);
            }
            let (key, _why) =
                statement.lines().find_map(|line| line.strip_prefix(SHARD_BY))?.split_once(": ")?;
            let path = format!("{}/{{shard}}/{}/{name}", cluster.keeper_prefix, self.database);
            let definition = replicated(definition, &path, "{replica}")?;
            return Some(vec![
                format!("{CREATE_TABLE}{name}_local{on}\n{definition}"),
                format!(
                    "{CREATE_TABLE}{name}{on} AS {name}_local\n\
                     ENGINE = Distributed('{}', '{}', '{name}_local', {key})",
                    cluster.name, self.database
                ),
            ]);
        }
        if let Some(rest) = code.strip_prefix(CREATE_VIEW) {
            let (name, query) = rest.split_once(" AS\n")?;
            return Some(vec![format!("{CREATE_VIEW}{name}{on} AS\n{query}")]);
        }
        let rest = code.strip_prefix(ALTER)?;
        let (name, change) = rest.split_at(rest.find('\n')?);
        if change.starts_with(ADD_COLUMN) {
            return Some(["_local", ""].map(|end| format!("{ALTER}{name}{end}{on}{change}")).to_vec());
        }
        let setting = change.strip_prefix(SETTING)?;
        if setting.starts_with("non_replicated_") {
            return Some(Vec::new());
        }
        Some(vec![format!("{ALTER}{name}_local{on}{change}")])
    }
}

fn on_cluster(cluster: &ClusterConfig) -> String {
    format!(" ON CLUSTER '{}'", cluster.name)
}

/// `ENGINE = XMergeTree(a, b)` with the path and the replica's name before its arguments.
fn replicated(definition: &str, path: &str, replica: &str) -> Option<String> {
    let (before, rest) = definition.split_once("\nENGINE = ")?;
    let (engine, after) = rest.split_once('\n').unwrap_or((rest, ""));
    let (family, arguments) = match engine.split_once('(') {
        Some((family, arguments)) => (family, format!(", {}", arguments.strip_suffix(')')?)),
        None => (engine, String::new()),
    };
    if !family.ends_with("MergeTree") {
        return None;
    }
    Some(format!("{before}\nENGINE = Replicated{family}('{path}', '{replica}'{arguments})\n{after}"))
}
