//! What connections to brokers are protected by: TLS that always verifies the broker's
//! certificate and name, and who this program is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use super::trouble::Trouble;
use crate::client;
use crate::config::{KafkaConfig, SaslMechanism, TlsSection};
use crate::error::KafkaError;

/// Shared by all connections.
pub(crate) struct Security {
    tls: Option<Arc<ClientConfig>>,
    login: Option<Login>,
}

/// Who the program is. Never shown.
pub(super) struct Login {
    pub(super) mechanism: SaslMechanism,
    pub(super) username: String,
    pub(super) password: String,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Security {
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let tls = config.tls.as_ref().map(tls).transpose()?;
        let login = match &config.sasl {
            None => None,
            Some(sasl) => Some(Login {
                mechanism: sasl.mechanism,
                username: sasl.username.clone(),
                password: client::password(sasl)?,
            }),
        };
        Ok(Self { tls, login })
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Puts TLS around a new connection, if the brokers want it.
    pub(super) async fn wrap(&self, tcp: TcpStream, host: &str) -> Result<Stream, Trouble> {
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let unsafe_for = |e: &dyn fmt::Display| Trouble::Tls(e.to_string());
        let name = ServerName::try_from(host.to_owned()).map_err(|e| unsafe_for(&e))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
        Ok(Stream::Tls(Box::new(stream.map_err(|e| unsafe_for(&e))?)))
    }
}

fn tls(section: &TlsSection) -> Result<Arc<ClientConfig>, KafkaError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |e: rustls::Error| KafkaError::Client(e.to_string());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(wrong)?.with_root_certificates(roots(section)?);
    let config = match (&section.certificate_file, &section.key_file) {
        (Some(certificate), Some(key)) => {
            let unreadable = |e| KafkaError::Client(format!("{}: {e}", key.display()));
            let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
            builder.with_client_auth_cert(certificates(certificate)?, key).map_err(wrong)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn roots(section: &TlsSection) -> Result<RootCertStore, KafkaError> {
    let mut store = RootCertStore::empty();
    let Some(file) = &section.ca_file else {
        // Without any, each connection says that the broker's certificate is of nobody known.
        let (added, ignored) =
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        tracing::debug!(added, ignored, "system certificates were read for kafka");
        return Ok(store);
    };
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|e| KafkaError::Client(format!("{}: {e}", file.display())))?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, KafkaError> {
    let wrong = |detail: String| KafkaError::Client(format!("{}: {detail}", file.display()));
    let found = CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(e.to_string()))?;
    if found.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(found) }
}
