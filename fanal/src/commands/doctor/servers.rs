//! The servers that the configuration names: whether they answer, and are set up as it says.
//!
//! Asks and changes nothing but what opening does anyway (tables of the catalogue, the
//! keyspace of profiles). What must stay true: every question ends within a bound, and
//! one server that is away hides nothing about the others.

use std::time::Duration;

use fanal_hdfs::HdfsStore;
use fanal_kafka::{Difference, Kafka, KafkaConfig};
use fanal_profiles::{ProfileStore, Profiles};
use fanal_storage::clickhouse::ClickHouse;
use serde::Deserialize;

use super::{Finding, checks};
use crate::client;
use crate::config::{ArchiveStore, Config, EventLogKind, password};
use crate::node::open_catalogue;
use crate::session::Remote;

/// A server that says nothing for so long is away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

const KAFKA: &str = "Kafka";
const TOPICS: &str = "Kafka topics";

/// Every server in use.
pub(super) async fn servers(config: &Config) -> Vec<Finding> {
    let (kafka, hdfs, profiles, catalogue, clickhouse) =
        tokio::join!(kafka(config), hdfs(config), profiles(config), catalogue(config), clickhouse(config));
    let spool = (config.event_log.kind == EventLogKind::Kafka && config.ingest.is_some())
        .then(|| super::spool::spool(config))
        .into_iter()
        .collect();
    [kafka, spool, hdfs, profiles, catalogue, clickhouse].concat()
}

/// What the running process says of its parts, where it is not `ok`.
pub(super) async fn readiness(remote: &Remote) -> Vec<Finding> {
    const WHAT: &str = "readiness";
    #[derive(Deserialize)]
    struct Ready {
        status: String,
        #[serde(default)]
        reasons: std::collections::BTreeMap<String, String>,
    }
    let asked = async {
        let answer = client::get(&remote.admin()?, "/health/ready", None).await?;
        anyhow::Ok(serde_json::from_slice::<Ready>(&answer.body)?)
    };
    match asked.await {
        Err(error) => vec![Finding::bad(WHAT, format!("{error:#}"))],
        Ok(ready) if ready.reasons.is_empty() => vec![Finding::good(WHAT, ready.status)],
        Ok(ready) => {
            let told = |(part, reason): (&String, &String)| Finding::bad(WHAT, format!("{part}: {reason}"));
            ready.reasons.iter().map(told).collect()
        }
    }
}

/// A finding out of a question; no answer in time is one, too.
async fn ask(
    what: &'static str,
    question: impl Future<Output = anyhow::Result<Vec<Finding>>>,
) -> Vec<Finding> {
    match tokio::time::timeout(ANSWER_TIMEOUT, question).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![Finding::bad(what, format!("{error:#}"))],
        Err(_) => {
            let waited = ANSWER_TIMEOUT.as_secs();
            vec![Finding::bad(
                what,
                format!("no answer within {waited} s; check the address and that the server runs"),
            )]
        }
    }
}

async fn kafka(config: &Config) -> Vec<Finding> {
    if config.event_log.kind != EventLogKind::Kafka {
        return Vec::new();
    }
    let section = &config.event_log.kafka;
    ask(KAFKA, async {
        let kafka = Kafka::open(section.clone())?;
        let brokers = kafka.broker_count().await?;
        let mut findings = vec![enough_brokers(brokers, section)];
        findings.extend(topics(&kafka.topics_differ().await?, section));
        Ok(findings)
    })
    .await
}

fn enough_brokers(found: usize, section: &KafkaConfig) -> Finding {
    let replication = section.replication;
    let text = format!("brokers: {found}, replication {replication} as configured");
    if usize::try_from(replication).is_ok_and(|wanted| found >= wanted) {
        Finding::good(KAFKA, text)
    } else {
        Finding::bad(
            KAFKA,
            format!(
                "{text}; start more brokers, or lower event_log.kafka.replication and min_insync_replicas"
            ),
        )
    }
}

fn topics(differences: &[Difference], section: &KafkaConfig) -> Vec<Finding> {
    const TOPICS_USED: usize = 4;
    let is_missing = |difference: &&Difference| difference.what == "topic";
    if differences.iter().filter(is_missing).count() == TOPICS_USED {
        let text = format!("none with the prefix `{}` yet; the first start makes them", section.topic_prefix);
        return vec![Finding::good(TOPICS, text)];
    }
    if differences.is_empty() {
        return vec![Finding::good(
            TOPICS,
            format!("`{}` and the others are as configured", section.topic_prefix),
        )];
    }
    differences.iter().map(|difference| Finding::bad(TOPICS, told(difference))).collect()
}

/// What differs, and both ways to agree again.
fn told(difference: &Difference) -> String {
    let Difference { topic, what, found, wanted } = difference;
    let remedy = match what.as_str() {
        "topic" => return format!("`{topic}` is missing; the next start makes it, or says why it cannot"),
        "partitions" => {
            "the number is fixed: write it into event_log.kafka, or use another topic_prefix".to_owned()
        }
        "replication" => {
            "move its partitions with kafka-reassign-partitions.sh, or change event_log.kafka.replication"
                .to_owned()
        }
        setting => {
            format!(
                "kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {setting}={wanted}"
            )
        }
    };
    let found = if found.is_empty() { "not set" } else { found };
    format!("`{topic}`: {what} is {found}, the configuration says {wanted}; {remedy}")
}

async fn hdfs(config: &Config) -> Vec<Finding> {
    const WHAT: &str = "HDFS";
    if config.archive.store != ArchiveStore::Hdfs {
        return Vec::new();
    }
    let section = config.archive.hdfs.clone();
    let text = format!("{}{} answers", section.url, section.root);
    ask(WHAT, async {
        // The whole chain says the same several times.
        let probed = HdfsStore::new(section)?.probe().await;
        probed.map_err(|error| anyhow::anyhow!("{error}; check archive.hdfs.url and that it runs"))?;
        Ok(vec![Finding::good(WHAT, text)])
    })
    .await
}

async fn profiles(config: &Config) -> Vec<Finding> {
    const WHAT: &str = "Cassandra";
    if config.profiles.store != ProfileStore::Cassandra {
        return Vec::new();
    }
    let section = &config.profiles.cassandra;
    ask(WHAT, async {
        let password = password(section.password_file.as_deref())?;
        Profiles::open(&config.profiles, &config.data_dir, password)?.ping().await?;
        Ok(vec![Finding::good(WHAT, format!("keyspace `{}` answers", section.keyspace))])
    })
    .await
}

async fn catalogue(config: &Config) -> Vec<Finding> {
    const WHAT: &str = "catalogue";
    let Some(url) = &config.catalogue.url else { return Vec::new() };
    ask(WHAT, async {
        let catalogue = Box::pin(open_catalogue(config)).await?;
        catalogue.close().await;
        Ok(vec![Finding::good(WHAT, format!("{url} answers"))])
    })
    .await
}

async fn clickhouse(config: &Config) -> Vec<Finding> {
    let Some(url) = config.clickhouse.url.clone() else { return Vec::new() };
    ask("ClickHouse", async {
        let password = password(config.clickhouse.password_file.as_deref())?;
        let client = ClickHouse::new(config.clickhouse_config(url, password));
        Ok(checks::tables(Ok(client)).await)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(topic: &str, what: &str, found: &str, wanted: &str) -> Difference {
        let [topic, what, found, wanted] = [topic, what, found, wanted].map(str::to_owned);
        Difference { topic, what, found, wanted }
    }

    #[test]
    fn a_differing_setting_names_both_values_and_the_command_that_changes_it() {
        let differences = [difference("beacons", "retention.ms", "60000", "604800000")];
        let findings = topics(&differences, &KafkaConfig::default());
        assert!(!findings[0].is_good);
        for word in ["`beacons`", "60000", "604800000", "--add-config retention.ms=604800000"] {
            assert!(findings[0].detail.contains(word), "no {word} in {}", findings[0].detail);
        }
    }

    #[test]
    fn topics_before_the_first_start_are_no_fault_and_a_missing_one_is() {
        let all = ["beacons", "beacons.dead", "beacons.overflow", "beacons.positions"]
            .map(|topic| difference(topic, "topic", "missing", "present"));
        let config = KafkaConfig::default();
        assert!(topics(&all, &config).iter().all(|finding| finding.is_good));
        assert!(topics(&all[1..2], &config).iter().all(|finding| !finding.is_good));
        assert!(topics(&[], &config).iter().all(|finding| finding.is_good));
    }

    #[test]
    fn fewer_brokers_than_copies_are_a_fault() {
        let config = KafkaConfig { replication: 3, ..KafkaConfig::default() };
        assert!(!enough_brokers(2, &config).is_good);
        assert!(enough_brokers(3, &config).is_good);
    }
}
