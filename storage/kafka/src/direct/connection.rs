//! A connection to one broker: requests go out, each answer is read before the next one.
//!
//! Whoever gives up an exchange half way must drop the connection: what arrives later
//! would be taken for another answer. No answer is longer than `ANSWER_BYTES_MAX`.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::requests::{self, API_VERSIONS, Api};
use super::sasl;
use super::security::Security;
use super::stream::Stream;
use super::trouble::Trouble;

/// No answer to a producer is longer; the longest is that about 30,000 partitions.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const INBOX_BYTES: usize = 8 << 10;
/// Length and correlation id.
const ANSWER_HEAD_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    pub(super) address: Arc<str>,
    correlation: i32,
    /// The request under way, or what of it is not in other buffers.
    pub(super) outbox: Vec<u8>,
    /// What has arrived; the first `filled` bytes are the broker's.
    inbox: Vec<u8>,
    filled: usize,
    /// The broker takes no requests after this, until somebody authenticates again.
    expires: Option<Instant>,
}

impl Connection {
    /// Connects and authenticates; not later than `until`.
    pub(super) async fn open(
        address: Arc<str>,
        security: &Security,
        until: Instant,
    ) -> Result<Self, Trouble> {
        let opened = tokio::time::timeout_at(until, Self::open_now(Arc::clone(&address), security)).await;
        opened.unwrap_or_else(|_| Err(Trouble::Late(address.to_string())))
    }

    async fn open_now(address: Arc<str>, security: &Security) -> Result<Self, Trouble> {
        let (host, port) = split(&address)?;
        let tcp = match host.parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect((ip, port)).await,
            Err(_) => {
                let found = tokio::net::lookup_host((host, port)).await;
                let found = found.map_err(|source| Trouble::Resolve { address: address.to_string(), source });
                connect_any(found?).await
            }
        };
        let tcp = tcp.map_err(|source| Trouble::Connect { address: address.to_string(), source })?;
        tcp.set_nodelay(true)?;
        let stream = security.wrap(tcp, host).await?;
        let (outbox, inbox) = (Vec::with_capacity(1024), vec![0; INBOX_BYTES]);
        let mut connection =
            Self { stream, address, correlation: 0, outbox, inbox, filled: 0, expires: None };
        let answer = connection.call(API_VERSIONS, |_| {}).await?;
        requests::check_versions(answer)?;
        if let Some(login) = security.login() {
            let lifetime = sasl::authenticate(&mut connection, login).await?;
            // Another one is opened in good time: the broker would cut this one off.
            connection.expires = (lifetime > 0)
                .then(|| Instant::now() + Duration::from_millis(lifetime - lifetime.div_ceil(5)));
        }
        Ok(connection)
    }

    /// Whether another request has a chance.
    pub(super) fn is_usable(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires) && !self.stream.is_over()
    }

    /// One small request and its answer.
    pub(super) async fn call(
        &mut self,
        api: Api,
        put_body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<&[u8], Trouble> {
        self.begin(api);
        put_body(&mut self.outbox);
        requests::finish(&mut self.outbox, 0);
        self.stream.write_all(&self.outbox).await?;
        self.stream.flush().await?;
        self.answer().await
    }

    /// Begins a request in the outbox.
    pub(super) fn begin(&mut self, api: Api) {
        self.correlation = self.correlation.wrapping_add(1);
        requests::begin(&mut self.outbox, api, self.correlation);
    }

    /// Sends the request in the outbox: at each of `cuts`, in order, the bytes that belong
    /// there are put in.
    pub(super) async fn send<'b>(
        &mut self,
        cuts: impl Iterator<Item = (usize, &'b [u8])>,
    ) -> Result<(), Trouble> {
        let mut slices = Vec::with_capacity(cuts.size_hint().0 * 2 + 1);
        let mut from = 0;
        for (cut, bytes) in cuts {
            slices.push(IoSlice::new(&self.outbox[from..cut]));
            slices.push(IoSlice::new(bytes));
            from = cut;
        }
        slices.push(IoSlice::new(&self.outbox[from..]));
        let mut left = &mut slices[..];
        // Passes over what is empty at the beginning, so that a written zero means an end.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let written = self.stream.write_vectored(left).await?;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        self.stream.flush().await?;
        Ok(())
    }

    /// Waits for the answer to the last request: what comes after its correlation id.
    pub(super) async fn answer(&mut self) -> Result<&[u8], Trouble> {
        self.filled = 0;
        let mut wanted = ANSWER_HEAD_BYTES;
        while self.filled < wanted {
            let read = self.stream.read(&mut self.inbox[self.filled..]).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let had_head = self.filled >= ANSWER_HEAD_BYTES;
            self.filled += read;
            if !had_head && self.filled >= ANSWER_HEAD_BYTES {
                wanted = self.check_head()?;
                if wanted > self.inbox.len() {
                    self.inbox.resize(wanted, 0);
                }
            }
        }
        if self.filled > wanted {
            return Err(Trouble::Malformed("it is longer than it says"));
        }
        Ok(&self.inbox[ANSWER_HEAD_BYTES..wanted])
    }

    /// What `answer` has returned.
    pub(super) fn last_answer(&self) -> &[u8] {
        self.inbox.get(ANSWER_HEAD_BYTES..self.filled).unwrap_or_default()
    }

    /// Bytes of the whole answer, by its beginning.
    fn check_head(&self) -> Result<usize, Trouble> {
        let mut fields = super::wire::Fields::new(&self.inbox[..ANSWER_HEAD_BYTES]);
        let (length, correlation) = (fields.i32()?, fields.i32()?);
        let length = usize::try_from(length).unwrap_or(0);
        if !(4..=ANSWER_BYTES_MAX).contains(&length) {
            return Err(Trouble::Malformed("its length is impossible"));
        }
        if correlation != self.correlation {
            return Err(Trouble::Malformed("it answers another request"));
        }
        Ok(length + 4)
    }
}

async fn connect_any(addresses: impl Iterator<Item = std::net::SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Host and port of `host:port`; an IPv6 address stands in brackets.
fn split(address: &str) -> Result<(&str, u16), Trouble> {
    let wrong = || Trouble::Resolve {
        address: address.to_owned(),
        source: io::Error::from(io::ErrorKind::InvalidInput),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    Ok((host.trim_matches(['[', ']']), port.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests;
