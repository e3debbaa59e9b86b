//! The bytes of the bodies that are being received, all requests together.
//!
//! One body has its own limit, but thousands of connections that each hold back
//! their last byte would fill the memory. What must stay true: what a request took
//! is given back when it ends, however it ends.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// What all requests together may hold.
pub(crate) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: AtomicUsize::new(bytes) }
    }

    /// The part of one request, empty yet; it grows to `bytes_max` at most.
    pub(crate) fn share(&self, bytes_max: usize) -> Share<'_> {
        Share { budget: self, bytes_max, taken: AtomicUsize::new(0), refused: AtomicBool::new(false) }
    }
}

/// What one request holds.
pub(crate) struct Share<'b> {
    budget: &'b Budget,
    bytes_max: usize,
    taken: AtomicUsize,
    refused: AtomicBool,
}

impl Share<'_> {
    /// Counts what comes out of `body`, and breaks it off where the budget ends.
    pub(crate) fn meter<B>(&self, body: B) -> Metered<'_, B> {
        Metered { body, share: self }
    }

    /// Whether the body was broken off for want of budget.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        // Whatever comes after the body's own limit is thrown away, not kept.
        let more = bytes.min(self.bytes_max - taken);
        let left =
            self.budget.left.try_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(more));
        match left {
            Ok(_) => self.taken.store(taken + more, Ordering::Relaxed),
            Err(_) => self.refused.store(true, Ordering::Relaxed),
        }
        left.is_ok()
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(*self.taken.get_mut(), Ordering::AcqRel);
    }
}

/// A body whose bytes are counted.
pub(crate) struct Metered<'s, B> {
    body: B,
    share: &'s Share<'s>,
}

/// Why a counted body broke off.
#[derive(Debug)]
pub(crate) enum MeterError<E> {
    OverBudget,
    Body(E),
}

impl<E: fmt::Display> fmt::Display for MeterError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverBudget => f.write_str("too much is received at once"),
            Self::Body(error) => error.fmt(f),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Metered<'_, B> {
    type Data = Bytes;
    type Error = MeterError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        if !self.share.take(bytes) {
            return Poll::Ready(Some(Err(MeterError::OverBudget)));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(MeterError::Body)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
