//! A load generator for `/visit/events`.
//!
//! Duty: keep the server busy with as little CPU of its own as possible, and know exactly what was acknowledged. One
//! thread; requests are made once and only their nonces and visitors are overwritten.
//! What must stay true: a line stands in the acknowledged file if, and only if, its 2xx was read completely; a server
//! that dies or refuses costs counts, never the run.

mod connection;
mod report;
mod template;

pub use report::{Latency, Report};
pub use template::Method;

use connection::{Connection, Shared};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// Connections of one run at the most; the ports of one client address end there.
pub const CONNECTIONS_MAX: u32 = 20_000;
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
}

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name} is {given}; give a number from 1 to {high}")]
    OutOfRange { name: &'static str, given: u32, high: u32 },
    #[error("--method get sends one line per request, not {0}; use --method post")]
    LinesInGet(u32),
    #[error("{0} is no address; write it as http://127.0.0.1:8080")]
    Url(String),
    #[error("cannot open {}: {source}; give a file that can be written", path.display())]
    Acked { path: PathBuf, source: std::io::Error },
}

/// `host:port` of a URL such as `http://127.0.0.1:8080`.
pub fn address(url: &str) -> Result<String, Error> {
    let bad = || Error::Url(url.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(bad)?;
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return Err(bad());
    }
    Ok(if host.contains(':') { host.to_owned() } else { format!("{host}:80") })
}

/// Sends until the duration ends and the last answers are there.
pub async fn run(options: &Options) -> Result<Report, Error> {
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
        started,
        ends: started + options.duration,
        next_slot: Cell::new(0),
        next_request: Cell::new(0),
        acked: RefCell::new(acked),
        report: RefCell::new(Report::new(options)),
    });
    let local = LocalSet::new();
    for number in 0..options.connections {
        let shared = Rc::clone(&shared);
        local.spawn_local(async move { Connection::new(shared, number).run().await });
    }
    local.await;
    let mut report = shared.report.borrow().clone();
    report.finish(started.elapsed());
    Ok(report)
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_plain_urls_only() {
        assert_eq!(address("http://127.0.0.1:8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(address("http://localhost/").unwrap(), "localhost:80");
        for bad in ["https://a", "127.0.0.1:80", "http://", "http://a/b", "http://a@b"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
