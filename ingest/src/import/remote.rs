//! Imports into the log of a running process, over its admin listener.

use std::time::Duration;

use bytes::Bytes;
use fanal_service::secret::Secret;
use fanal_storage::log::Batch;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ImportTarget;
use super::endpoint::ImportEndpoint;
use super::error::ImportError;
use super::position::{HeadHash, Position};

/// A process that is only busy or full is asked again, for a minute in all.
const RETRIES_MAX: u32 = 60;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// One request with its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The process at `address` (`host:port`), asked with its admin token.
pub struct RemoteTarget {
    address: String,
    token: Secret,
}

impl RemoteTarget {
    #[must_use]
    pub fn new(address: String, token: Secret) -> Self {
        Self { address, token }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ImportError> {
        for _ in 0..RETRIES_MAX {
            let asked = tokio::time::timeout(REQUEST_TIMEOUT, self.once(&method, path, body.clone())).await;
            let (status, answer) = asked.map_err(|_| self.unreachable("no answer within a minute"))??;
            match status {
                StatusCode::OK | StatusCode::NO_CONTENT => return Ok(answer),
                // Nothing was stored then, so the same batch may be sent again.
                StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(RETRY_PAUSE).await,
                StatusCode::CONFLICT => return Err(ImportError::Concurrent),
                status => {
                    let detail = format!("{status}: {}", String::from_utf8_lossy(&answer));
                    return Err(ImportError::Refused { address: self.address.clone(), detail });
                }
            }
        }
        Err(self.unreachable("it takes nothing (503); its disk may be full"))
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ImportError> {
        let failed = |error: &dyn std::fmt::Display| self.unreachable(&error.to_string());
        let stream = TcpStream::connect(&self.address).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        let driver = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.address)
            .header(AUTHORIZATION, format!("Bearer {}", self.token.reveal()))
            .body(Full::new(body))
            .map_err(|e| failed(&e))?;
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        driver.abort();
        Ok((status, answer.map_err(|e| failed(&e))?.to_bytes()))
    }

    fn unreachable(&self, detail: &str) -> ImportError {
        ImportError::Unreachable { address: self.address.clone(), detail: detail.to_owned() }
    }
}

impl ImportTarget for RemoteTarget {
    async fn lookup(&self, head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        let path = format!("{}?head={head}", ImportEndpoint::POSITIONS_PATH);
        let answer = self.ask(Method::GET, &path, Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| ImportError::Refused {
            address: self.address.clone(),
            detail: format!("its answer is not a list of positions: {error}"),
        })
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        let body = Bytes::from(batch.to_bytes());
        self.ask(Method::POST, ImportEndpoint::APPEND_PATH, body).await.map(|_| ())
    }

    async fn seal(&self) -> Result<(), ImportError> {
        self.ask(Method::POST, ImportEndpoint::SEAL_PATH, Bytes::new()).await.map(|_| ())
    }
}
