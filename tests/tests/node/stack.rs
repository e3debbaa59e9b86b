//! The stack of real servers: what is killed comes back on its data, what is
//! started ends, and nothing else does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanal_tests::{Answer, Call, Fault, Folder, Proxy, Stack, checkout, eventually, fanal, run, run_ok};

const PATIENCE: Duration = Duration::from_secs(60);

fn query(stack: &Stack, sql: &str) -> Answer {
    Call::new("POST", stack.clickhouse()).option(&["--max-time", "5"]).body(sql).send()
}

/// The script by hand, as a person calls it.
fn script(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(checkout().join("scripts/stack.sh"));
    command.args(words).arg("--dir").arg(folder).env("FANAL_BIN", fanal());
    command
}

/// Process ids that the folder names, whether they live or not.
fn pids(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("pid")).ok());
    files.map(|text| text.split_whitespace().next().unwrap().to_owned()).collect()
}

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_killed_server_comes_back_on_the_data_that_it_kept() {
    let folder = Folder::new("stack-kill");
    let stack = Stack::start(folder.path(), &["clickhouse", "mariadb"]);
    assert!(stack.is_ready(&["clickhouse", "mariadb"]));
    for sql in ["CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n", "INSERT INTO t VALUES (7)"] {
        assert_eq!(query(&stack, sql).status, 200);
    }
    stack.kill("clickhouse");
    assert!(!stack.is_ready(&["clickhouse"]));
    assert_eq!(query(&stack, "SELECT n FROM t").status, 0);
    stack.restart("clickhouse");
    assert_eq!(query(&stack, "SELECT n FROM t").text().trim(), "7");
}

#[test]
fn a_paused_server_accepts_and_answers_once_it_goes_on() {
    let folder = Folder::new("stack-pause");
    let stack = Stack::start(folder.path(), &["clickhouse"]);
    stack.pause("clickhouse");
    assert!(!stack.is_ready(&["clickhouse"]));
    let address = stack.clickhouse().trim_start_matches("http://").to_owned();
    TcpStream::connect(address).expect("the kernel still accepts");
    assert_eq!(query(&stack, "SELECT 1").status, 0);
    stack.resume("clickhouse");
    assert_eq!(query(&stack, "SELECT 1").text().trim(), "1");
}

#[test]
fn starting_again_does_nothing_and_dropping_ends_everything() {
    let folder = Folder::new("stack-again");
    let stack = Stack::start(folder.path(), &["clickhouse", "mariadb"]);
    let mut before = pids(folder.path());
    stack.restart("clickhouse");
    run_ok(&mut script(folder.path(), &["start", "mariadb", "clickhouse"]), PATIENCE);
    let mut after = pids(folder.path());
    before.sort();
    after.sort();
    assert_eq!(after, before);
    assert_eq!(after.iter().filter(|pid| lives(pid)).count(), 3, "two servers and the watcher: {after:?}");
    drop(stack);
    assert!(!after.iter().any(|pid| lives(pid)), "{after:?}");
}

#[test]
fn a_stack_ends_when_its_owner_was_killed() {
    let folder = Folder::new("stack-owner");
    let mut owner = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = owner.id().to_string();
    let words = ["start", "clickhouse", "--base-port", "free", "--owner", &pid];
    run_ok(&mut script(folder.path(), &words), PATIENCE);
    let started = pids(folder.path());
    assert_eq!(started.len(), 2);
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually(PATIENCE, "end of the stack", || (!started.iter().any(|pid| lives(pid))).then_some(()));
}

#[test]
fn a_pid_that_another_process_has_got_is_left_alone() {
    let folder = Folder::new("stack-pid");
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::create_dir(folder.join("mariadb")).unwrap();
    std::fs::write(folder.join("mariadb/pid"), format!("{} 1/another-boot\n", bystander.id())).unwrap();
    let kill = run(&mut script(folder.path(), &["kill", "mariadb"]), PATIENCE);
    assert_eq!(kill.code, 1, "{}", kill.stderr);
    run_ok(&mut script(folder.path(), &["stop"]), PATIENCE);
    assert!(bystander.try_wait().unwrap().is_none(), "the bystander was ended");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn half_made_data_is_made_again() {
    let folder = Folder::new("stack-half");
    std::fs::create_dir_all(folder.join("mariadb/data/mysql")).unwrap();
    std::fs::write(folder.join("mariadb/data/ibdata1"), "torn").unwrap();
    let stack = Stack::start(folder.path(), &["mariadb"]);
    assert!(stack.mariadb().starts_with("mysql://fanal:"));
}

#[test]
fn a_taken_port_is_named() {
    let folder = Folder::new("stack-taken");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = (taken.local_addr().unwrap().port() - 40).to_string();
    let start = run(&mut script(folder.path(), &["start", "clickhouse", "--base-port", &base]), PATIENCE);
    assert_eq!(start.code, 1);
    assert!(
        start.stderr.contains("is taken by another program, and clickhouse needs it"),
        "{}",
        start.stderr
    );
}

#[test]
fn what_cannot_start_is_named_with_the_end_of_its_log() {
    let folder = Folder::new("stack-fails");
    let mut start = script(folder.path(), &["start", "clickhouse", "--base-port", "free"]);
    let start = run(start.env("FANAL_BIN", "/nonexistent/fanal"), PATIENCE);
    assert_eq!(start.code, 1);
    assert!(start.stderr.contains("clickhouse has ended"), "{}", start.stderr);
    assert!(start.stderr.contains("/nonexistent/fanal is missing; build it with"), "{}", start.stderr);
}

/// The broker's address as a client learns it: a metadata request, version 1.
fn told_address(broker: &str) -> Option<(String, i32)> {
    let mut connection = TcpStream::connect(broker).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // Length, key 3 (metadata), version 1, correlation 9, no client id, all topics.
    connection.write_all(b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x09\xff\xff\xff\xff\xff\xff").ok()?;
    let mut length = [0; 4];
    connection.read_exact(&mut length).ok()?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    connection.read_exact(&mut answer).ok()?;
    // Correlation, number of brokers, node; then host and port.
    let host_bytes = usize::from(u16::from_be_bytes(answer[12..14].try_into().unwrap()));
    let host = String::from_utf8(answer[14..14 + host_bytes].to_vec()).unwrap();
    let port = i32::from_be_bytes(answer[14 + host_bytes..18 + host_bytes].try_into().unwrap());
    Some((host, port))
}

#[test]
fn kafka_behind_a_proxy_keeps_its_clients_there() {
    let folder = Folder::new("stack-kafka");
    let proxy = Proxy::listen();
    let stack = Stack::start_behind_proxy(folder.path(), &["kafka"], proxy.port());
    proxy.connect_to(stack.kafka_behind_proxy());
    let through = ("127.0.0.1".to_owned(), i32::from(proxy.port()));
    assert_eq!(told_address(&proxy.address()), Some(through.clone()));
    let direct: i32 = stack.kafka().rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(told_address(stack.kafka()), Some(("127.0.0.1".to_owned(), direct)));
    proxy.set(Fault::HalfOpen);
    assert_eq!(told_address(&proxy.address()), None);
    assert!(proxy.swallowed_bytes() > 0);
    proxy.set(Fault::Pass);
    stack.kill("kafka");
    assert_eq!(told_address(&proxy.address()), None);
    stack.restart("kafka");
    assert_eq!(told_address(&proxy.address()), Some(through));
}
