//! Workers over real sockets: one port, a thread each, and a hand-over without a failed request.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::{Example, ask, rest};
use fanal_service::http::{HttpLimits, Sharing, Sockets, Workers};
use fanal_service::stop::Stop;
use tokio::net::TcpStream;

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Two workers on `address`.
fn two(address: SocketAddr, sharing: Sharing, limits: HttpLimits) -> (SocketAddr, Workers, Stop) {
    let sockets = Sockets::bind(address, "--http", 2, sharing).unwrap();
    let address = sockets.local_addr().unwrap();
    let (mut workers, stop) = (Workers::start(2, limits).unwrap(), Stop::new());
    workers.serve(sockets, None, &Arc::new(Example), &stop).unwrap();
    (address, workers, stop)
}

#[tokio::test]
async fn all_workers_answer_on_one_port_and_say_who_they_are() {
    let (address, workers, stop) = two(any_port(), Sharing::Alone, HttpLimits::default());
    let mut seen = BTreeSet::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = ask(&mut stream, "/worker").await.unwrap();
        seen.insert(answer.rsplit("\r\n").next().unwrap().to_owned());
    }
    assert_eq!(seen, BTreeSet::from(["0".to_owned(), "1".to_owned()]));
    let before = workers.turns().now();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(workers.turns().all_since(&before));
    stop.stop();
    workers.ended().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_refused_unless_it_is_to_be_taken_over() {
    let (address, _workers, _stop) = two(any_port(), Sharing::Alone, HttpLimits::default());
    let error = Sockets::bind(address, "--http", 2, Sharing::Alone).unwrap_err().to_string();
    assert!(error.contains("already in use") && error.contains("--http"), "{error}");
    drop(Sockets::bind(address, "--http", 2, Sharing::TakeOver).unwrap());

    let other_program = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other_program.local_addr().unwrap();
    for sharing in [Sharing::Alone, Sharing::TakeOver] {
        let error = Sockets::bind(address, "--http", 2, sharing).unwrap_err().to_string();
        assert!(error.contains("already in use"), "{error}");
    }
}

#[tokio::test]
async fn a_socket_that_the_supervisor_keeps_serves_all_workers_and_outlives_them() {
    let kept = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = kept.local_addr().unwrap();
    let mut between = Vec::new();
    for _ in 0..2 {
        let sockets = Sockets::kept(vec![kept.try_clone().unwrap()]).unwrap();
        let (mut workers, stop) = (Workers::start(2, HttpLimits::default()).unwrap(), Stop::new());
        workers.serve(sockets, None, &Arc::new(Example), &stop).unwrap();
        for mut stream in between.drain(..) {
            assert!(ask(&mut stream, "/").await.unwrap().starts_with("HTTP/1.1 204"));
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut stream, "/").await.unwrap().starts_with("HTTP/1.1 204"));
        stop.stop();
        workers.ended().await.unwrap();
        // Whoever comes between the two waits for the second.
        for _ in 0..10 {
            between.push(TcpStream::connect(address).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_on_its_way_and_says_that_it_was_the_last() {
    let (address, workers, stop) = two(any_port(), Sharing::Alone, HttpLimits::default());
    let mut used = TcpStream::connect(address).await.unwrap();
    assert!(!ask(&mut used, "/").await.unwrap().contains("connection: close"));
    let mut unused = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.stop();
    let ended = tokio::spawn(workers.ended());
    tokio::time::sleep(Duration::from_millis(300)).await;
    for stream in [&mut used, &mut unused] {
        let answer = ask(stream, "/").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("connection: close"), "{answer}");
        assert_eq!(rest(stream).await.as_deref(), Some(""));
    }
    ended.await.unwrap().unwrap();
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    done: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Asks on one connection as long as it is told to; a connection that was announced to close is
/// replaced, as every client does.
async fn client(address: SocketAddr, seen: Arc<Seen>, is_keeping: bool) {
    let mut connection = None;
    while !seen.done.load(Relaxed) {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => TcpStream::connect(address).await.unwrap(),
        };
        match ask(&mut stream, "/").await {
            Ok(answer) if answer.starts_with("HTTP/1.1 204") => {
                seen.answered.fetch_add(1, Relaxed);
                if is_keeping && !answer.contains("connection: close") {
                    connection = Some(stream);
                }
            }
            _ => {
                seen.failed.fetch_add(1, Relaxed);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hand_overs_under_load_fail_no_request() {
    let limits = HttpLimits::default();
    let (address, mut workers, mut stop) = two(any_port(), Sharing::TakeOver, limits.clone());
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> =
        (0..32).map(|index| tokio::spawn(client(address, Arc::clone(&seen), index % 2 == 0))).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..2 {
        let next = two(address, Sharing::TakeOver, limits.clone());
        stop.stop();
        let began = Instant::now();
        workers.ended().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        (_, workers, stop) = next;
        let before = seen.answered.load(Relaxed);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(seen.answered.load(Relaxed) > before + 100, "the successor serves");
    }
    seen.done.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(seen.failed.load(Relaxed), 0, "of {}", seen.answered.load(Relaxed));
}
