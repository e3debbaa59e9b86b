//! `[profiles]` as operators write it.

use fanal_profiles::{ProfileError, ProfileStore, Profiles, ProfilesConfig};
use tempfile::TempDir;

fn check(text: &str) -> Result<(), ProfileError> {
    toml::from_str::<ProfilesConfig>(text).unwrap().check()
}

#[test]
fn an_empty_section_is_the_embedded_store() {
    let config: ProfilesConfig = toml::from_str("").unwrap();
    assert_eq!(config.store, ProfileStore::Embedded);
    config.check().unwrap();
}

#[test]
fn what_cannot_work_is_refused_with_the_key() {
    let cases = [
        ("retention_days = 0", "retention_days"),
        ("visits_per_visitor_max = 0", "visits_per_visitor_max"),
        ("visits_per_visitor_max = 1001", "visits_per_visitor_max"),
        ("embedded.cache_mib = 0", "cache_mib"),
        ("store = 'cassandra'\ncassandra.nodes = []", "cassandra.nodes"),
        ("store = 'cassandra'", "cassandra.local_datacenter"),
        ("store = 'cassandra'\ncassandra.keyspace = 'a; DROP KEYSPACE b'", "cassandra.keyspace"),
        ("store = 'cassandra'\ncassandra.local_datacenter = \"d'\"", "cassandra.local_datacenter"),
        ("store = 'cassandra'\ncassandra.replication = 'simple'\ncassandra.user = 'u'", "cassandra.user"),
        ("store = 'cassandra'\ncassandra.replication = 'simple'\ncassandra.attempts_max = 0", "attempts_max"),
        (
            "store = 'cassandra'\ncassandra.replication = 'simple'\ncassandra.tls.key_file = 'k'",
            "cassandra.tls",
        ),
    ];
    for (text, key) in cases {
        let error = check(text).unwrap_err().to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
    check("store = 'cassandra'\ncassandra.replication = 'simple'").unwrap();
    check("store = 'cassandra'\ncassandra.local_datacenter = 'dc1'").unwrap();
}

#[test]
fn an_unknown_key_is_refused() {
    let error = toml::from_str::<ProfilesConfig>("cassandra.keyspce = 'x'").unwrap_err();
    assert!(error.to_string().contains("keyspce"), "{error}");
}

#[test]
fn a_file_of_certificates_that_cannot_be_read_is_found_at_the_start() {
    let text = "store = 'cassandra'\n[cassandra]\nreplication = 'simple'\ntls.enabled = true\ntls.ca_file = '/nowhere/ca.pem'";
    let config: ProfilesConfig = toml::from_str(text).unwrap();
    let error = Profiles::open(&config, TempDir::new().unwrap().path(), None).unwrap_err().to_string();
    assert!(error.contains("tls.ca_file") && error.contains("/nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn the_embedded_store_is_one_file_of_the_data_folder() {
    let folder = TempDir::new().unwrap();
    let profiles = Profiles::open(&ProfilesConfig::default(), folder.path(), None).unwrap();
    profiles.ping().await.unwrap();
    assert!(folder.path().join("profiles.redb").is_file());
}
