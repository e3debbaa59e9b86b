//! The defaults, in one place.

use std::time::Duration;

use fanal_etl::EtlConfig;
use fanal_model::{ByteSize, HumanDuration};
use fanal_service::config::ListenAddress;
use fanal_service::logs::LogFormat;
use fanal_storage::log::LogConfig;

use super::{
    ArchiveSection, ArchiveStore, ClickHouseSection, EtlSection, EventLogKind, EventLogSection, HdfsConfig,
    KafkaConfig, LogsSection,
};

pub(super) fn drain_timeout() -> HumanDuration {
    HumanDuration(Duration::from_secs(20))
}

/// What a command waits for Kafka's confirmation of one batch.
pub(super) fn patience() -> HumanDuration {
    HumanDuration(Duration::from_secs(60))
}

/// An address of this machine alone.
pub(super) fn local(port: u16) -> ListenAddress {
    ListenAddress(([127, 0, 0, 1], port).into())
}

impl Default for LogsSection {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

impl Default for EventLogSection {
    fn default() -> Self {
        let log = LogConfig::default();
        Self {
            kind: EventLogKind::default(),
            kafka: KafkaConfig::default(),
            segment_bytes: ByteSize(log.segment_bytes),
            retention: HumanDuration(log.retention),
            commit_bytes_max: ByteSize(log.commit_bytes_max as u64),
            queue_bytes_max: ByteSize(log.queue_bytes_max as u64),
        }
    }
}

impl Default for ArchiveSection {
    fn default() -> Self {
        let etl = EtlConfig::default();
        Self {
            store: ArchiveStore::default(),
            hdfs: HdfsConfig::default(),
            bucket: HumanDuration(Duration::from_millis(etl.rotation.bucket_ms)),
            records_max: etl.rotation.records_max,
            bytes_max: ByteSize(etl.rotation.bytes_max),
            seal_after: HumanDuration(etl.seal_after),
        }
    }
}

impl Default for ClickHouseSection {
    fn default() -> Self {
        Self {
            listen: local(8123),
            url: None,
            database: "fanal".to_owned(),
            user: None,
            password_file: None,
            tls_ca_file: None,
            cluster: None,
        }
    }
}

impl Default for EtlSection {
    fn default() -> Self {
        let etl = EtlConfig::default();
        Self {
            allowed_lateness: HumanDuration(etl.allowed_lateness),
            dedupe_horizon: HumanDuration(etl.dedupe_horizon),
            flush_interval: HumanDuration(etl.flush_interval),
            flush_records_max: u32::try_from(etl.flush_records_max).unwrap_or(u32::MAX),
            checkpoint_interval: HumanDuration(etl.checkpoint_interval),
            rebuild_quiet: HumanDuration(etl.rebuild_quiet),
            rebuild_wait_max: HumanDuration(etl.rebuild_wait_max),
            rebuild_events_max: etl.rebuild_events_max,
        }
    }
}
