//! A TCP proxy on loopback with a fault that a test sets while it runs.
//!
//! Knows nothing of what passes. What must stay true: once [`Proxy::set`] has
//! returned, no byte passes that the new fault holds back; and no connection
//! goes on after a piece of it was swallowed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// A thread looks this often whether it shall end; bytes never wait for it.
const POLL: Duration = Duration::from_millis(20);
/// Longest that the server behind may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Largest piece that passes at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What the proxy does to connections, those that are open and those to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes as it comes.
    Pass,
    /// Each piece of up to 64 KiB waits this long, in both directions.
    Delay(Duration),
    /// Connections are reset.
    Cut,
    /// Connections are accepted and stay open; nothing passes, nothing answers.
    HalfOpen,
    /// The server hears everything; its answers never arrive.
    NoAnswers,
}

/// A running proxy; dropping it resets all connections and frees the port.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port. Until [`Proxy::connect_to`], connections are reset.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&accepting, &listener));
        Self { shared, address, acceptor: Some(acceptor) }
    }

    /// Names the server behind, as `host:port` with a numeric host.
    ///
    /// # Panics
    /// When this is no such address.
    pub fn connect_to(&self, server: &str) {
        *self.shared.server.lock().unwrap() = Some(server.parse().unwrap());
    }

    /// A proxy in front of this server.
    ///
    /// # Panics
    /// As [`Proxy::listen`] and [`Proxy::connect_to`].
    #[must_use]
    pub fn to(server: &str) -> Self {
        let proxy = Self::listen();
        proxy.connect_to(server);
        proxy
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes the fault. Connections of which something was swallowed are reset when
    /// the fault ends: their two sides no longer agree.
    ///
    /// # Panics
    /// When a thread of the proxy has panicked.
    pub fn set(&self, fault: Fault) {
        let mut current = self.shared.fault.write().unwrap();
        *current = fault;
        let mut open = self.shared.open.lock().unwrap();
        open.retain(|connection| connection.strong_count() > 0);
        for connection in open.iter().filter_map(Weak::upgrade) {
            let broken = connection.swallowed.load(Ordering::SeqCst) && !fault.swallows();
            if fault == Fault::Cut || broken {
                connection.cut();
            }
        }
    }

    /// Connections that clients have opened so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes that went into the void so far: who waits for more than 0 knows that
    /// the fault has met somebody.
    #[must_use]
    pub fn swallowed_bytes(&self) -> u64 {
        self.shared.swallowed_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT_LIMIT);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        if let Ok(open) = self.shared.open.lock() {
            open.iter().filter_map(Weak::upgrade).for_each(|connection| connection.cut());
        }
    }
}

impl Fault {
    fn swallows(self) -> bool {
        matches!(self, Self::HalfOpen | Self::NoAnswers)
    }
}

#[derive(Debug)]
struct Shared {
    /// Held for reading around every write, so that a change waits for those under way.
    fault: RwLock<Fault>,
    server: Mutex<Option<SocketAddr>>,
    open: Mutex<Vec<Weak<Connection>>>,
    accepted: AtomicU64,
    swallowed_bytes: AtomicU64,
    ended: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            fault: RwLock::new(Fault::Pass),
            server: Mutex::default(),
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            swallowed_bytes: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }
}

/// One connection. Its sockets close when the last of its threads has ended.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    /// None where the client was let in by [`Fault::HalfOpen`].
    server: Option<TcpStream>,
    swallowed: AtomicBool,
    cut: AtomicBool,
}

impl Connection {
    fn new(client: TcpStream, server: Option<TcpStream>) -> Self {
        for socket in [Some(&client), server.as_ref()].into_iter().flatten() {
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(POLL)).unwrap();
            socket.set_write_timeout(Some(POLL)).unwrap();
        }
        let swallowed = AtomicBool::new(server.is_none());
        Self { client, server, swallowed, cut: AtomicBool::new(false) }
    }

    /// Both sides get a reset once the threads have let go.
    fn cut(&self) {
        for socket in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
            reset_on_close(socket);
        }
        self.cut.store(true, Ordering::SeqCst);
    }
}

fn reset_on_close(socket: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for client in listener.incoming().map_while(Result::ok) {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        // A server that does not accept must not keep other clients waiting.
        std::thread::spawn(move || open(&shared, client));
    }
}

fn open(shared: &Arc<Shared>, client: TcpStream) {
    let void = *shared.fault.read().unwrap() == Fault::HalfOpen;
    let address = *shared.server.lock().unwrap();
    let server = address.filter(|_| !void).map(|address| TcpStream::connect_timeout(&address, CONNECT_LIMIT));
    let server = match server {
        Some(Ok(server)) => Some(server),
        None if void => None,
        // What a client sees of a server that is down.
        _ => return reset_on_close(&client),
    };
    let connection = Arc::new(Connection::new(client, server));
    {
        // Registered under the lock: a change of the fault sees it, or it sees the change.
        let fault = shared.fault.read().unwrap();
        shared.open.lock().unwrap().push(Arc::downgrade(&connection));
        if *fault == Fault::Cut || (void && !fault.swallows()) || shared.ended.load(Ordering::SeqCst) {
            connection.cut();
        }
    }
    let (answering, asking) = (Arc::clone(&connection), connection);
    let answers = Arc::clone(shared);
    std::thread::spawn(move || pump(&answers, &answering, true));
    pump(shared, &asking, false);
}

/// Carries one direction to its end.
fn pump(shared: &Shared, connection: &Connection, answers: bool) {
    let client = Some(&connection.client);
    let (from, to) =
        if answers { (connection.server.as_ref(), client) } else { (client, connection.server.as_ref()) };
    // Nobody answers where nobody was asked.
    let Some(mut from) = from else { return };
    let mut piece = vec![0; PIECE_BYTES];
    while !connection.cut.load(Ordering::SeqCst) {
        match from.read(&mut piece) {
            Ok(0) => {
                end_of_direction(shared, to, answers);
                return;
            }
            Ok(length) => {
                if !pass_on(shared, connection, to, &piece[..length], answers) {
                    return;
                }
            }
            Err(error) if is_timeout(&error) => {}
            // One side was reset, so the other is.
            Err(_) => return connection.cut(),
        }
    }
}

/// An end is an answer as well: it passes only where bytes would.
fn end_of_direction(shared: &Shared, to: Option<&TcpStream>, answers: bool) {
    let fault = shared.fault.read().unwrap();
    let held = *fault == Fault::HalfOpen || (answers && *fault == Fault::NoAnswers);
    if let Some(to) = to.filter(|_| !held) {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// False where the connection has ended.
fn pass_on(
    shared: &Shared,
    connection: &Connection,
    to: Option<&TcpStream>,
    mut bytes: &[u8],
    answers: bool,
) -> bool {
    let came = Instant::now();
    while !bytes.is_empty() {
        if connection.cut.load(Ordering::SeqCst) {
            return false;
        }
        let fault = shared.fault.read().unwrap();
        let into_void = *fault == Fault::HalfOpen || (answers && *fault == Fault::NoAnswers);
        match (*fault, to) {
            (Fault::Delay(time), _) if came.elapsed() < time => {
                drop(fault);
                sleep(POLL.min(time.saturating_sub(came.elapsed())));
            }
            (_, Some(mut to)) if !into_void => match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_timeout(&error) => {}
                Err(_) => {
                    connection.cut();
                    return false;
                }
            },
            _ => {
                connection.swallowed.store(true, Ordering::SeqCst);
                shared.swallowed_bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                return true;
            }
        }
    }
    true
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
