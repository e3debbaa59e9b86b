//! The harness's proxy: each fault does what its name says, to both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fanal_tests::{Fault, Proxy, eventually, within};

const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough that an answer which is not held back would have come.
const A_WHILE: Duration = Duration::from_millis(300);

/// A server that sends everything back, until its client ends.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = connection.read(&mut piece) {
                    if connection.write_all(&piece[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn client(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn ask(client: &mut TcpStream, text: &str) -> std::io::Result<String> {
    client.write_all(text.as_bytes())?;
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

/// Nothing comes, and the connection stays open.
fn hears_nothing(client: &mut TcpStream) {
    client.set_read_timeout(Some(A_WHILE)).unwrap();
    let kind = client.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn is_reset(client: &mut TcpStream) {
    let kind = client.read(&mut [0; 1]).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::ConnectionReset);
}

#[test]
fn bytes_pass_in_both_directions_and_so_does_the_end() {
    let proxy = Proxy::to(&echo());
    let mut client = client(&proxy);
    let text = "abcdefgh".repeat(100_000);
    let mut writer = client.try_clone().unwrap();
    let sent = text.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    writing.join().unwrap();
    assert!(answer == text, "{} bytes came back of {}", answer.len(), text.len());
    assert_eq!((proxy.accepted(), proxy.swallowed_bytes()), (1, 0));
}

#[test]
fn a_delay_holds_each_direction_back() {
    let proxy = Proxy::to(&echo());
    let mut client = client(&proxy);
    assert_eq!(ask(&mut client, "before").unwrap(), "before");
    proxy.set(Fault::Delay(Duration::from_millis(150)));
    let began = Instant::now();
    assert_eq!(ask(&mut client, "slow").unwrap(), "slow");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[test]
fn a_lifted_delay_lets_waiting_bytes_go() {
    let proxy = Proxy::to(&echo());
    let mut client = client(&proxy);
    proxy.set(Fault::Delay(Duration::from_secs(3600)));
    client.write_all(b"stuck").unwrap();
    hears_nothing(&mut client);
    proxy.set(Fault::Pass);
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"stuck");
}

#[test]
fn a_cut_resets_open_and_new_connections() {
    let proxy = Proxy::to(&echo());
    let mut open = client(&proxy);
    assert_eq!(ask(&mut open, "open").unwrap(), "open");
    proxy.set(Fault::Cut);
    is_reset(&mut open);
    is_reset(&mut client(&proxy));
    proxy.set(Fault::Pass);
    assert_eq!(ask(&mut client(&proxy), "again").unwrap(), "again");
}

#[test]
fn a_half_open_server_accepts_and_never_answers() {
    let proxy = Proxy::to(&echo());
    let mut open = client(&proxy);
    assert_eq!(ask(&mut open, "open").unwrap(), "open");
    let mut idle = client(&proxy);
    assert_eq!(ask(&mut idle, "idle").unwrap(), "idle");
    proxy.set(Fault::HalfOpen);
    let mut new = client(&proxy);
    open.write_all(b"12345").unwrap();
    new.write_all(b"678").unwrap();
    hears_nothing(&mut open);
    hears_nothing(&mut new);
    within(PATIENCE, &8, || proxy.swallowed_bytes());
    proxy.set(Fault::Pass);
    is_reset(&mut open);
    is_reset(&mut new);
    assert_eq!(ask(&mut idle, "nothing of this one was lost").unwrap(), "nothing of this one was lost");
}

#[test]
fn without_answers_the_server_hears_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(&listener.local_addr().unwrap().to_string());
    proxy.set(Fault::NoAnswers);
    let mut client = client(&proxy);
    client.write_all(b"write this").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut heard = [0; 10];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"write this");
    server.write_all(b"done").unwrap();
    hears_nothing(&mut client);
    within(PATIENCE, &4, || proxy.swallowed_bytes());
    proxy.set(Fault::Pass);
    is_reset(&mut client);
}

#[test]
fn a_server_that_is_down_looks_down() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    is_reset(&mut client(&Proxy::to(&gone)));
    is_reset(&mut client(&Proxy::listen()));
}

#[test]
fn a_reset_by_the_server_reaches_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(&listener.local_addr().unwrap().to_string());
    let mut client = client(&proxy);
    client.write_all(b"never read").unwrap();
    let (server, _) = listener.accept().unwrap();
    eventually(PATIENCE, "bytes at the server", || server.peek(&mut [0; 1]).ok());
    // Closing with unread bytes is a reset.
    drop(server);
    is_reset(&mut client);
}

#[test]
fn dropping_resets_connections_and_frees_the_port() {
    let proxy = Proxy::to(&echo());
    let mut open = client(&proxy);
    assert_eq!(ask(&mut open, "open").unwrap(), "open");
    let address = proxy.address();
    drop(proxy);
    is_reset(&mut open);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
