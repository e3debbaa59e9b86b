//! A request's body as the engine's thread reads it: piece by piece, undone of
//! its compression, with a bound on waiting.
//!
//! Must stay true: a body that was cut off is an error, never an end.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::exception::{Exception, code};
use crate::framing::BlockReader;

/// Pieces on their way from the socket to the engine; more waits in the socket.
pub(crate) const PIECES_WAITING_MAX: usize = 4;

/// What the socket's side sends.
pub(crate) enum Piece {
    Data(Bytes),
    /// The body is whole.
    End,
    /// The client went away or broke the protocol.
    Broken(String),
}

/// The engine's side of a body.
pub(crate) struct BodyReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    runtime: Handle,
    stall_max: Duration,
}

impl BodyReader {
    pub(crate) fn new(pieces: mpsc::Receiver<Piece>, runtime: Handle, stall_max: Duration) -> Self {
        Self { pieces, current: Bytes::new(), ended: false, runtime, stall_max }
    }
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            let next = self.runtime.block_on(async { timeout(self.stall_max, self.pieces.recv()).await });
            match next {
                Ok(Some(Piece::Data(data))) => self.current = data,
                Ok(Some(Piece::End)) => self.ended = true,
                Ok(Some(Piece::Broken(reason))) => {
                    return Err(carried(Exception::cut_off(&format!(
                        "the request body was cut off: {reason}"
                    ))));
                }
                Ok(None) => {
                    return Err(carried(Exception::cut_off(
                        "the request body was cut off: connection closed",
                    )));
                }
                Err(_) => {
                    return Err(carried(Exception::stalled("the client sent nothing for too long")));
                }
            }
        }
        let taken = out.len().min(self.current.len());
        self.current.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}

/// An exception inside of an I/O error, so that it passes through decoders.
fn carried(exception: Exception) -> io::Error {
    io::Error::other(exception)
}

/// The exception behind an error of a body's reader.
pub(crate) fn exception_of(error: &io::Error) -> Exception {
    let carried = error.get_ref().and_then(|inner| inner.downcast_ref::<Exception>());
    carried.cloned().unwrap_or_else(|| {
        let message = format!("the request body cannot be decompressed: {error}");
        Exception::new(code::CANNOT_DECOMPRESS, "CANNOT_DECOMPRESS", &message)
    })
}

/// Undoes the transfer's compression, then ClickHouse's own framing.
pub(crate) fn decoded(
    body: BodyReader,
    content_encoding: &str,
    framed: bool,
) -> Result<Box<dyn Read>, Exception> {
    let plain: Box<dyn Read> = match content_encoding {
        "" | "identity" => Box::new(body),
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(body)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(body).map_err(|error| exception_of(&error))?),
        "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        other => {
            let message =
                format!("unknown Content-Encoding '{other}'; gzip, deflate, zstd and lz4 are known");
            return Err(Exception::new(
                code::UNKNOWN_COMPRESSION_METHOD,
                "UNKNOWN_COMPRESSION_METHOD",
                &message,
            ));
        }
    };
    Ok(if framed { Box::new(BlockReader::new(plain)) } else { plain })
}
