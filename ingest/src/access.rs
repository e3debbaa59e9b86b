//! The access log: one structured line for a share of all requests.
//!
//! Never holds a query, a cookie or an address: they name visitors.

use std::time::Instant;

use fanal_parser::parse_query;
use fanal_service::http::Connection;
use fanal_service::problem::Problem;
use http::Method;
use http::version::Version;
use rand::RngExt;

/// What is shown of a text that a client chose.
const SHOWN_CHARS_MAX: usize = 64;

/// Which requests are logged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessLog {
    share: f64,
}

/// What the log says of a request.
pub(crate) struct Seen<'r> {
    pub(crate) method: &'r Method,
    pub(crate) path: &'r str,
    pub(crate) query: &'r str,
    pub(crate) version: Version,
    /// As far as it is known before the body is read.
    pub(crate) body_bytes: Option<u64>,
}

/// A request that will be logged when it is answered.
pub(crate) struct Entry {
    since: Instant,
    method: Method,
    path: String,
    site: Option<String>,
    version: Version,
    is_tls: bool,
    worker: usize,
    body_bytes: Option<u64>,
    is_ended: bool,
}

impl AccessLog {
    /// `share` of the requests, from 0 for none to 1 for all.
    pub(crate) fn new(share: f64) -> Self {
        Self { share }
    }

    /// Notes the request, if it is one of those.
    pub(crate) fn begin<'r>(
        self,
        seen: impl FnOnce() -> Seen<'r>,
        connection: &Connection,
    ) -> Option<Box<Entry>> {
        if self.share <= 0.0 || (self.share < 1.0 && !rand::rng().random_bool(self.share)) {
            return None;
        }
        let seen = seen();
        let shown = |text: &str| text.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        Some(Box::new(Entry {
            since: Instant::now(),
            method: seen.method.clone(),
            path: shown(seen.path),
            site: parse_query(seen.query.as_bytes()).site_code.map(|site| shown(&site)),
            version: seen.version,
            is_tls: connection.tls,
            worker: connection.worker,
            body_bytes: seen.body_bytes,
            is_ended: false,
        }))
    }
}

/// What nginx logs for a client that is gone before its answer.
const GIVEN_UP: u16 = 499;

impl Entry {
    /// `problem` is the code of an answer that is none of success.
    pub(crate) fn end(mut self, status: u16, problem: Option<&'static str>) {
        self.is_ended = true;
        self.write(status, problem);
    }

    fn write(&self, status: u16, problem: Option<&'static str>) {
        let Self { since, method, path, site, version, is_tls, worker, body_bytes, .. } = self;
        tracing::info!(
            target: "fanal::access",
            %method,
            path,
            site,
            ?version,
            tls = is_tls,
            worker,
            body_bytes,
            status,
            problem,
            duration_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request answered"
        );
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        match std::thread::panicking() {
            true => self.write(Problem::internal().status.as_u16(), Some(Problem::internal().code)),
            false => self.write(GIVEN_UP, Some("given_up")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_that_is_given_up_has_one_line_and_so_has_one_that_is_answered() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let address = "127.0.0.1:80".parse().unwrap();
        let connection = Connection { peer: address, local: address, tls: false, worker: 0 };
        let seen = || Seen {
            method: &Method::GET,
            path: "/visit/events",
            query: "",
            version: Version::HTTP_2,
            body_bytes: None,
        };
        drop(AccessLog::new(1.0).begin(seen, &connection).unwrap());
        AccessLog::new(1.0).begin(seen, &connection).unwrap().end(204, None);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("status=499") && lines[1].contains("status=204"), "{text}");
    }
}
