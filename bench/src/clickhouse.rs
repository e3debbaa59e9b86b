//! The few words of ClickHouse's HTTP interface that a comparison needs.
//!
//! Duty: one query, its answer as a stream of lines. What must stay true: the answer is never held as a whole, and an
//! exception in the middle of an answer is an error, not a short result.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A row longer than this is no row.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of an error's text.
const ERROR_BYTES_MAX: usize = 4_000;
const EXCEPTION: &[u8] = b"Code: ";

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Url(#[from] crate::load::Error),
    #[error("cannot reach ClickHouse at {address}: {source}; is it running there?")]
    Connect { address: String, source: std::io::Error },
    #[error("the exchange with ClickHouse broke off: {0}; look into its log")]
    Http(#[from] hyper::Error),
    #[error("the query cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("ClickHouse answered {status}: {text}")]
    Refused { status: u16, text: String },
    #[error("a row is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// The rows of one answer.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

/// Runs a query that says its own output format.
pub async fn query(address: &str, sql: &str) -> Result<Lines, Error> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| Error::Connect { address: address.to_owned(), source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer; what goes wrong on it is seen by the one who reads.
    tokio::spawn(connection);
    let request = hyper::Request::post("/?wait_end_of_query=0")
        .header("Host", address)
        .header("Content-Type", "text/plain")
        .body(Full::new(Bytes::copy_from_slice(sql.as_bytes())))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut lines = Lines { body: response.into_body(), buffer: BytesMut::new(), ended: false };
    if status.is_success() {
        return Ok(lines);
    }
    while lines.buffer.len() < ERROR_BYTES_MAX && lines.fill().await? {}
    let text = String::from_utf8_lossy(&lines.buffer).chars().take(ERROR_BYTES_MAX).collect();
    Err(Error::Refused { status: status.as_u16(), text })
}

impl Lines {
    /// The next row without its line feed; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + at).to_vec();
                self.buffer.advance(1);
                return self.checked(line).map(Some);
            }
            searched = self.buffer.len();
            if searched > LINE_BYTES_MAX {
                return Err(Error::TooLong);
            }
            if !self.fill().await? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let line = self.buffer.split().to_vec();
                return self.checked(line).map(Some);
            }
        }
    }

    /// False at the end of the answer.
    async fn fill(&mut self) -> Result<bool, Error> {
        while !self.ended {
            match self.body.frame().await {
                None => self.ended = true,
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// After a 200, an exception stands in the answer itself.
    fn checked(&self, line: Vec<u8>) -> Result<Vec<u8>, Error> {
        let is_exception = line.starts_with(EXCEPTION) && line.windows(9).any(|part| part == b"Exception");
        if is_exception || line.starts_with(b"__exception__") {
            return Err(Error::Refused { status: 200, text: String::from_utf8_lossy(&line).into_owned() });
        }
        Ok(line)
    }
}
