//! `[http]`: the listeners of data, and what keeps them up.

use std::time::Duration;

use fanal_model::{ByteSize, HumanDuration};
use fanal_service::config::{Networks, byte_size, human_duration};
use fanal_service::http::{HttpLimits, Sharing, workers_default};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpSection {
    /// Threads that serve the data listeners, each with sockets and connections of its own.
    /// 0: one for each core.
    pub(crate) workers: u32,
    /// Listen although the process that is to be replaced still listens.
    pub(crate) take_over: bool,
    /// Open at once, over all data listeners; more wait in the kernel's queue.
    pub(crate) connections_max: u32,
    /// From one IPv4 address or one IPv6 network of 64 bits; more are closed at once.
    pub(crate) connections_per_address_max: u32,
    /// Addresses that may open any number; those of `ingest.trusted_proxies` may as well.
    pub(crate) trusted: Networks,
    /// Being answered at once; more get 503 with Retry-After at once.
    pub(crate) requests_max: u32,
    /// From the first byte of a request to the end of its headers.
    #[serde(with = "human_duration")]
    pub(crate) header_timeout: HumanDuration,
    /// Without a request.
    #[serde(with = "human_duration")]
    pub(crate) idle_timeout: HumanDuration,
    #[serde(with = "human_duration")]
    pub(crate) handshake_timeout: HumanDuration,
    /// Without an acknowledgement from the peer's kernel.
    #[serde(with = "human_duration")]
    pub(crate) peer_timeout: HumanDuration,
    #[serde(with = "byte_size")]
    pub(crate) header_bytes_max: ByteSize,
    pub(crate) headers_max: u32,
    /// A body must come with this many bytes a second on average; the first 5 s are free. 0B: no minimum.
    #[serde(with = "byte_size")]
    pub(crate) body_rate_min: ByteSize,
    /// Requests at once in one HTTP/2 connection.
    pub(crate) streams_max: u32,
    /// HTTP/2 requests cancelled before they were looked at; more end the connection.
    pub(crate) stream_resets_max: u32,
    /// After a stop: idle connections may send one more request for this long.
    #[serde(with = "human_duration")]
    pub(crate) close_grace: HumanDuration,
}

impl Default for HttpSection {
    fn default() -> Self {
        let limits = HttpLimits::default();
        Self {
            workers: 0,
            take_over: false,
            connections_max: count(limits.connections_max),
            connections_per_address_max: limits.connections_per_address_max,
            trusted: limits.trusted,
            requests_max: count(limits.requests_max),
            header_timeout: HumanDuration(limits.header_timeout),
            idle_timeout: HumanDuration(limits.idle_timeout),
            handshake_timeout: HumanDuration(limits.handshake_timeout),
            peer_timeout: HumanDuration(limits.peer_timeout),
            header_bytes_max: ByteSize(limits.header_bytes_max as u64),
            headers_max: count(limits.headers_max),
            body_rate_min: ByteSize(512),
            streams_max: limits.streams_max,
            stream_resets_max: count(limits.stream_resets_max),
            close_grace: HumanDuration(limits.close_grace),
        }
    }
}

impl HttpSection {
    pub(crate) fn check(&self) -> Result<(), String> {
        let zeros = [
            ("connections_max", self.connections_max == 0),
            ("connections_per_address_max", self.connections_per_address_max == 0),
            ("requests_max", self.requests_max == 0),
            ("header_timeout", self.header_timeout.0.is_zero()),
            ("idle_timeout", self.idle_timeout.0.is_zero()),
            ("handshake_timeout", self.handshake_timeout.0.is_zero()),
            ("peer_timeout", self.peer_timeout.0.is_zero()),
            ("header_bytes_max", self.header_bytes_max.0 == 0),
            ("headers_max", self.headers_max == 0),
            ("streams_max", self.streams_max == 0),
        ];
        match zeros.iter().find(|(_, is_zero)| *is_zero) {
            Some((key, _)) => Err(format!("http.{key} is 0, with which nothing could be served")),
            None => Ok(()),
        }
    }

    pub(crate) fn workers(&self) -> usize {
        if self.workers == 0 { workers_default() } else { self.workers as usize }
    }

    pub(crate) fn sharing(&self) -> Sharing {
        if self.take_over { Sharing::TakeOver } else { Sharing::Alone }
    }

    pub(crate) fn limits(&self, drain_timeout: Duration) -> HttpLimits {
        HttpLimits {
            connections_max: self.connections_max as usize,
            connections_per_address_max: self.connections_per_address_max,
            trusted: self.trusted.clone(),
            requests_max: self.requests_max as usize,
            header_timeout: self.header_timeout.0,
            idle_timeout: self.idle_timeout.0,
            handshake_timeout: self.handshake_timeout.0,
            peer_timeout: self.peer_timeout.0,
            header_bytes_max: usize::try_from(self.header_bytes_max.0).unwrap_or(usize::MAX),
            headers_max: self.headers_max as usize,
            streams_max: self.streams_max,
            stream_resets_max: self.stream_resets_max as usize,
            drain_timeout,
            close_grace: self.close_grace.0,
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
