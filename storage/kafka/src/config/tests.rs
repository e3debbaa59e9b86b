use super::*;

fn read(json: &str) -> Result<KafkaConfig, String> {
    let config: KafkaConfig = serde_json::from_str(json).map_err(|e| e.to_string())?;
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn the_defaults_pass_their_own_check_and_read_back() {
    let config = read("{}").unwrap();
    assert_eq!(config, KafkaConfig::default());
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(read(&written).unwrap(), config);
}

#[test]
fn a_wrong_value_names_its_key() {
    for (json, part) in [
        (r#"{"brokers": []}"#, "brokers is empty"),
        (r#"{"brokers": ["kafka"]}"#, "`kafka`, which is not `host:port`"),
        (r#"{"brokers": ["kafka:0"]}"#, "`kafka:0`"),
        (r#"{"brokers": ["kafka:9092,other:9092"]}"#, "not `host:port`"),
        (r#"{"topic_prefix": "a b"}"#, "event_log.kafka.topic_prefix"),
        (r#"{"group": ""}"#, "event_log.kafka.group"),
        (r#"{"partitions": 0}"#, "event_log.kafka.partitions is 0"),
        (r#"{"replication": 1}"#, "min_insync_replicas is larger"),
        (r#"{"confirm_timeout": "1ms"}"#, "event_log.kafka.confirm_timeout is 1ms"),
        (r#"{"record_bytes_max": "33MiB"}"#, "record_bytes_max is larger"),
        (r#"{"confirm_timeout": 5}"#, "expected a string"),
        (r#"{"confirm": "5s"}"#, "unknown field `confirm`"),
        (r#"{"tls": {"key_file": "k.pem"}}"#, "certificate_file and key_file together"),
        (
            r#"{"sasl": {"mechanism": "PLAIN", "username": "u", "password_file": "p"}}"#,
            "PLAIN shows the password",
        ),
        (r#"{"sasl": {"mechanism": "MD5", "username": "u", "password_file": "p"}}"#, "unknown variant `MD5`"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
}

#[test]
fn brokers_may_be_names_and_addresses() {
    for broker in ["kafka-1.example.com:9092", "10.0.0.1:19092", "[::1]:9092"] {
        assert!(is_host_and_port(broker), "{broker}");
    }
}
