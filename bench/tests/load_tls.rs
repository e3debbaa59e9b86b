//! The load generator over TLS and HTTP/2, and with idle connections, against a hyper server on real sockets.

#![expect(clippy::unwrap_used, reason = "a test states its invariants by panicking")]

use fanal_bench::load::{Method, Options, Report, run, run_and_look};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// `visitor<TAB>nonce` of what was answered with 204.
    good: Mutex<Vec<String>>,
    /// Requests that came over HTTP/2.
    http2: AtomicUsize,
}

struct Server {
    address: String,
    seen: Arc<Seen>,
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn start(tls: bool, bad_at: usize) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Seen::default());
    let (acceptor, shared) = (tls.then(acceptor), Arc::clone(&seen));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&shared));
            seen.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                match acceptor {
                    None => talk(stream, seen, bad_at).await,
                    Some(acceptor) => talk(acceptor.accept(stream).await.unwrap(), seen, bad_at).await,
                }
            });
        }
    });
    Server { address, seen }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seen: Arc<Seen>, bad_at: usize) {
    seen.open.fetch_add(1, Ordering::SeqCst);
    let shared = Arc::clone(&seen);
    let service = hyper::service::service_fn(move |request| {
        let status = answer(&request, &shared, bad_at);
        async move { Ok::<_, Infallible>(Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap()) }
    });
    drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

fn answer(request: &Request<Incoming>, seen: &Seen, bad_at: usize) -> u16 {
    assert_eq!(request.headers()["accept-language"], "en-GB,en;q=0.9", "the last header of the table");
    assert!(request.headers()["user-agent"].to_str().unwrap().starts_with("Mozilla/5.0"));
    seen.http2.fetch_add(usize::from(request.version() == hyper::Version::HTTP_2), Ordering::SeqCst);
    if (seen.requests.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(bad_at) {
        return 503;
    }
    let query = request.uri().query().unwrap().to_owned();
    let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap().to_owned();
    seen.good.lock().unwrap().push(format!("{}\t{}", field("visitorCode="), field("nonce=")));
    204
}

fn options(server: &Server, tls: bool) -> Options {
    Options {
        address: server.address.clone(),
        site: "abcdefghij".to_owned(),
        connections: 4,
        rate: None,
        duration: Duration::from_millis(400),
        lines_per_request: 1,
        method: Method::Get,
        visitors: 50,
        retry: false,
        acked: None,
        seed: 9,
        tls,
        new_connections: false,
        resume: false,
        http2_streams: None,
        idle: false,
    }
}

/// A run whose acknowledged lines are exactly what the server took.
async fn agreed(server: &Server, options: Options) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acked");
    let report = run(&Options { acked: Some(path.clone()), ..options }).await.unwrap();
    let mut acked: Vec<String> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    let mut good = server.seen.good.lock().unwrap().clone();
    acked.sort();
    good.sort();
    assert!(acked.len() > 20, "{report:?}");
    assert_eq!(acked, good);
    assert_eq!((report.broken, report.timeouts, report.connect_errors), (0, 0, 0), "{report:?}");
    assert_eq!(report.requests_acked, acked.len() as u64);
    report
}

#[tokio::test]
async fn each_new_connection_is_a_whole_handshake() {
    let server = start(true, usize::MAX).await;
    let report = agreed(&server, Options { new_connections: true, ..options(&server, true) }).await;
    assert_eq!((report.handshakes, report.handshakes_resumed), (report.requests_acked, 0));
    assert_eq!(server.seen.connections.load(Ordering::SeqCst) as u64, report.requests_acked);
}

#[tokio::test]
async fn tickets_shorten_every_handshake_of_a_client_but_the_first() {
    let server = start(true, usize::MAX).await;
    let resume = Options { new_connections: true, resume: true, ..options(&server, true) };
    let report = agreed(&server, resume).await;
    assert_eq!(report.handshakes_resumed, report.handshakes - 4, "{report:?}");
}

#[tokio::test]
async fn keep_alive_over_tls_is_one_handshake_per_connection() {
    let server = start(true, usize::MAX).await;
    let report = agreed(&server, options(&server, true)).await;
    assert_eq!(report.handshakes, 4);
    assert_eq!(server.seen.http2.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn http2_acknowledges_exactly_what_was_answered_with_2xx() {
    for tls in [true, false] {
        let server = start(tls, 10).await;
        let report = agreed(&server, Options { http2_streams: Some(8), ..options(&server, tls) }).await;
        let requests = server.seen.requests.load(Ordering::SeqCst);
        assert_eq!(report.by_status[&204] + report.by_status[&503], requests as u64);
        assert_eq!(server.seen.http2.load(Ordering::SeqCst), requests);
        assert_eq!(server.seen.connections.load(Ordering::SeqCst), 4);
        assert!(report.by_status[&503] > 5, "{report:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_open_when_they_are_looked_at() {
    let server = start(false, usize::MAX).await;
    let seen = Arc::clone(&server.seen);
    let idle = Options { idle: true, connections: 200, ..options(&server, false) };
    let (report, open) = run_and_look(&idle, || seen.open.load(Ordering::SeqCst)).await.unwrap();
    assert_eq!((open, report.requests_acked, report.idle_kept), (200, 200, 200));
}

#[tokio::test]
async fn what_cannot_be_combined_is_refused_by_name() {
    let server = start(false, usize::MAX).await;
    let error = run(&Options { resume: true, ..options(&server, false) }).await.unwrap_err();
    assert!(error.to_string().contains("--new-connections"), "{error}");
    let both = Options { http2_streams: Some(8), rate: Some(9.0), ..options(&server, false) };
    let error = run(&both).await.unwrap_err();
    assert!(error.to_string().starts_with("--http2 cannot be combined with --rate"), "{error}");
}
