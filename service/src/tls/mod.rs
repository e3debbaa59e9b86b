//! Certificates: loaded from PEM files, changed while listeners run, and made
//! for a machine of its own where there are none.
//!
//! Never logs a key. What must stay true: a certificate that cannot serve is
//! refused when it is loaded, not at the first handshake, and a failed reload
//! keeps the old one.

mod local;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

pub use local::{LocalCertificate, local_certificate};

/// Tickets for a client: it has one connection to us at a time, and gets the next ticket with it.
const TICKETS: usize = 1;

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("cannot read {path}: {source}; check the path and that this user may read it")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path} holds no PEM certificate: it must begin with `-----BEGIN CERTIFICATE-----`, the server's own first"
    )]
    NoCertificate { path: PathBuf },
    #[error(
        "{path} holds no usable private key ({reason}): it must be PEM, PKCS#8, SEC1 or PKCS#1, not encrypted"
    )]
    NoKey { path: PathBuf, reason: String },
    #[error("{certificate} and {key} do not belong together: give the key that the certificate was made for")]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("{path} is not a valid certificate: {reason}; export it again")]
    Invalid { path: PathBuf, reason: String },
    #[error("cannot write {path}: {source}; check free space and the folder's owner")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make a certificate for `{domain}`: {reason}; use a domain of at least two labels")]
    Make { domain: String, reason: String },
    #[error("TLS cannot be set up: {0}; this is a bug")]
    Setup(String),
}

/// The files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the server's certificate, then the intermediate ones.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// A certificate in use. Clones share it, so that one reload serves all listeners.
#[derive(Debug, Clone)]
pub struct TlsHandle {
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

impl TlsHandle {
    /// Loads the files.
    pub fn load(files: &CertificateFiles) -> Result<Self, TlsError> {
        let current = Arc::new(Current(ArcSwap::new(certified_key(files)?)));
        let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        // A ticket knows its session by itself, so that any number of clients may come back.
        config.ticketer = Ticketer::new().map_err(setup)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        Ok(Self { current, config: Arc::new(config) })
    }

    /// Loads the files again; new connections get the new certificate. On an
    /// error the old one stays.
    pub fn reload(&self, files: &CertificateFiles) -> Result<(), TlsError> {
        let key = certified_key(files)?;
        self.current.0.store(key);
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// The ciphers with AES-128 first, as browsers have it. With AES-256 come the hashes of SHA-384, for which
/// processors have no instructions: a tenth of a handshake's time.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_aes_128 = |suite: &SupportedCipherSuite| {
        use CipherSuite as C;
        let suites = [
            C::TLS13_AES_128_GCM_SHA256,
            C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ];
        suites.contains(&suite.suite())
    };
    provider.cipher_suites.sort_by_key(|suite| (suite.tls13().is_none(), !is_aes_128(suite)));
    provider
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified_key(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key_pem = read(&files.key)?;
    let no_key = |reason: String| TlsError::NoKey { path: files.key.clone(), reason };
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| no_key(error.to_string()))?;
    let key = any_supported_type(&key).map_err(|error| no_key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() })
        }
        Err(error) => Err(TlsError::Invalid { path: files.certificate.clone(), reason: error.to_string() }),
    }
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(TlsError::NoCertificate { path: path.to_owned() }),
        Err(error) => Err(TlsError::Invalid { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
