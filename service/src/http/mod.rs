//! One way to serve HTTP/1.1 and HTTP/2, in clear and over TLS.
//!
//! Never looks into a request: a [`Handler`] does. What must stay true: headers,
//! bodies, connections and waits are bounded by [`HttpLimits`], a panic in one
//! handler costs one answer 500 and nothing else, and a stop lets the requests
//! in flight finish within `drain_timeout`.

mod answer;
mod body;
mod connection;
mod listener;
mod read;
mod serve;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

pub use answer::{bytes_answer, empty, json};
pub use body::Body;
pub use listener::{BindError, Listener, bind};
pub use read::{BodyError, BodyLimits, Encoding, read_body};
pub use serve::{ServeError, serve};

/// A request as it arrives, its body still on the wire.
pub type Request = http::Request<hyper::body::Incoming>;
/// An answer.
pub type Response = http::Response<Body>;

/// What answers the requests of one listener.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request, connection: &Connection) -> impl Future<Output = Response> + Send;
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub tls: bool,
    /// Index of the thread that serves the connection.
    pub worker: usize,
}

/// The limits of one listener. The defaults fit browsers and SDKs.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections open at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// From the connection (or the end of the handshake) to the end of the first request's headers.
    pub header_timeout: Duration,
    /// A connection without a request is closed after this; browsers send every 15 s.
    pub idle_timeout: Duration,
    /// The TLS handshake.
    pub handshake_timeout: Duration,
    /// Without any acknowledgement from the peer's kernel for this long, the connection is dropped:
    /// this is what ends a reader that reads nothing.
    pub peer_timeout: Duration,
    /// All headers of a request together.
    pub header_bytes_max: usize,
    /// Headers of a request, counted.
    pub headers_max: usize,
    /// Requests at once in one HTTP/2 connection.
    pub streams_max: u32,
    /// After a stop, requests in flight may take this long.
    pub drain_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            handshake_timeout: Duration::from_secs(10),
            peer_timeout: Duration::from_secs(60),
            header_bytes_max: 32 * 1024,
            headers_max: 100,
            streams_max: 128,
            drain_timeout: Duration::from_secs(10),
        }
    }
}
