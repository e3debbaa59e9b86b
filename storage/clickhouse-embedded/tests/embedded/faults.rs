//! What happens when a process dies, a directory is taken, a library is missing.

use std::time::{Duration, Instant};

use crate::curl::post;
use crate::served::{Folder, Server, failing_start, server_with_parent};

#[test]
fn kill_and_restart_keep_what_was_acknowledged() {
    let folder = Folder::new();
    let mut acknowledged = 0;
    for round in 0..4 {
        let mut server = Server::start(&folder.0);
        if round == 0 {
            post(&server, "", "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a").ok();
        }
        assert_eq!(
            post(&server, "", "SELECT count(), uniqExact(a) FROM t").ok(),
            format!("{acknowledged}\t{acknowledged}\n")
        );
        for _ in 0..5 {
            post(&server, "", &format!("INSERT INTO t SELECT number FROM numbers({acknowledged}, 1000)"))
                .ok();
            acknowledged += 1000;
        }
        server.kill();
    }
}

#[test]
fn a_stop_lets_a_running_statement_end_and_closes_the_engine() {
    let folder = Folder::new();
    let mut server = Server::start(&folder.0);
    post(&server, "", "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a").ok();
    let url = server.url("");
    let slow = std::thread::spawn(move || {
        crate::curl::curl(
            &["-d", "INSERT INTO t SELECT sleepEachRow(0.5) + number FROM numbers(4)", &url],
            b"",
        )
    });
    std::thread::sleep(Duration::from_millis(700));
    let status = server.stop();
    assert!(status.success(), "{status}");
    slow.join().unwrap().ok();
    let server = Server::start(&folder.0);
    assert_eq!(post(&server, "", "SELECT count() FROM t").ok(), "4\n");
}

#[test]
fn a_second_process_on_the_directory_gets_a_clear_error() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let (success, text) = failing_start(&folder.0, None);
    assert!(!success);
    assert!(text.contains("in use by another process (code 76)"), "{text}");
    assert!(text.contains(folder.0.to_str().unwrap()), "{text}");
    assert_eq!(post(&server, "", "SELECT 1").ok(), "1\n", "the first one goes on");
}

#[test]
fn a_missing_or_wrong_library_names_the_remedy() {
    let folder = Folder::new();
    let (success, text) = failing_start(&folder.0, Some(&folder.0.join("libchdb.so")));
    assert!(!success && text.contains("libchdb.so is missing") && text.contains("`make run`"), "{text}");
    let wrong = folder.0.join("wrong.so");
    std::fs::write(&wrong, b"not a library").unwrap();
    let (success, text) = failing_start(&folder.0, Some(&wrong));
    assert!(!success && text.contains("cannot load") && text.contains("FANAL_LIBCHDB"), "{text}");
}

#[test]
fn the_server_dies_with_its_parent() {
    let folder = Folder::new();
    let (mut parent, address) = server_with_parent(&folder.0);
    let reachable = || std::net::TcpStream::connect(&address).is_ok();
    let start = Instant::now();
    while !reachable() {
        assert!(start.elapsed() < Duration::from_secs(30), "the server did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    let start = Instant::now();
    while reachable() {
        assert!(start.elapsed() < Duration::from_secs(10), "the server lives on without its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Its end was in order: the directory is free again.
    let start = Instant::now();
    let mut freed = false;
    while !freed && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
        // It may have ended before it took the directory at all.
        freed = match std::fs::File::open(folder.0.join("fanal.lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
    }
    assert!(freed, "the directory is still locked");
}
