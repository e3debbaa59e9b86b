//! What can be found wrong with a start before anything is made, bound or opened.
//!
//! Only reads. What must stay true: a start that is refused here leaves no trace.

use fanal_profiles::ProfileStore;
use fanal_service::config::TlsSection;
use fanal_service::tls::{CertificateFiles, TlsHandle};

use crate::config::{Config, password};

/// Reads the rules, passwords and what the engine needs.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    // Whoever uses them reads them again: nobody counts yet what they refuse.
    config.rules()?;
    let mut secrets = vec![&config.clickhouse.password_file];
    if config.catalogue.url.is_some() {
        secrets.push(&config.catalogue.password_file);
    }
    if config.profiles.store == ProfileStore::Cassandra {
        secrets.push(&config.profiles.cassandra.password_file);
    }
    for secret in secrets {
        password(secret.as_deref())?;
    }
    if config.embeds_tables() {
        fanal_clickhouse_embedded::find_library()?;
    }
    Ok(())
}

/// Reads the certificates of all listeners.
pub(crate) fn certificates(config: &Config) -> anyhow::Result<()> {
    let ingest = config.ingest.as_ref().and_then(|ingest| ingest.tls.as_ref());
    let sse = config.delivery.as_ref().and_then(|delivery| delivery.sse_tls.as_ref());
    ingest.into_iter().chain(sse).try_for_each(certificate)
}

/// Reads one certificate.
pub(crate) fn certificate(files: &TlsSection) -> anyhow::Result<()> {
    TlsHandle::load(&CertificateFiles::from(files))?;
    Ok(())
}
