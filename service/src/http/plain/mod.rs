//! The short way: a request that arrived whole and says nothing unusual.
//!
//! Most beacons are such requests. They are parsed where the kernel put them, in memory that
//! all connections of a thread share, and are answered in one write; between two of them a
//! connection holds no buffer. Whatever is longer, in pieces, pipelined or odd in any way is
//! handed to the HTTP library as it came, which knows what is right then. What must stay
//! true: this way takes only what the library would take as well, and both give the same
//! answer; limits, timeouts, counts and the stop hold on both.

mod answer;
mod date;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use answer::{FixedAnswer, PlainAnswer};
pub(super) use date::Date;
pub use request::PlainRequest;
pub(super) use stream::answer_stream;

use super::life::{Activity, InFlight, Order, Orders};
use super::protocol::Served;
use super::wire::Wire;
use super::{Handler, Response};

/// What a thread reads into. Larger requests go the long way.
const SPACE_BYTES: usize = 64 << 10;

/// Of the memory for an answer, so much is kept for the next one.
const ANSWER_BYTES_KEPT: usize = 16 << 10;

thread_local! {
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; SPACE_BYTES].into());
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How the short way ended.
pub(super) enum End {
    /// What came is on the wire again, for whoever knows more.
    Other,
    Closed,
}

/// The same, before the goodbye.
enum Stop {
    Other,
    Gone,
    Close,
}

enum Begun<'a, F> {
    Taken(Taken<'a, F>),
    Stopped(Stop),
}

/// A plain request that is ours.
enum Taken<'a, F> {
    Waits(InFlight<'a>, F),
    Panicked(InFlight<'a>),
    /// There are too many.
    Refused,
}

/// Answers plain requests until the connection ends or something else comes. What it keeps
/// between two looks is little and stands together: with thousands of busy connections each
/// piece of it has left the processor's caches by the time of the next look.
pub(super) async fn plain<S, H: Handler>(wire: &mut Wire<S>, served: &Served<H>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = &*served.activity;
    let (mut orders, mut waiting) = (Orders::new(activity), None);
    let mut unsent: Option<Box<Unsent<'_>>> = None;
    let to = &mut *wire;
    let stop = poll_fn(move |cx| {
        loop {
            if let Some(rest) = &mut unsent {
                let stop = ready!(rest.poll_send(to, cx));
                unsent = None;
                if let Some(stop) = stop {
                    return Poll::Ready(stop);
                }
            }
            let (in_flight, answer) = match &mut waiting {
                Some((_, answer)) => {
                    let answer = ready!(poll_answer(served, answer, cx));
                    (waiting.take().map(|(in_flight, _)| in_flight), answer)
                }
                None => {
                    let begun = match orders.next(cx) {
                        // There is nothing to give back.
                        Order::GoOn | Order::Park => ready!(begin(to, served, cx)),
                        Order::Close => Begun::Stopped(Stop::Close),
                        Order::Drop => Begun::Stopped(Stop::Gone),
                    };
                    match begun {
                        Begun::Taken(Taken::Waits(in_flight, answer)) => {
                            waiting = Some((in_flight, answer));
                            continue;
                        }
                        Begun::Taken(Taken::Panicked(in_flight)) => (Some(in_flight), any(served.panicked())),
                        Begun::Taken(Taken::Refused) => (None, any(served.refused())),
                        Begun::Stopped(stop) => return Poll::Ready(stop),
                    }
                }
            };
            match send(to, &answer, activity, cx) {
                Ok(Sent::Whole { is_last: false }) => {}
                Ok(Sent::Whole { is_last: true }) => return Poll::Ready(Stop::Close),
                Ok(Sent::Part { bytes, is_last }) => {
                    unsent = Some(Box::new(Unsent { bytes, sent: 0, is_last, _in_flight: in_flight }));
                }
                Err(_) => return Poll::Ready(Stop::Gone),
            }
        }
    });
    match stop.await {
        Stop::Other => End::Other,
        Stop::Gone => End::Closed,
        Stop::Close => close(wire, &mut Orders::new(activity)).await,
    }
}

/// The handler's answer; a panic in it becomes an answer, too.
fn poll_answer<H: Handler>(
    served: &Served<H>,
    answer: &mut (impl Future<Output = PlainAnswer> + Unpin),
    cx: &mut Context<'_>,
) -> Poll<PlainAnswer> {
    let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(answer).poll(cx)));
    polled.unwrap_or_else(|_| Poll::Ready(any(served.panicked())))
}

fn any(response: Response) -> PlainAnswer {
    PlainAnswer::Any(Box::new(response))
}

/// Says goodbye, as TLS wants it. A peer that takes nothing is left at the next order.
async fn close<S>(wire: &mut Wire<S>, orders: &mut Orders<'_>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let closed = poll_fn(|cx| match orders.next(cx) {
        Order::Drop => Poll::Ready(Ok(())),
        _ => Pin::new(&mut *wire).poll_shutdown(cx),
    });
    closed.await.ok();
    End::Closed
}

/// Waits for bytes and hands them to the handler if they are a plain request.
fn begin<'a, S, H: Handler>(
    wire: &mut Wire<S>,
    served: &'a Served<H>,
    cx: &mut Context<'_>,
) -> Poll<Begun<'a, impl Future<Output = PlainAnswer> + Send + Unpin + use<S, H>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if wire.has_ahead() {
        return Poll::Ready(Begun::Stopped(Stop::Other));
    }
    SPACE.with_borrow_mut(|space| {
        let mut space = ReadBuf::new(space);
        let read = ready!(wire.poll_fresh(cx, &mut space));
        let bytes = space.filled();
        if read.is_err() || bytes.is_empty() {
            return Poll::Ready(Begun::Stopped(Stop::Gone));
        }
        Poll::Ready(match take(served, bytes) {
            Some(taken) => {
                wire.is_http1();
                Begun::Taken(taken)
            }
            None => {
                wire.put_back(bytes);
                Begun::Stopped(Stop::Other)
            }
        })
    })
}

/// What the handler makes of the bytes; `None` if they are not for it.
fn take<'a, H: Handler>(
    served: &'a Served<H>,
    bytes: &[u8],
) -> Option<Taken<'a, impl Future<Output = PlainAnswer> + Send + Unpin + use<H>>> {
    request::parse(bytes, served.limits(), |request| hand_over(served, request))
}

/// Asks the handler, where one more request is not too many.
fn hand_over<'a, H: Handler>(
    served: &'a Served<H>,
    request: &PlainRequest<'_>,
) -> Option<Taken<'a, impl Future<Output = PlainAnswer> + Send + Unpin + use<H>>> {
    let Some(in_flight) = served.activity.begin() else { return Some(Taken::Refused) };
    let handled = || served.handler.plain(request, &served.connection);
    let taken = match catch_unwind(AssertUnwindSafe(handled)) {
        Ok(taken) => Taken::Waits(in_flight, taken?),
        Err(_) => Taken::Panicked(in_flight),
    };
    served.activity.watch().took_short();
    Some(taken)
}

/// What of an answer the kernel, or TLS, has taken.
enum Sent {
    Whole {
        is_last: bool,
    },
    /// These are left, or all were taken and not yet sent.
    Part {
        bytes: Vec<u8>,
        is_last: bool,
    },
}

/// What the peer had no room for; its request counts as in flight until then.
struct Unsent<'a> {
    bytes: Vec<u8>,
    sent: usize,
    is_last: bool,
    _in_flight: Option<InFlight<'a>>,
}

impl Unsent<'_> {
    /// Says why the connection ends with it, if it does.
    fn poll_send<S>(&mut self, wire: &mut Wire<S>, cx: &mut Context<'_>) -> Poll<Option<Stop>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut *wire).poll_write(cx, &self.bytes[self.sent..])) {
                Ok(0) | Err(_) => return Poll::Ready(Some(Stop::Gone)),
                Ok(count) => self.sent += count,
            }
        }
        Poll::Ready(match ready!(Pin::new(wire).poll_flush(cx)) {
            Ok(()) => self.is_last.then_some(Stop::Close),
            Err(_) => Some(Stop::Gone),
        })
    }
}

/// Sends what there is room for at once: nearly always all of it.
fn send<S>(
    wire: &mut Wire<S>,
    answer: &PlainAnswer,
    activity: &Activity,
    cx: &mut Context<'_>,
) -> io::Result<Sent>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    ANSWER.with_borrow_mut(|bytes| {
        bytes.clear();
        bytes.shrink_to(ANSWER_BYTES_KEPT);
        let is_last = answer.write(bytes, activity.watch().date(), activity.watch().is_stopping());
        let count = match Pin::new(&mut *wire).poll_write(cx, bytes) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        if count == bytes.len() && Pin::new(wire).poll_flush(cx)?.is_ready() {
            return Ok(Sent::Whole { is_last });
        }
        Ok(Sent::Part { bytes: bytes[count..].to_vec(), is_last })
    })
}
