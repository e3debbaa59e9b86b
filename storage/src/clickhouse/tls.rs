//! The HTTP client under the ClickHouse client: plain, or with verified certificates.
//!
//! It never skips a verification, and reads certificates only for `https`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

const CONNECT_MAX: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Shorter than the 3 s after which a server closes an idle connection.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// A client for this URL.
pub(super) fn client(url: &str, ca_file: Option<&Path>) -> Result<Client, String> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(CONNECT_MAX));
    http.set_keepalive(Some(KEEPALIVE));
    http.set_nodelay(true);
    let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_MAX);
    if !url.starts_with("https://") {
        return Ok(Client::with_http_client(builder.build(http)).with_url(url));
    }
    http.enforce_http(false);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
    Ok(Client::with_http_client(builder.build(https.wrap_connector(http))).with_url(url))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // Old systems carry certificates that cannot be read; the others do.
    roots.add_parsable_certificates(system.certs);
    if let Some(file) = ca_file {
        let bad = |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", file.display());
        let mut found = 0;
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))? {
            roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
            found += 1;
        }
        if found == 0 {
            return Err(bad(&"it holds no certificate"));
        }
    }
    if roots.is_empty() { Err("no certificate authority is trusted".to_owned()) } else { Ok(roots) }
}
