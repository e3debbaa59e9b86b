//! Reads a request body within bounds of size and time, and undoes its encoding.

use std::io::Read;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use thiserror::Error;
use tokio::time::Instant;

/// What is read and thrown away of a body that is too large, so that the
/// sender has finished writing and reads the answer instead of a reset.
const DISCARD_BYTES_MAX: u64 = 32 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// The first allocation follows `Content-Length` only so far.
const RESERVE_BYTES_MAX: u64 = 256 << 10;
/// A zstd frame may ask for a window of 2^23 bytes, as RFC 9659 has it for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A sender may pause for this long, whatever the minimum rate.
pub const RATE_GRACE: Duration = Duration::from_secs(5);

/// The bounds of one body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// As sent, and again once decoded.
    pub bytes_max: usize,
    /// From the first wait to the last byte.
    pub timeout: Duration,
    /// Bytes per second that the body must bring on average after [`RATE_GRACE`]; 0: no minimum.
    pub rate_min: u32,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { bytes_max: 4 << 20, timeout: Duration::from_secs(30), rate_min: 512 }
    }
}

/// Why a body is refused.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("the body is larger than {bytes_max} bytes: send it in several requests")]
    TooLarge { bytes_max: usize },
    #[error("the body unpacks to more than {bytes_max} bytes: send it in several requests")]
    UnpacksTooLarge { bytes_max: usize },
    #[error("the body is not valid {encoding}: send it again complete, or without Content-Encoding")]
    Corrupt { encoding: &'static str },
    #[error("Content-Encoding `{0}` is not supported: use gzip, zstd, deflate or none")]
    Unsupported(String),
    #[error("the body did not arrive within {0:?}: send it faster or in smaller requests")]
    TooSlow(Duration),
    #[error("the body broke off: {0}; send the request again")]
    BrokenOff(String),
}

/// A content encoding that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    /// Reads `Content-Encoding`. Several encodings on top of each other are refused.
    pub fn of(headers: &HeaderMap) -> Result<Self, BodyError> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        let alone = values.next().is_none();
        let text = value.to_str().unwrap_or("?").trim();
        let known = [
            ("", Self::Identity),
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("zstd", Self::Zstd),
        ];
        known
            .iter()
            .find(|(name, _)| alone && text.eq_ignore_ascii_case(name))
            .map(|(_, encoding)| *encoding)
            .ok_or_else(|| BodyError::Unsupported(text.chars().take(40).collect()))
    }
}

/// The whole body, decoded. A body that arrives in one piece is not copied.
pub async fn read_body<B>(body: B, limits: BodyLimits, encoding: Encoding) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    let raw = match collect(body.as_mut(), limits).await {
        Err(error @ BodyError::TooLarge { .. }) => {
            let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard(body)).await;
            return Err(error);
        }
        Err(error) => return Err(error),
        Ok(raw) => raw,
    };
    decode(raw, encoding, limits.bytes_max)
}

async fn collect<B>(mut body: std::pin::Pin<&mut B>, limits: BodyLimits) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let BodyLimits { bytes_max, .. } = limits;
    let started = Instant::now();
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(BodyError::TooLarge { bytes_max });
    }
    let Some(first) = in_time(body.as_mut(), limits, started, 0).await? else { return Ok(Bytes::new()) };
    let Some(second) = in_time(body.as_mut(), limits, started, first.len()).await? else {
        return if first.len() > bytes_max { Err(BodyError::TooLarge { bytes_max }) } else { Ok(first) };
    };
    let reserve = usize::try_from(announced.min(RESERVE_BYTES_MAX)).unwrap_or(0);
    let mut all = BytesMut::with_capacity(reserve.max(first.len() + second.len()));
    all.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(data) = next {
        if all.len() + data.len() > bytes_max {
            return Err(BodyError::TooLarge { bytes_max });
        }
        all.extend_from_slice(&data);
        next = in_time(body.as_mut(), limits, started, all.len()).await?;
    }
    Ok(all.freeze())
}

/// The next piece, unless `received` bytes until then are too few.
async fn in_time<B>(
    body: std::pin::Pin<&mut B>,
    limits: BodyLimits,
    started: Instant,
    received: usize,
) -> Result<Option<Bytes>, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let limit = match limits.rate_min {
        0 => limits.timeout,
        rate => {
            let paid = Duration::from_millis(received as u64 * 1000 / u64::from(rate));
            limits.timeout.min(RATE_GRACE + paid)
        }
    };
    tokio::time::timeout_at(started + limit, next_data(body)).await.map_err(|_| BodyError::TooSlow(limit))?
}

/// The next non-empty piece; trailers are skipped.
async fn next_data<B>(mut body: std::pin::Pin<&mut B>) -> Result<Option<Bytes>, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::BrokenOff(error.to_string()))?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn discard<B>(mut body: std::pin::Pin<&mut B>)
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut left = DISCARD_BYTES_MAX;
    while let Ok(Some(data)) = next_data(body.as_mut()).await {
        match left.checked_sub(data.len() as u64) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn decode(raw: Bytes, encoding: Encoding, bytes_max: usize) -> Result<Bytes, BodyError> {
    let unpacked = match encoding {
        Encoding::Identity => return Ok(raw),
        Encoding::Gzip => unpack(flate2::bufread::MultiGzDecoder::new(&*raw), "gzip", bytes_max),
        Encoding::Deflate => unpack(flate2::bufread::ZlibDecoder::new(&*raw), "deflate", bytes_max),
        Encoding::Zstd => {
            let corrupt = |_| BodyError::Corrupt { encoding: "zstd" };
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&*raw).map_err(corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
            unpack(decoder, "zstd", bytes_max)
        }
    }?;
    Ok(unpacked)
}

fn unpack(decoder: impl Read, encoding: &'static str, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut out = Vec::new();
    decoder.take(bytes_max as u64 + 1).read_to_end(&mut out).map_err(|_| BodyError::Corrupt { encoding })?;
    if out.len() > bytes_max {
        return Err(BodyError::UnpacksTooLarge { bytes_max });
    }
    Ok(out.into())
}
