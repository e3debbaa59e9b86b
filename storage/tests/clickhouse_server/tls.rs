//! `https`, before a server that speaks it.

use std::path::PathBuf;
use std::sync::Arc;

use fanal_storage::clickhouse::{ClickHouse, ClickHouseConfig, ClickHouseError};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::served::{config, folder};

/// A loopback port that takes TLS for `localhost` and passes on; its certificate's file.
async fn before(target: String) -> (u16, PathBuf) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let folder = folder();
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("ca.pem");
    std::fs::write(&file, cert.pem()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                if let Ok(mut client) = acceptor.accept(client).await {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (port, file)
}

#[tokio::test]
async fn a_certificate_is_verified() {
    let plain = config("tls");
    let (port, file) = before(plain.url.strip_prefix("http://").unwrap().to_owned()).await;
    let with = |host: &str, tls_ca_file: Option<PathBuf>| {
        let url = format!("https://{host}:{port}");
        ClickHouse::new(ClickHouseConfig { url, tls_ca_file, ..plain.clone() })
    };
    with("localhost", Some(file.clone())).migrate().await.unwrap();
    for unknown in [with("localhost", None), with("127.0.0.1", Some(file.clone()))] {
        let error = unknown.migrate().await.unwrap_err();
        assert!(matches!(error, ClickHouseError::Tls { .. }), "{error}");
        assert!(!error.is_retryable() && error.to_string().contains("tls_ca_file"), "{error}");
    }
    let missing = with("localhost", Some(file.with_extension("missing"))).migrate().await.unwrap_err();
    assert!(matches!(missing, ClickHouseError::Tls { .. }), "{missing}");
    assert!(missing.to_string().contains("ca.missing"), "{missing}");
}
