//! The limits of listeners, as they are used.

use std::time::Duration;

use crate::config::Networks;

/// The limits of one listener. The defaults fit browsers and SDKs.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections open at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections from one IPv4 address or one IPv6 network of 64 bits; more are closed at once.
    pub connections_per_address_max: u32,
    /// Addresses that may open any number: proxies in front of us, this machine.
    pub trusted: Networks,
    /// Requests that are being answered at once; more get 503 with `Retry-After` at once.
    pub requests_max: usize,
    /// From the first byte of a request (for the first one: from the connection or the end of the
    /// handshake) to the end of its headers.
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
    /// Streams of an HTTP/2 connection that the peer opened and cancelled again before we looked
    /// at them; more end the connection.
    pub stream_resets_max: usize,
    /// After a stop, requests in flight may take this long.
    pub drain_timeout: Duration,
    /// After a stop, idle keep-alive connections may send one more request for this long: it may
    /// be on its way. It is answered with `Connection: close`.
    pub close_grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_address_max: 1024,
            trusted: Networks::loopback(),
            requests_max: 32_768,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            handshake_timeout: Duration::from_secs(10),
            peer_timeout: Duration::from_secs(60),
            header_bytes_max: 32 * 1024,
            headers_max: HEADERS_MAX_FREE,
            streams_max: 128,
            stream_resets_max: 20,
            drain_timeout: Duration::from_secs(10),
            close_grace: Duration::from_secs(1),
        }
    }
}

/// Up to this many headers hyper parses without memory from the heap.
pub(super) const HEADERS_MAX_FREE: usize = 100;
