//! A certificate authority of this machine, for trying Fanal without
//! certificates of one's own.
//!
//! Never used by `fanal run`. What must stay true: the authority stays the same
//! over restarts, because clients were told to trust it; its key and the
//! server's are readable by the owner only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::{CertificateFiles, TlsError, certificates};
use crate::secret::replace;

const DAY: Duration = Duration::from_secs(86_400);
/// Browsers refuse server certificates that are valid for longer.
const VALID_FOR: Duration = Duration::from_secs(397 * 86_400);
/// A server certificate is made anew when less than this is left of it.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// The authority outlives every installation that uses it for trying.
const AUTHORITY_VALID_FOR: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Hosts of the SDK protocol below the network domain.
const HOSTS: [&str; 4] = ["data", "sdk-config", "api", "events"];

/// A certificate made here.
#[derive(Debug, Clone)]
pub struct LocalCertificate {
    /// What clients must trust.
    pub authority: PathBuf,
    pub files: CertificateFiles,
    /// Whether the server's certificate was made by this call.
    pub renewed: bool,
}

/// The certificate in `folder` for `domain`, made or renewed if need be.
pub fn local_certificate(folder: &Path, domain: &str) -> Result<LocalCertificate, TlsError> {
    std::fs::create_dir_all(folder).map_err(|source| TlsError::Write { path: folder.to_owned(), source })?;
    let made = LocalCertificate {
        authority: folder.join("ca.pem"),
        files: CertificateFiles { certificate: folder.join("server.pem"), key: folder.join("server.key") },
        renewed: false,
    };
    let domain = domain.trim().trim_matches('.').to_ascii_lowercase();
    let authority = Authority::load_or_make(folder, &domain)?;
    if is_good(&made, &domain) {
        return Ok(made);
    }
    authority.issue(&made.files, &domain)?;
    Ok(LocalCertificate { renewed: true, ..made })
}

fn is_good(made: &LocalCertificate, domain: &str) -> bool {
    super::certified_key(&made.files).is_ok()
        && checks_out(&made.authority, &made.files.certificate, domain).unwrap_or(false)
}

/// Whether a client that trusts the authority would accept the certificate for
/// every name, even shortly before it is to be renewed.
fn checks_out(authority: &Path, certificate: &Path, domain: &str) -> Result<bool, TlsError> {
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let mut roots = rustls::RootCertStore::empty();
    for root in certificates(authority)? {
        roots.add(root).map_err(|error| setup(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| setup(&error))?;
    let chain = certificates(certificate)?;
    let Some((own, rest)) = chain.split_first() else { return Ok(false) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok([Duration::ZERO, RENEW_BEFORE].into_iter().all(|ahead| {
        names(domain).iter().filter(|name| !name.starts_with('*')).all(|name| {
            ServerName::try_from(name.as_str()).is_ok_and(|name| {
                let at = UnixTime::since_unix_epoch(now + ahead);
                verifier.verify_server_cert(own, rest, &name, &[], at).is_ok()
            })
        })
    }))
}

fn names(domain: &str) -> Vec<String> {
    let mut names = vec![domain.to_owned(), format!("*.{domain}")];
    names.extend(HOSTS.iter().map(|host| format!("{host}.{domain}")));
    for always in ["localhost", "127.0.0.1"] {
        if !names.iter().any(|name| name == always) {
            names.push(always.to_owned());
        }
    }
    names
}

struct Authority {
    key: KeyPair,
    certificate_pem: String,
}

impl Authority {
    fn load_or_make(folder: &Path, domain: &str) -> Result<Self, TlsError> {
        let (certificate, key_file) = (folder.join("ca.pem"), folder.join("ca.key"));
        if certificate.exists() && key_file.exists() {
            let read = |path: &Path| {
                std::fs::read_to_string(path)
                    .map_err(|source| TlsError::Read { path: path.to_owned(), source })
            };
            let key = KeyPair::from_pem(&read(&key_file)?)
                .map_err(|error| TlsError::NoKey { path: key_file.clone(), reason: error.to_string() })?;
            return Ok(Self { key, certificate_pem: read(&certificate)? });
        }
        let failed =
            |error: rcgen::Error| TlsError::Make { domain: domain.to_owned(), reason: error.to_string() };
        let key = KeyPair::generate().map_err(failed)?;
        let pem = Self::params().self_signed(&key).map_err(failed)?.pem();
        write(&key_file, &key.serialize_pem(), 0o600)?;
        write(&certificate, &pem, 0o644)?;
        Ok(Self { key, certificate_pem: pem })
    }

    /// The same at every start: the issuer's name in a server's certificate is made from it.
    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Fanal local CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, AUTHORITY_VALID_FOR);
        params
    }

    fn issue(self, files: &CertificateFiles, domain: &str) -> Result<(), TlsError> {
        let failed =
            |error: rcgen::Error| TlsError::Make { domain: domain.to_owned(), reason: error.to_string() };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names(domain)).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, domain);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, VALID_FOR);
        let issuer = Issuer::new(Self::params(), self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        write(&files.key, &key.serialize_pem(), 0o600)?;
        write(&files.certificate, &format!("{}{}", certificate.pem(), self.certificate_pem), 0o644)
    }
}

fn validity(params: &mut CertificateParams, length: Duration) {
    // A client's clock may be a little behind ours.
    let from = SystemTime::now() - DAY;
    params.not_before = from.into();
    params.not_after = (from + length).into();
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    replace(path, text.as_bytes(), mode).map_err(|source| TlsError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pem(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_local_certificate_is_reused_and_renewed_for_another_domain_under_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let first = local_certificate(folder.path(), "Shop.Test.").unwrap();
        let (ca, server) = (pem(&first.authority), pem(&first.files.certificate));
        assert!(first.renewed);
        assert!(checks_out(&first.authority, &first.files.certificate, "shop.test").unwrap());
        for key in ["ca.key", "server.key"] {
            let mode = std::fs::metadata(folder.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }

        let again = local_certificate(folder.path(), "shop.test").unwrap();
        assert!(!again.renewed);
        assert_eq!(pem(&again.files.certificate), server);

        let other = local_certificate(folder.path(), "other.test").unwrap();
        assert!(other.renewed);
        assert_eq!(pem(&other.authority), ca);
        assert!(!checks_out(&other.authority, &other.files.certificate, "shop.test").unwrap());
        assert!(checks_out(&other.authority, &other.files.certificate, "other.test").unwrap());
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = local_certificate(&folder.path().join("a"), "a.test").unwrap();
        let second = local_certificate(&folder.path().join("b"), "a.test").unwrap();
        let mixed = CertificateFiles { certificate: first.files.certificate, key: second.files.key };
        let error = super::super::TlsHandle::load(&mixed).unwrap_err().to_string();
        assert!(error.contains("do not belong together") && error.contains("server.key"), "{error}");
    }
}
