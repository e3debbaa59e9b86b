//! The answer as the engine's thread writes it: head first, then pieces, then
//! an end or an abort.
//!
//! Must stay true: an answer that did not reach [`Reply::finish`] breaks the
//! connection off (or is an error from the start), so that no client takes it
//! for a whole one. Memory is bounded: a slow client stops the engine.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::exception::Exception;
use crate::ffi::Counters;
use crate::format::content_type;
use crate::framing::BlockWriter;

/// Pieces on their way to the socket.
pub(crate) const PIECES_WAITING_MAX: usize = 2;

/// In this time the socket's side writes a piece that it took.
const WRITE_PAUSE: Duration = Duration::from_millis(20);

/// Status and headers of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// What travels to the socket.
pub(crate) enum Piece {
    Data(Bytes),
    End,
    Abort,
}

/// Compression of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Plain,
    Gzip,
    Deflate,
    Zstd,
    Lz4,
    /// ClickHouse's own blocks (`compress=1`); no header tells of it.
    Blocks,
}

impl Encoding {
    fn header(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Blocks => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Zstd => Some("zstd"),
            Self::Lz4 => Some("lz4"),
        }
    }
}

/// Writes data to the socket's side, waiting while it is behind.
struct Sender {
    pieces: mpsc::Sender<Piece>,
    runtime: Handle,
    stall_max: Duration,
}

impl Sender {
    fn send(&self, piece: Piece) -> io::Result<()> {
        let sent = self.runtime.block_on(async { timeout(self.stall_max, self.pieces.send(piece)).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")),
        }
    }
}

impl Sender {
    /// Waits until the socket's side took all pieces, and a moment longer, in
    /// which it writes them.
    fn wait_until_taken(&self) {
        self.runtime.block_on(async {
            let taken = async {
                while self.pieces.capacity() < self.pieces.max_capacity() {
                    sleep(WRITE_PAUSE).await;
                }
            };
            if timeout(self.stall_max, taken).await.is_ok() {
                sleep(WRITE_PAUSE).await;
            }
        });
    }
}

impl Write for Sender {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if !data.is_empty() {
            self.send(Piece::Data(Bytes::copy_from_slice(data)))?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Encoder {
    Plain(Sender),
    Gzip(GzEncoder<Sender>),
    Deflate(ZlibEncoder<Sender>),
    Zstd(zstd::stream::write::Encoder<'static, Sender>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Sender>>),
    Blocks(BlockWriter<Sender>),
}

impl Encoder {
    fn new(encoding: Encoding, sender: Sender) -> io::Result<Self> {
        // Answers go over loopback or a local network: the fastest level.
        let level = flate2::Compression::fast();
        Ok(match encoding {
            Encoding::Plain => Self::Plain(sender),
            Encoding::Gzip => Self::Gzip(GzEncoder::new(sender, level)),
            Encoding::Deflate => Self::Deflate(ZlibEncoder::new(sender, level)),
            Encoding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(sender, 1)?),
            Encoding::Lz4 => Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(sender))),
            Encoding::Blocks => Self::Blocks(BlockWriter::new(sender)),
        })
    }

    fn target(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(target) => target,
            Self::Gzip(target) => target,
            Self::Deflate(target) => target,
            Self::Zstd(target) => target,
            Self::Lz4(target) => target,
            Self::Blocks(target) => target,
        }
    }

    fn finish(self) -> io::Result<Sender> {
        match self {
            Self::Plain(sender) => Ok(sender),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Self::Blocks(encoder) => encoder.finish(),
        }
    }
}

/// The engine's side of an answer.
pub(crate) struct Reply {
    head: Option<oneshot::Sender<Head>>,
    sender: Option<Sender>,
    encoder: Option<Encoder>,
    encoding: Encoding,
    /// Headers that every answer of this request carries.
    base: HeaderMap,
    engine_version: String,
}

impl Reply {
    pub(crate) fn new(
        head: oneshot::Sender<Head>,
        pieces: mpsc::Sender<Piece>,
        (runtime, stall_max): (Handle, Duration),
        encoding: Encoding,
        base: HeaderMap,
        engine_version: String,
    ) -> Self {
        let sender = Some(Sender { pieces, runtime, stall_max });
        Self { head: Some(head), sender, encoder: None, encoding, base, engine_version }
    }

    /// Sends status 200 and the headers; from here on an error breaks the answer off.
    pub(crate) fn start(&mut self, format: &str, counters: Counters) -> io::Result<()> {
        let mut headers = self.base.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(format)));
        if let Ok(value) = HeaderValue::from_str(format) {
            headers.insert("x-clickhouse-format", value);
        }
        if let Some(name) = self.encoding.header() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        if let Ok(value) = HeaderValue::from_str(&summary(counters)) {
            headers.insert("x-clickhouse-summary", value);
        }
        self.send_head(Head { status: StatusCode::OK, headers })?;
        let sender = self.sender.take().ok_or_else(|| io::Error::other("started twice"))?;
        self.encoder = Some(Encoder::new(self.encoding, sender)?);
        Ok(())
    }

    fn send_head(&mut self, head: Head) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the client went away");
        self.head.take().ok_or_else(gone)?.send(head).map_err(|_| gone())
    }

    /// Sends a piece of the answer.
    pub(crate) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.encoder {
            Some(encoder) => encoder.target().write_all(data),
            None => Err(io::Error::other("the answer has not started")),
        }
    }

    /// Ends a whole answer.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let Some(encoder) = self.encoder.take() else {
            return Err(io::Error::other("the answer has not started"));
        };
        encoder.finish()?.send(Piece::End)
    }

    /// Ends the request with an error: as an error answer when nothing was
    /// sent, else by the text and a broken connection, as the server does.
    pub(crate) fn fail(mut self, exception: &Exception) {
        let text = exception.body(&self.engine_version);
        if self.head.is_some() {
            let head = error_head(exception, self.base.clone());
            let Some(sender) = self.sender.take() else { return };
            if self.send_head(head).is_ok() && sender.send(Piece::Data(Bytes::from(text))).is_ok() {
                // A client that is gone by now has no use for the end.
                let _gone = sender.send(Piece::End);
            }
            return;
        }
        if let Some(mut encoder) = self.encoder.take()
            && encoder.target().write_all(text.as_bytes()).is_ok()
            && let Ok(sender) = encoder.finish()
        {
            // The text must be on the wire before the connection is broken off.
            sender.wait_until_taken();
            let _gone = sender.send(Piece::Abort);
        }
    }
}

/// Status and headers of an error answer.
pub(crate) fn error_head(exception: &Exception, mut headers: HeaderMap) -> Head {
    headers.insert("x-clickhouse-exception-code", HeaderValue::from(exception.code));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    Head { status: exception.status(), headers }
}

fn summary(counters: Counters) -> String {
    format!(
        "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\"written_bytes\":\"{}\",\
         \"total_rows_to_read\":\"0\",\"result_rows\":\"{}\",\"result_bytes\":\"0\"}}",
        counters.rows_read,
        counters.bytes_read,
        counters.rows_written,
        counters.bytes_written,
        counters.result_rows.max(counters.rows_written),
    )
}

/// The answer broke off; hyper closes the connection without the last chunk.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off before its end")]
pub(crate) struct BrokenOff;

/// The socket's side of an answer. `guard` lives as long as the answer is sent.
pub(crate) struct ReplyBody<G> {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
    _guard: G,
}

impl<G> ReplyBody<G> {
    pub(crate) fn new(pieces: mpsc::Receiver<Piece>, guard: G) -> Self {
        Self { pieces, ended: false, _guard: guard }
    }
}

impl<G: Unpin> Body for ReplyBody<G> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        this.pieces.poll_recv(context).map(|piece| match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End) => {
                this.ended = true;
                None
            }
            // A thread that ended without a word is no end of an answer.
            Some(Piece::Abort) | None => {
                this.ended = true;
                Some(Err(BrokenOff))
            }
        })
    }
}
