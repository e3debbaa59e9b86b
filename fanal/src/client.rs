//! A plain HTTP client for this machine: the running process, the embedded tables.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use fanal_service::secret::Secret;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Answers beyond this are no answers to our questions.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A short question; a rebuild asks with its own patience.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    /// The answer, or an error with what the server said.
    pub(crate) fn success(self, what: &str) -> anyhow::Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        anyhow::bail!("{what} was refused with {}: {}", self.status, self.text())
    }
}

pub(crate) async fn get(address: &str, path: &str, token: Option<&Secret>) -> anyhow::Result<Answer> {
    bounded(ask(address, Method::GET, path, token, Bytes::new(), &mut |_| {})).await
}

pub(crate) async fn send(
    address: &str,
    method: Method,
    path: &str,
    token: Option<&Secret>,
    body: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    bounded(ask(address, method, path, token, body.into(), &mut |_| {})).await
}

/// As `send`, without a bound in time: each part of the answer is shown to
/// `each` as it arrives, and a server that is gone ends the connection.
pub(crate) async fn send_long(
    address: &str,
    path: &str,
    token: Option<&Secret>,
    body: impl Into<Bytes>,
    each: &mut (dyn FnMut(&[u8]) + Send),
) -> anyhow::Result<Answer> {
    ask(address, Method::POST, path, token, body.into(), each).await
}

async fn bounded(asked: impl Future<Output = anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    tokio::time::timeout(ANSWER_TIMEOUT, asked)
        .await
        .with_context(|| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))?
}

async fn ask(
    address: &str,
    method: Method,
    path: &str,
    token: Option<&Secret>,
    body: Bytes,
    each: &mut (dyn FnMut(&[u8]) + Send),
) -> anyhow::Result<Answer> {
    let failed = || format!("cannot reach {address}");
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .with_context(failed)?
        .with_context(failed)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(failed)?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", address);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.reveal()));
    }
    let response = sender.send_request(request.body(Full::new(body))?).await.with_context(failed)?;
    let (head, body) = response.into_parts();
    let mut body = Limited::new(body, ANSWER_BYTES_MAX);
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| anyhow::anyhow!("{address} ended its answer early: {error}"))?;
        if let Ok(data) = frame.into_data() {
            each(&data);
            whole.extend_from_slice(&data);
        }
    }
    connection.abort();
    Ok(Answer { status: head.status, body: whole.into() })
}
