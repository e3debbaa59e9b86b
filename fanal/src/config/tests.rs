use std::path::Path;

use super::*;

fn read(text: &str) -> anyhow::Result<Config> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("fanal.toml");
    std::fs::write(&file, text)?;
    Config::read(&file)
}

const MINIMAL: &str = include_str!("minimal.toml");

#[test]
fn the_reference_shows_the_defaults() {
    let (minimal, mut reference) = (read(MINIMAL).unwrap(), read(REFERENCE).unwrap());
    // What has no default is shown by an example.
    (reference.event_log.kafka.tls, reference.event_log.kafka.sasl) = (None, None);
    reference.spool.dir = None;
    let hdfs = &mut reference.archive.hdfs;
    (hdfs.hadoop_conf_dir, hdfs.kerberos.keytab_file) = (None, None);
    hdfs.name_services.clear();
    hdfs.extra.clear();
    let cassandra = &mut reference.profiles.cassandra;
    (cassandra.password_file, cassandra.tls) = (None, minimal.profiles.cassandra.tls.clone());
    assert_eq!(reference.profiles, minimal.profiles);
    assert_eq!(reference.spool, minimal.spool);
    assert_eq!(reference.event_log, minimal.event_log);
    assert_eq!(reference.archive, minimal.archive);
    assert_eq!(reference.etl, minimal.etl);
    assert_eq!(reference.logs, minimal.logs);
    assert_eq!(reference.http, minimal.http);
    assert_eq!(reference.drain_timeout, minimal.drain_timeout);
    assert_eq!(reference.clickhouse.listen, minimal.clickhouse.listen);
    assert_eq!(reference.clickhouse.database, minimal.clickhouse.database);
}

#[test]
fn the_reference_names_every_key() {
    let shown: toml::Table = toml::from_str(REFERENCE).unwrap();
    let all = toml::Table::try_from(read(REFERENCE).unwrap()).unwrap();
    assert_eq!(keys("", &shown), keys("", &all));
}

fn keys(prefix: &str, table: &toml::Table) -> std::collections::BTreeSet<String> {
    let mut names = std::collections::BTreeSet::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => names.extend(keys(&format!("{prefix}{name}."), inner)),
            _ => {
                names.insert(format!("{prefix}{name}"));
            }
        }
    }
    names
}

#[test]
fn a_wrong_key_is_refused_by_name_with_its_line() {
    let error = read(&format!("{MINIMAL}tokenfile = \"x\"\n")).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Ending::BadConfiguration(_))));
    let text = error.to_string();
    assert!(text.contains("tokenfile") && text.contains("line"), "{text}");
}

#[test]
fn a_file_that_cannot_work_is_refused_with_the_remedy() {
    for (text, expected) in [
        ("data_dir = \"x\"\n", "no role"),
        ("data_dir = \"x\"\n[delivery]\nsse_listen = \"127.0.0.1:1\"\n", "[ingest]"),
        ("data_dir = \"x\"\n[etl]\n[clickhouse]\ndatabase = \"a b\"\n", "clickhouse.database"),
        ("data_dir = \"x\"\n[etl]\n[clickhouse]\nlisten = \"0.0.0.0:8123\"\n", "password_file"),
        ("data_dir = \"x\"\n[etl]\n[http]\nheaders_max = 0\n", "http.headers_max"),
        ("data_dir = \"x\"\n[etl]\nflush_interval = \"soon\"\n", "duration"),
        ("data_dir = \"x\"\n[etl]\n[event_log]\nsegment_bytes = \"64\"\n", "4MiB"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn dev_is_a_configuration_like_any_other() {
    let config = Config::dev(Path::new("data"));
    config.check().unwrap();
    assert_eq!(config.role_names(), ["ingest", "etl", "delivery", "admin"]);
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn a_relative_data_folder_is_made_absolute() {
    assert!(Config::dev(Path::new("data")).data_dir.is_absolute());
    let config = read(&MINIMAL.replace("data_dir = \"/var/lib/fanal\"", "data_dir = \"data\"")).unwrap();
    assert!(config.data_dir.is_absolute());
}
