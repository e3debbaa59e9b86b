//! `fanal dev` as a configuration: every role, every part embedded.

use std::path::Path;

use fanal_ingest::IngestConfig;
use fanal_service::config::TlsSection;

use super::defaults::local;
use super::{
    AdminSection, ArchiveSection, CatalogueConfig, ClickHouseSection, Config, DeliverySection, EtlSection,
    EventLogSection, HttpSection, LogsSection, ProfilesConfig, SpoolConfig, defaults,
};

pub(super) fn config(data_dir: &Path) -> Config {
    let tls =
        TlsSection { certificate: data_dir.join("tls/server.pem"), key: data_dir.join("tls/server.key") };
    // A section of its own defaults: only what has none is given here.
    let mut ingest = IngestConfig::new(local(8080), data_dir.join("address.key"));
    ingest.listen_tls = Some(local(8443));
    ingest.tls = Some(tls.clone());
    Config {
        data_dir: data_dir.to_owned(),
        drain_timeout: defaults::drain_timeout(),
        logs: LogsSection::default(),
        event_log: EventLogSection::default(),
        archive: ArchiveSection::default(),
        clickhouse: ClickHouseSection::default(),
        profiles: ProfilesConfig::default(),
        catalogue: CatalogueConfig::default(),
        spool: SpoolConfig::default(),
        http: HttpSection::default(),
        ingest: Some(ingest),
        etl: Some(EtlSection::default()),
        delivery: Some(DeliverySection { sse_listen: local(8110), sse_tls: Some(tls) }),
        admin: Some(AdminSection { listen: local(8090), token_file: None }),
    }
}
