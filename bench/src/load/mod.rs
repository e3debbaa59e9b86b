//! A load generator for `/visit/events`.
//!
//! Duty: keep the server busy with as little CPU of its own as possible, and know exactly what was acknowledged. One
//! thread; requests are made once and only their nonces and visitors are overwritten.
//! What must stay true: a line stands in the acknowledged file if, and only if, its 2xx was read completely; a server
//! that dies or refuses costs counts, never the run.

mod connection;
mod hpack;
mod http2;
mod report;
mod stream;
mod template;

pub use report::{Latency, Report};
pub use template::Method;

use connection::{Connection, OPENING_MAX, Shared};
use http2::Client;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use stream::Dialler;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

/// Connections of one run at the most; the ports of one client address end there.
pub const CONNECTIONS_MAX: u32 = 20_000;
/// Streams of one HTTP/2 connection at the most: servers allow about a hundred.
pub const STREAMS_MAX: u32 = 100;
/// Lines of one body at the most.
pub const LINES_MAX: u32 = 10_000;

/// What to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port`.
    pub address: String,
    pub site: String,
    pub connections: u32,
    /// Requests per second of all connections together; `None` is as fast as the answers come.
    pub rate: Option<f64>,
    pub duration: Duration,
    pub lines_per_request: u32,
    pub method: Method,
    /// Different visitors; they take turns.
    pub visitors: u32,
    /// Sends a request that got no 2xx once more, byte for byte, as the SDKs do.
    pub retry: bool,
    /// Where acknowledged lines are written: visitor, tab, nonce.
    pub acked: Option<PathBuf>,
    pub seed: u64,
    /// TLS 1.3; the certificate is not verified.
    pub tls: bool,
    /// A new connection for each request.
    pub new_connections: bool,
    /// Keep session tickets from one connection to the next.
    pub resume: bool,
    /// HTTP/2, with so many requests under way on each connection.
    pub http2_streams: Option<u32>,
    /// One request on each connection, then nothing until the duration ends.
    pub idle: bool,
}

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name} is {given}; give a number from 1 to {high}")]
    OutOfRange { name: &'static str, given: u32, high: u32 },
    #[error("--method get sends one line per request, not {0}; use --method post")]
    LinesInGet(u32),
    #[error("{0} is no address; write it as http://127.0.0.1:8080 or https://127.0.0.1:8443")]
    Url(String),
    #[error("{0} cannot be combined with {1}; leave one of them out")]
    Together(&'static str, &'static str),
    #[error(
        "--resume keeps what TLS remembers of earlier connections; use it with https:// and --new-connections"
    )]
    NothingToResume,
    #[error("TLS cannot be set up: {0}; this is a bug")]
    Tls(#[from] rustls::Error),
    #[error("cannot open {}: {source}; give a file that can be written", path.display())]
    Acked { path: PathBuf, source: std::io::Error },
}

/// `host:port` of a URL such as `http://127.0.0.1:8080`, and whether it wants TLS.
pub fn address(url: &str) -> Result<(String, bool), Error> {
    let bad = || Error::Url(url.to_owned());
    let (rest, tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => return Err(bad()),
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return Err(bad());
    }
    let port = if tls { 443 } else { 80 };
    Ok((if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") }, tls))
}

/// Sends until the duration ends and the last answers are there.
pub async fn run(options: &Options) -> Result<Report, Error> {
    run_and_look(options, || ()).await.map(|(report, ())| report)
}

/// The same, and looks at something at the end: idle connections are still open then.
pub async fn run_and_look<T>(options: &Options, look: impl FnOnce() -> T) -> Result<(Report, T), Error> {
    check(options)?;
    let acked = match &options.acked {
        None => None,
        Some(path) => Some(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|source| Error::Acked { path: path.clone(), source })?,
        ),
    };
    let started = Instant::now();
    let shared = Rc::new(Shared {
        options: options.clone(),
        started: Cell::new(started),
        unopened: Cell::new(options.connections),
        begun: Semaphore::new(0),
        next_slot: Cell::new(0),
        next_request: Cell::new(0),
        acked: RefCell::new(acked),
        report: RefCell::new(Report::new(options)),
        opening: Semaphore::new(OPENING_MAX),
        held: Semaphore::new(0),
    });
    let local = LocalSet::new();
    let common = Dialler::new(options)?;
    for number in 0..options.connections {
        // Clients that resume are different ones, each with its own tickets.
        let dialler = if options.resume { Dialler::new(options)? } else { common.clone() };
        start(&local, &shared, dialler, number);
    }
    if options.idle {
        local.run_until(sleep_until(shared.ends())).await;
        let seen = look();
        shared.held.close();
        local.await;
        return Ok((finished(&shared), seen));
    }
    local.await;
    Ok((finished(&shared), look()))
}

fn start(local: &LocalSet, shared: &Rc<Shared>, dialler: Dialler, number: u32) {
    let shared = Rc::clone(shared);
    if let Some(streams) = shared.options.http2_streams {
        local.spawn_local(Client::new(shared, dialler, number, streams).run());
        return;
    }
    let (anew, idle) = (shared.options.new_connections, shared.options.idle);
    let connection = Connection::new(shared, dialler, number);
    if idle {
        local.spawn_local(connection.run_idle());
    } else if anew {
        local.spawn_local(connection.run_anew());
    } else {
        local.spawn_local(connection.run());
    }
}

fn finished(shared: &Shared) -> Report {
    let mut report = shared.report.borrow().clone();
    report.finish(shared.started.get().elapsed());
    report
}

fn check(options: &Options) -> Result<(), Error> {
    let within = |name, given, high| {
        if (1..=high).contains(&given) { Ok(()) } else { Err(Error::OutOfRange { name, given, high }) }
    };
    within("--connections", options.connections, CONNECTIONS_MAX)?;
    within("--lines-per-request", options.lines_per_request, LINES_MAX)?;
    within("--visitors", options.visitors, u32::MAX)?;
    if options.method == Method::Get && options.lines_per_request > 1 {
        return Err(Error::LinesInGet(options.lines_per_request));
    }
    if let Some(streams) = options.http2_streams {
        within("--streams", streams, STREAMS_MAX)?;
    }
    let together = [
        (options.http2_streams.is_some(), options.method == Method::Post, "--http2", "--method post"),
        (options.http2_streams.is_some(), options.rate.is_some(), "--http2", "--rate"),
        (options.http2_streams.is_some(), options.retry, "--http2", "--retry"),
        (options.http2_streams.is_some(), options.new_connections, "--http2", "--new-connections"),
        (options.http2_streams.is_some(), options.idle, "--http2", "--idle"),
        (options.idle, options.new_connections, "--idle", "--new-connections"),
        (options.idle, options.rate.is_some(), "--idle", "--rate"),
        (options.idle, options.retry, "--idle", "--retry"),
    ];
    if let Some((.., one, other)) = together.into_iter().find(|(one, other, ..)| *one && *other) {
        return Err(Error::Together(one, other));
    }
    if options.resume && !(options.tls && options.new_connections) {
        return Err(Error::NothingToResume);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_plain_urls_only() {
        assert_eq!(address("http://127.0.0.1:8080").unwrap(), ("127.0.0.1:8080".to_owned(), false));
        assert_eq!(address("http://localhost/").unwrap(), ("localhost:80".to_owned(), false));
        assert_eq!(address("https://localhost/").unwrap(), ("localhost:443".to_owned(), true));
        for bad in ["ftp://a", "127.0.0.1:80", "http://", "https://", "http://a/b", "http://a@b"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
