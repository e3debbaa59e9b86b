//! Cassandra that is away, silent, or cut off in the middle; and its schema.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{cassandra_address, cassandra_config, limits, now_ms, unique, visit};
use fanal_profiles::{CassandraConfig, CassandraProfiles, ProfileBatch, ProfileError, Profiles};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy before Cassandra does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Passes,
    /// Takes connections and bytes, and gives nothing back.
    IsSilent,
    /// Ends every connection at once.
    Cuts,
}

struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    async fn start(listener: TcpListener, mode: Mode) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (sender, receiver) = watch::channel(mode);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, receiver.clone()));
            }
        });
        Self { address, mode: sender }
    }
}

async fn relay(mut client: TcpStream, mut mode: watch::Receiver<Mode>) {
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Cuts => return,
            Mode::IsSilent => {
                // The connection stays open; nothing is read from it.
                if mode.changed().await.is_err() {
                    return;
                }
            }
            Mode::Passes => {
                let Ok(mut server) = TcpStream::connect(cassandra_address()).await else { return };
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => return,
                    changed = mode.changed() => {
                        // What stood open is half-open now: its bytes go nowhere.
                        if changed.is_err() || *mode.borrow() != Mode::IsSilent {
                            return;
                        }
                        let _ended = mode.changed().await;
                        return;
                    }
                }
            }
        }
    }
}

fn impatient(node: &str) -> CassandraConfig {
    CassandraConfig {
        nodes: vec![node.to_owned()],
        connect_timeout_ms: 3000,
        request_timeout_ms: 1000,
        attempts_max: 2,
        ..cassandra_config()
    }
}

fn open(config: &CassandraConfig) -> Profiles {
    Profiles::Cassandra(CassandraProfiles::new(config, None, limits()).unwrap())
}

/// A batch for a visitor of its own.
fn batch(site: &str) -> ProfileBatch {
    let visits = (0..200).map(|i| visit(site, &format!("v{i}"), 1, now_ms(), 1)).collect();
    ProfileBatch { visits, ..ProfileBatch::default() }
}

async fn heals_within(profiles: &Profiles, batch: &ProfileBatch, time: Duration) {
    let began = Instant::now();
    while let Err(error) = profiles.write(batch).await {
        assert!(error.is_temporary(), "{error}");
        assert!(began.elapsed() < time, "not healed after {time:?}: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    profiles.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cassandra_that_is_away_is_a_bounded_clear_error_until_it_comes() {
    // Makes the tables with time enough, so that the short limits below meet none missing.
    open(&cassandra_config()).ping().await.unwrap();
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let profiles = open(&impatient(&address.to_string()));
    let began = Instant::now();
    // Many that ask at a time wait for one attempt, not for one each.
    let asking = (0..20).map(|_| profiles.ping());
    for asked in futures_util::future::join_all(asking).await {
        let error = asked.unwrap_err();
        assert!(matches!(error, ProfileError::Unreachable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("[profiles.cassandra]"), "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let _proxy = Proxy::start(TcpListener::bind(address).await.unwrap(), Mode::Passes).await;
    heals_within(&profiles, &batch(&unique("site")), Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_answers_is_a_bounded_clear_error_at_the_start() {
    let proxy = Proxy::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), Mode::IsSilent).await;
    let profiles = open(&impatient(&proxy.address));
    let began = Instant::now();
    let error = profiles.ping().await.unwrap_err();
    assert!(matches!(error, ProfileError::Unreachable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_falls_silent_or_is_cut_off_fails_writes_in_time_and_heals() {
    open(&cassandra_config()).ping().await.unwrap();
    let proxy = Proxy::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), Mode::Passes).await;
    let profiles = Arc::new(open(&impatient(&proxy.address)));
    for mode in [Mode::IsSilent, Mode::Cuts] {
        let site = unique("site");
        heals_within(&profiles, &batch(&site), Duration::from_secs(30)).await;
        proxy.mode.send_replace(mode);
        let broken = batch(&site);
        let began = Instant::now();
        let error = profiles.write(&broken).await.unwrap_err();
        assert!(error.is_temporary(), "{mode:?}: {error}");
        assert!(began.elapsed() < Duration::from_secs(12), "{mode:?}: {:?}", began.elapsed());
        let began = Instant::now();
        profiles.ping().await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(3), "{mode:?}: {:?}", began.elapsed());
        proxy.mode.send_replace(Mode::Passes);
        heals_within(&profiles, &broken, Duration::from_secs(60)).await;
        for written in &broken.visits {
            let visitor = &written.visit.visitor_code;
            let profile = profiles.visitor(&site, visitor).await.unwrap().unwrap();
            assert_eq!(profile.visits.len(), 2, "{mode:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_made_once_by_processes_that_start_together_and_newer_ones_are_refused() {
    let keyspace = unique("fanal_schema").replace('-', "_");
    let config = CassandraConfig { keyspace: keyspace.clone(), ..cassandra_config() };
    let missing = open(&CassandraConfig { create_keyspace: false, ..config.clone() });
    let error = missing.ping().await.unwrap_err();
    assert!(error.to_string().contains("create_keyspace"), "{error}");

    let processes: Vec<_> = (0..3).map(|_| open(&config)).collect();
    let started = futures_util::future::join_all(processes.iter().map(Profiles::ping)).await;
    let site = unique("site");
    processes[0].write(&batch(&site)).await.unwrap();
    assert!(processes[2].visitor(&site, "v7").await.unwrap().is_some());

    let session = scylla::client::session_builder::SessionBuilder::new()
        .known_node(cassandra_address())
        .build()
        .await
        .unwrap();
    let newer = format!("INSERT INTO {keyspace}.schema_version (name, version) VALUES ('profiles', 2)");
    session.query_unpaged(newer, ()).await.unwrap();
    let error = open(&config).ping().await.unwrap_err();
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await.unwrap();
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    assert!(matches!(error, ProfileError::NewerSchema { found: 2, known: 1 }), "{error}");
}
