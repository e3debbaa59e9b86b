//! The short way of an HTTP/2 stream without a body.
//!
//! The HTTP library keeps a task for each stream. What the task carries is copied several times
//! before its first look, so that it is only what waits: all of the request is let go before.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;

use super::{Taken, hand_over, poll_answer, request};
use crate::http::life::Kept;
use crate::http::protocol::Served;
use crate::http::{Handler, PlainAnswer, Request, Response};

/// The answer to a stream.
pub(in crate::http) enum Answer<H, F> {
    Waits { served: Arc<Served<H>>, _in_flight: Kept, answer: F },
    Ready(Option<Box<Response>>),
    Long(BoxFuture<'static, Response>),
}

/// Answers the stream, the short way if it is plain and the handler takes it.
pub(in crate::http) fn answer_stream<H: Handler>(
    request: Request,
    served: &Arc<Served<H>>,
) -> Answer<H, impl Future<Output = PlainAnswer> + Send + Unpin + use<H>> {
    let plain = if H::TAKES_PLAIN { request::of_stream(&request) } else { None };
    let ready = |response| Answer::Ready(Some(Box::new(response)));
    match plain.and_then(|plain| hand_over(served, &plain)) {
        Some(Taken::Waits(in_flight, answer)) => {
            let _in_flight = in_flight.keep(&served.activity);
            Answer::Waits { served: Arc::clone(served), _in_flight, answer }
        }
        Some(Taken::Panicked(_)) => ready(served.panicked()),
        Some(Taken::Refused) => ready(served.refused()),
        None => {
            let served = Arc::clone(served);
            Answer::Long(Box::pin(async move { served.answer(request).await }))
        }
    }
}

impl<H: Handler, F: Future<Output = PlainAnswer> + Unpin> Future for Answer<H, F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match self.get_mut() {
            Self::Waits { served, answer, .. } => {
                Poll::Ready(ready!(poll_answer(served, answer, cx)).into_response())
            }
            Self::Ready(response) => response.take().map_or(Poll::Pending, |response| Poll::Ready(*response)),
            Self::Long(answer) => answer.as_mut().poll(cx),
        }
    }
}
