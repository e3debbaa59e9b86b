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
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

pub use answer::PlainAnswer;
pub(super) use date::Date;
pub use request::PlainRequest;

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

enum Begun<'a, F> {
    Taken(Taken<'a, F>),
    Ended(End),
}

/// A plain request that is ours.
enum Taken<'a, F> {
    Waits(InFlight<&'a Activity>, F),
    Panicked(InFlight<&'a Activity>),
    /// There are too many.
    Refused,
}

/// Answers plain requests until the connection ends or something else comes.
pub(super) async fn plain<S, H: Handler>(wire: &mut Wire<S>, served: &Served<H>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut orders = Orders::new(&served.activity);
    loop {
        let begun = poll_fn(|cx| match orders.next(cx) {
            // There is nothing to give back.
            Order::GoOn | Order::Park => begin(wire, served, cx).map(Ok),
            order @ (Order::Close | Order::Drop) => Poll::Ready(Err(order)),
        });
        let taken = match begun.await {
            Ok(Begun::Taken(taken)) => taken,
            Ok(Begun::Ended(end)) => return end,
            Err(Order::Close) => return close(wire, &mut orders).await,
            Err(_) => return End::Closed,
        };
        let (in_flight, answer) = match taken {
            Taken::Waits(in_flight, waiting) => {
                let answer = AssertUnwindSafe(waiting).catch_unwind().await;
                (Some(in_flight), answer.unwrap_or_else(|_| any(served.panicked())))
            }
            Taken::Panicked(in_flight) => (Some(in_flight), any(served.panicked())),
            Taken::Refused => (None, any(served.refused())),
        };
        let is_last = served.activity.watch().is_stopping();
        match send(wire, answer, &served.activity, is_last).await {
            Ok(false) => drop(in_flight),
            Ok(true) => {
                drop(in_flight);
                return close(wire, &mut orders).await;
            }
            Err(_) => return End::Closed,
        }
    }
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
) -> Poll<Begun<'a, impl Future<Output = PlainAnswer> + Send + use<S, H>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if wire.has_ahead() {
        return Poll::Ready(Begun::Ended(End::Other));
    }
    SPACE.with_borrow_mut(|space| {
        let mut space = ReadBuf::new(space);
        let read = ready!(wire.poll_fresh(cx, &mut space));
        let bytes = space.filled();
        if read.is_err() || bytes.is_empty() {
            return Poll::Ready(Begun::Ended(End::Closed));
        }
        Poll::Ready(match take(served, bytes) {
            Some(taken) => {
                wire.is_http1();
                Begun::Taken(taken)
            }
            None => {
                wire.put_back(bytes);
                Begun::Ended(End::Other)
            }
        })
    })
}

/// What the handler makes of the bytes; `None` if they are not for it.
fn take<'a, H: Handler>(
    served: &'a Served<H>,
    bytes: &[u8],
) -> Option<Taken<'a, impl Future<Output = PlainAnswer> + Send + use<H>>> {
    request::parse(bytes, served.limits(), |request| {
        let Some(in_flight) = served.activity.begin() else { return Some(Taken::Refused) };
        let handled = || served.handler.plain(request, &served.connection);
        let taken = match catch_unwind(AssertUnwindSafe(handled)) {
            Ok(taken) => Taken::Waits(in_flight, taken?),
            Err(_) => Taken::Panicked(in_flight),
        };
        served.activity.watch().took_short();
        Some(taken)
    })
}

/// Whether the connection ends with the answer.
async fn send<S>(
    wire: &mut Wire<S>,
    answer: PlainAnswer,
    activity: &Activity,
    is_last: bool,
) -> std::io::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let to = &mut *wire;
    let rest = poll_fn(move |cx| {
        ANSWER.with_borrow_mut(|bytes| {
            bytes.clear();
            bytes.shrink_to(ANSWER_BYTES_KEPT);
            let is_last = answer.write(bytes, activity.watch().date(), is_last);
            match Pin::new(&mut *to).poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => Poll::Ready(Ok((bytes[count..].to_vec(), is_last))),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Ready(Ok((bytes.clone(), is_last))),
            }
        })
    });
    let (rest, is_last) = rest.await?;
    if !rest.is_empty() {
        wire.write_all(&rest).await?;
    }
    wire.flush().await?;
    Ok(is_last)
}
