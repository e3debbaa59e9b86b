//! The socket's side of one request: routes, admission, moving the body to the
//! engine's thread and the answer back.
//!
//! Must stay true: nothing here blocks the runtime.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::ServerConfig;
use crate::body::{self, BodyReader};
use crate::exception::{Exception, code};
use crate::pool::{Job, Pool, Running};
use crate::reply::{self, BrokenOff, Head, Reply, ReplyBody, error_head};
use crate::request::Request;

type AnswerBody = UnsyncBoxBody<Bytes, BrokenOff>;
type Answer = Response<AnswerBody>;

/// What every request needs.
pub(crate) struct Service {
    pub(crate) config: ServerConfig,
    pub(crate) pool: Arc<Pool>,
    pub(crate) runtime: Handle,
    /// Set when the server stops: kept-alive connections get no new statement.
    pub(crate) stopping: AtomicBool,
}

/// Tells the pool when a client goes away before its answer is whole.
struct Abandon {
    pool: Arc<Pool>,
    running: Arc<Running>,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        // A statement that is done is not listed as running; this is then nothing.
        self.pool.abandon(&self.running);
    }
}

/// Answers one request.
pub(crate) async fn answer(
    service: Arc<Service>,
    request: hyper::Request<Incoming>,
) -> Result<Answer, Infallible> {
    let path = request.uri().path();
    let fixed = match (request.method(), path) {
        (&(Method::GET | Method::HEAD), "/ping") => Some("Ok.\n"),
        (&(Method::GET | Method::HEAD), "/replicas_status") => Some("Ok.\n"),
        (&Method::HEAD, "/") => Some(""),
        (&Method::GET, "/") if !asks(request.uri().query()) => Some("Ok.\n"),
        _ => None,
    };
    if let Some(text) = fixed {
        return Ok(plain(StatusCode::OK, text));
    }
    if path != "/" {
        return Ok(plain(
            StatusCode::NOT_FOUND,
            "There is no handle for this path; use /, /ping or /replicas_status\n",
        ));
    }
    if comes_from_a_page(request.headers()) {
        return Ok(plain(
            StatusCode::UNAUTHORIZED,
            "Web pages of other origins may not ask; use a client, or open the address itself\n",
        ));
    }
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET, HEAD and POST are answered\n"));
    }
    Ok(statement(service, request).await)
}

/// Whether a page of another origin makes a browser send this. Without this, any page
/// that somebody on this machine looks at could change tables: a browser sends such a
/// request before it asks whether the page may read the answer. Browsers alone send these
/// headers, and a page cannot leave them out.
fn comes_from_a_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    let foreign = |origin: &str| {
        origin.split_once("://").is_none_or(|(_, authority)| !authority.eq_ignore_ascii_case(host))
    };
    text("origin").is_some_and(foreign)
        || text("sec-fetch-site").is_some_and(|site| !["none", "same-origin"].contains(&site))
}

/// Whether a GET of `/` carries a statement.
fn asks(query: Option<&str>) -> bool {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(|(name, _)| name == "query")
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    answer
}

async fn statement(service: Arc<Service>, request: hyper::Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let mut base = base_headers(&service);
    let read = match Request::read(&parts, &service.config) {
        Ok(read) => read,
        Err(exception) => return refusal(&service, &exception, base),
    };
    if let Ok(id) = HeaderValue::from_str(&read.query_id) {
        base.insert("x-clickhouse-query-id", id);
    }
    if service.stopping.load(Ordering::Acquire) {
        return refusal(&service, &Exception::busy("The embedded ClickHouse is stopping"), base);
    }
    let place = match service.pool.admit().await {
        Ok(place) => place,
        Err(exception) => return refusal(&service, &exception, base),
    };
    let encoding = read.encoding(&parts.headers);
    let (head_sender, head) = oneshot::channel();
    let (piece_sender, pieces) = mpsc::channel(reply::PIECES_WAITING_MAX);
    let (body_sender, body_pieces) = mpsc::channel(body::PIECES_WAITING_MAX);
    let waiting = (service.runtime.clone(), service.config.client_stall_max);
    let version = service.pool.greeting.version.clone();
    let running = Arc::new(Running::new(format!("fanal:{}:{:016x}", read.query_id, rand::random::<u64>())));
    let guard = Abandon { pool: Arc::clone(&service.pool), running: Arc::clone(&running) };
    service.pool.submit(Job {
        request: read,
        body: BodyReader::new(body_pieces, waiting.0.clone(), waiting.1),
        reply: Reply::new(head_sender, piece_sender, waiting, encoding, base.clone(), version),
        running,
        place,
    });
    tokio::spawn(move_body(body, body_sender));
    match head.await {
        Ok(Head { status, headers }) => {
            let mut answer = Response::new(ReplyBody::new(pieces, guard).boxed_unsync());
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            answer
        }
        Err(_) => {
            let lost =
                Exception::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", "The statement ended without an answer");
            refusal(&service, &lost, base)
        }
    }
}

/// Moves the body to the engine's thread; it waits while that one is behind.
async fn move_body(mut body: Incoming, pieces: mpsc::Sender<body::Piece>) {
    let last = loop {
        // A thread that has all it wants stops reading; dropping the rest of
        // the body lets hyper close the connection instead of waiting for it.
        let next = tokio::select! {
            next = body.frame() => next,
            () = pieces.closed() => return,
        };
        match next {
            None => break body::Piece::End,
            Some(Err(error)) => break body::Piece::Broken(error.to_string()),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if pieces.send(body::Piece::Data(data)).await.is_err() {
                    return;
                }
                if body.is_end_stream() {
                    break body::Piece::End;
                }
            }
        }
    };
    // As above: a thread that has ended needs no last piece.
    let _ended = pieces.send(last).await;
}

fn base_headers(service: &Service) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let greeting = &service.pool.greeting;
    let pairs =
        [("x-clickhouse-server-display-name", &greeting.host), ("x-clickhouse-timezone", &greeting.timezone)];
    for (name, value) in pairs {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers
}

fn refusal(service: &Service, exception: &Exception, base: HeaderMap) -> Answer {
    let head = error_head(exception, base);
    let text = exception.body(&service.pool.greeting.version);
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_are_told_from_clients_and_from_an_address_that_was_typed() {
        for (headers, refused) in [
            (&[][..], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8123")], false),
            (&[("origin", "http://evil.example")], true),
            (&[("origin", "null")], true),
            (&[("origin", "http://127.0.0.1:8090")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
        ] {
            let mut given = HeaderMap::new();
            given.insert("host", HeaderValue::from_static("127.0.0.1:8123"));
            for (name, value) in headers {
                given.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(comes_from_a_page(&given), refused, "{headers:?}");
        }
    }
}
