//! TLS and SASL, on a broker of the test's own that takes nobody without them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanal_kafka::{Kafka, KafkaConfig, KafkaError, SaslMechanism, SaslSection, TlsSection};
use fanal_model::HumanDuration;
use fanal_storage::log::{AppendError, Family};

use crate::own_broker::{OwnBroker, free_port};
use crate::support::{beacons, config, partition, read_all};

const PASSWORD: &str = "correct horse battery staple";

/// A certificate for 127.0.0.1 alone and who signed it; the broker's file has the key as
/// well. The same authority knows one client.
fn certificates(folder: &Path) -> PathBuf {
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // Names of their own: a certificate with its issuer's name would count as self-signed.
    ca.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    let ca = rcgen::CertifiedIssuer::self_signed(ca, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    server.distinguished_name.push(rcgen::DnType::CommonName, "test broker");
    let server = server.signed_by(&key, &ca).unwrap();
    fs::write(folder.join("broker.pem"), format!("{}{}", key.serialize_pem(), server.pem())).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut client = rcgen::CertificateParams::new(Vec::new()).unwrap();
    client.distinguished_name.push(rcgen::DnType::CommonName, "test collector");
    let client = client.signed_by(&key, &ca).unwrap();
    fs::write(folder.join("client.pem"), client.pem()).unwrap();
    fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
    let path = folder.join("ca.pem");
    fs::write(&path, ca.pem()).unwrap();
    path
}

/// A broker that lets in user `fanal` with the password, over TLS.
struct SecureBroker {
    own: OwnBroker,
    port: u16,
    ca_file: PathBuf,
}

fn properties(port: u16) -> String {
    let (inside, controller) = (free_port(), free_port());
    let jaas = "org.apache.kafka.common.security";
    format!(
        "controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=SECURE://127.0.0.1:{port},INSIDE://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=SECURE://127.0.0.1:{port},INSIDE://127.0.0.1:{inside}\n\
         listener.security.protocol.map=SECURE:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=INSIDE\n\
         ssl.keystore.type=PEM\nssl.keystore.location={{folder}}/broker.pem\n\
         ssl.truststore.type=PEM\nssl.truststore.location={{folder}}/ca.pem\n\
         listener.name.secure.ssl.client.auth=required\n\
         sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN\n\
         listener.name.secure.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule required;\n\
         listener.name.secure.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;\n\
         listener.name.secure.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_fanal=\"{PASSWORD}\";\n"
    )
}

fn start() -> SecureBroker {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = certificates(folder.path());
    let port = free_port();
    let scram = |mechanism: &str| format!("{mechanism}=[name=fanal,password=\"{PASSWORD}\"]");
    let (short, long) = (scram("SCRAM-SHA-256"), scram("SCRAM-SHA-512"));
    let mut own =
        OwnBroker::format(folder, &properties(port), &["--add-scram", &short, "--add-scram", &long]);
    own.start();
    SecureBroker { own, port, ca_file }
}

impl SecureBroker {
    fn config(&self, name: &str, mechanism: SaslMechanism, password: &str) -> KafkaConfig {
        let password_file = self.own.folder.path().join(format!("{name}.password"));
        fs::write(&password_file, format!("{password}\n")).unwrap();
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).unwrap();
        KafkaConfig {
            brokers: vec![format!("127.0.0.1:{}", self.port)],
            request_timeout: HumanDuration(Duration::from_secs(20)),
            tls: Some(TlsSection {
                ca_file: Some(self.ca_file.clone()),
                certificate_file: Some(self.own.folder.path().join("client.pem")),
                key_file: Some(self.own.folder.path().join("client.key")),
            }),
            sasl: Some(SaslSection { mechanism, username: "fanal".to_owned(), password_file }),
            ..config(name)
        }
    }
}

/// Why nobody gets in with `config`, neither to ask nor to append.
async fn refusal(mut config: KafkaConfig) -> [String; 2] {
    config.request_timeout = HumanDuration(Duration::from_secs(3));
    config.confirm_timeout = HumanDuration(Duration::from_secs(3));
    let log = Kafka::open(config.clone()).unwrap().log();
    let refused = log.append(beacons(&["site\0v"], "never")).await.unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
    let error = Kafka::connect(config).await.err().expect("nobody gets in with this");
    assert!(matches!(error, KafkaError::Unreachable { .. } | KafkaError::Client(_)), "{error}");
    [error.to_string(), refused.to_string()]
}

fn assert_says(refusal: &[String; 2], part: &str) {
    assert!(refusal.iter().all(|why| why.contains(part)), "{refusal:?}");
    assert!(!refusal.iter().any(|why| why.contains("another password")), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_password_over_a_verified_connection_gets_in() {
    let broker = tokio::task::spawn_blocking(start).await.unwrap();
    for (name, mechanism) in [
        ("scram-512", SaslMechanism::ScramSha512),
        ("scram-256", SaslMechanism::ScramSha256),
        ("plain", SaslMechanism::Plain),
    ] {
        let kafka = Kafka::connect(broker.config(name, mechanism, PASSWORD)).await.unwrap();
        let appended = kafka.log().append(beacons(&["site\0v"], name)).await.unwrap();
        let read = read_all(&kafka, partition(Family::Beacons, appended.partition.index())).await;
        assert_eq!(read.last().unwrap().3, name.as_bytes());
    }
    let right = broker.config("right", SaslMechanism::ScramSha512, PASSWORD);
    let wrong = broker.config("wrong", SaslMechanism::ScramSha512, "another password");
    assert_says(&refusal(wrong).await, "uthentication failed");
    let mut unknown_ca = right.clone();
    unknown_ca.tls = Some(TlsSection::default());
    assert_says(&refusal(unknown_ca).await, "certificate");
    let mut nobody = right.clone();
    nobody.tls = Some(TlsSection { ca_file: Some(broker.ca_file.clone()), ..TlsSection::default() });
    let [_, append] = refusal(nobody).await;
    assert!(append.contains("alert: BadCertificate"), "{append}");
    // The certificate is for the address, not for this name of it.
    let mut other_name = right.clone();
    other_name.brokers = vec![format!("localhost:{}", broker.port)];
    assert_says(&refusal(other_name).await, "certificate");
    let mut cleartext = right.clone();
    cleartext.tls = None;
    refusal(cleartext).await;
    let exposed = broker.config("exposed", SaslMechanism::ScramSha512, PASSWORD);
    let file = &exposed.sasl.as_ref().unwrap().password_file;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Kafka::open(exposed.clone()).err().expect("others may read the password").to_string();
    assert!(error.contains("chmod 600"), "{error}");
    assert!(!format!("{exposed:?}").contains(PASSWORD), "no password is shown");
}
