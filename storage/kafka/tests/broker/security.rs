//! TLS and SASL, on a broker of the test's own that takes nobody without them.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fanal_kafka::{Kafka, KafkaConfig, KafkaError, SaslMechanism, SaslSection, TlsSection};
use fanal_model::HumanDuration;
use fanal_storage::log::Family;

use crate::support::{Running, beacons, config, partition, read_all};

const PASSWORD: &str = "correct horse battery staple";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// As the stack finds it.
fn java() -> String {
    let script = root().join("scripts/stack/java.sh");
    let found = Command::new("bash").arg("-c").arg(". \"$0\" && java_of_stack").arg(script).output().unwrap();
    assert!(found.status.success(), "there is no Java for Kafka: run scripts/install.sh stack");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A certificate for 127.0.0.1 alone and who signed it; the broker's file has the key as well.
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
    let path = folder.join("ca.pem");
    fs::write(&path, ca.pem()).unwrap();
    path
}

/// A broker that lets in user `fanal` with the password, over TLS.
struct SecureBroker {
    _process: Running,
    folder: tempfile::TempDir,
    port: u16,
    ca_file: PathBuf,
}

fn properties(folder: &Path, port: u16) -> String {
    let (inside, controller) = (free_port(), free_port());
    let (pem, data) = (folder.join("broker.pem"), folder.join("data"));
    let jaas = "org.apache.kafka.common.security";
    let single = [
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
        "offsets.topic.num.partitions",
        "transaction.state.log.num.partitions",
    ];
    let single: String = single.iter().map(|key| format!("{key}=1\n")).collect();
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=SECURE://127.0.0.1:{port},INSIDE://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=SECURE://127.0.0.1:{port},INSIDE://127.0.0.1:{inside}\n\
         listener.security.protocol.map=SECURE:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=INSIDE\nlog.dirs={}\n\
         ssl.keystore.type=PEM\nssl.keystore.location={}\nsasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN\n\
         listener.name.secure.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule required;\n\
         listener.name.secure.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;\n\
         listener.name.secure.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_fanal=\"{PASSWORD}\";\n\
         auto.create.topics.enable=false\ngroup.initial.rebalance.delay.ms=0\n\
         log.cleaner.dedupe.buffer.size=4194304\n{single}",
        data.display(),
        pem.display(),
    )
}

fn start() -> SecureBroker {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = certificates(folder.path());
    let port = free_port();
    let properties_file = folder.path().join("server.properties");
    fs::write(&properties_file, properties(folder.path(), port)).unwrap();
    let jars = root().join(".cache/stack/kafka");
    assert!(jars.exists(), "{} is missing: run scripts/install.sh stack", jars.display());
    let run = |main: &str, log: &str, arguments: &[&str]| {
        let log = File::create(folder.path().join(log)).unwrap();
        let mut command = Command::new(java());
        command.args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-cp").arg(format!("{}/*", jars.display())).arg(main).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    };
    let file = properties_file.to_str().unwrap();
    let scram = |mechanism: &str| format!("{mechanism}=[name=fanal,password=\"{PASSWORD}\"]");
    let (short, long) = (scram("SCRAM-SHA-256"), scram("SCRAM-SHA-512"));
    let format =
        ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", file, "--add-scram", &short, "--add-scram", &long];
    let formatted = run("kafka.tools.StorageTool", "format.log", &format).status().unwrap();
    let log = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    assert!(formatted.success(), "{}", log("format.log"));
    let process = Running(run("kafka.Kafka", "broker.log", &[file]).spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(120);
    while !log("broker.log").contains("Kafka Server started") {
        assert!(Instant::now() < until, "the broker did not start: {}", log("broker.log"));
        std::thread::sleep(Duration::from_millis(200));
    }
    SecureBroker { _process: process, folder, port, ca_file }
}

impl SecureBroker {
    fn config(&self, name: &str, mechanism: SaslMechanism, password: &str) -> KafkaConfig {
        let password_file = self.folder.path().join(format!("{name}.password"));
        fs::write(&password_file, format!("{password}\n")).unwrap();
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).unwrap();
        KafkaConfig {
            brokers: vec![format!("127.0.0.1:{}", self.port)],
            request_timeout: HumanDuration(Duration::from_secs(20)),
            tls: Some(TlsSection { ca_file: Some(self.ca_file.clone()), ..TlsSection::default() }),
            sasl: Some(SaslSection { mechanism, username: "fanal".to_owned(), password_file }),
            ..config(name)
        }
    }
}

/// Why nobody gets in with `config`.
async fn refusal(mut config: KafkaConfig) -> String {
    config.request_timeout = HumanDuration(Duration::from_secs(3));
    let error = Kafka::connect(config).await.err().expect("nobody gets in with this");
    assert!(matches!(error, KafkaError::Unreachable { .. } | KafkaError::Client(_)), "{error}");
    error.to_string()
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
    let error = refusal(wrong).await;
    assert!(error.contains("uthentication failed"), "{error}");
    assert!(!error.contains("another password"), "{error}");
    let mut unknown_ca = right.clone();
    unknown_ca.tls = Some(TlsSection::default());
    let error = refusal(unknown_ca).await;
    assert!(error.contains("certificate"), "{error}");
    // The certificate is for the address, not for this name of it.
    let mut other_name = right.clone();
    other_name.brokers = vec![format!("localhost:{}", broker.port)];
    let error = refusal(other_name).await;
    assert!(error.contains("certificate"), "{error}");
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
