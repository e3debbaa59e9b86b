//! The bytes of a connection on their way to and from whoever speaks HTTP.
//!
//! Tells [`Activity`] what moves; keeps what was read to find out the protocol.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::life::Activity;

/// How an HTTP/2 connection without ALPN begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read at first, to find out the protocol.
const FIRST_READ: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

pub(super) struct Wire<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Read already and not handed on yet; not allocated otherwise.
    ahead: Vec<u8>,
    taken: usize,
    /// Known from an earlier request.
    is_http1: bool,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, ahead: Vec::new(), taken: 0, is_http1: false }
    }

    /// Takes back what the protocol has read and not used.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.ahead.splice(..self.taken, bytes.iter().copied());
        self.taken = 0;
    }

    /// A request of HTTP/1 came: what follows is that protocol, too.
    pub(super) fn is_http1(&mut self) {
        self.is_http1 = true;
    }

    pub(super) fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// What the peer sends next, untold to [`Activity`]; for when nothing is ahead.
    pub(super) fn poll_fresh(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }

    /// Finds out the protocol from the first bytes; `None` if the peer closed.
    pub(super) fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Protocol>>> {
        loop {
            let known = self.ahead.len().min(PREFACE.len());
            let is_http1 = if self.is_http1 { known > 0 } else { self.ahead[..known] != PREFACE[..known] };
            if is_http1 {
                self.is_http1 = true;
                self.activity.received(&self.ahead);
                return Poll::Ready(Ok(Some(Protocol::Http1)));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(Some(Protocol::Http2)));
            }
            let mut space = [0; FIRST_READ];
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(None));
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let rest = &this.ahead[this.taken..];
            let piece = &rest[..rest.len().min(to.remaining())];
            to.put_slice(piece);
            this.taken += piece.len();
            if this.taken == this.ahead.len() {
                (this.ahead, this.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        let before = to.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, to))?;
        this.activity.received(&to.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.activity.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Answers without a body are one piece, which costs the kernel less by itself.
        if let [only] = pieces {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.activity.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        // TLS takes a last piece that the peer's window has no room for.
        this.activity.wrote(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
