//! Requests that arrived whole: the steps of [`Ingest::handle`] without waiting for a body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use fanal_service::cors;
use fanal_service::http::{Connection, PlainAnswer, PlainRequest};
use fanal_storage::log::EventLog;
use http::{HeaderValue, StatusCode};

use super::{Ingest, Refusal, Written, as_image, has_body};
use crate::access::{Entry, Seen};
use crate::answers;
use crate::lane::Ticket;

impl<L: EventLog> Ingest<L> {
    /// Takes a request to one of [`Self::PATHS`]; `None` leaves it to [`Self::handle`].
    pub fn plain(
        &self,
        request: &PlainRequest<'_>,
        connection: &Connection,
    ) -> Option<impl Future<Output = PlainAnswer> + Send + Unpin + use<L>> {
        let as_image = as_image(request.path)?;
        has_body(&request.method)?;
        let body_bytes = request.body.map(<[u8]>::len);
        if body_bytes.is_some_and(|bytes| bytes > self.settings.body.bytes_max) {
            return None;
        }
        let seen = || Seen {
            method: &request.method,
            path: request.path,
            query: request.query,
            version: request.version,
            body_bytes: body_bytes.map(|bytes| bytes as u64),
        };
        let entry = self.access.begin(seen, connection);
        let door = self.door(request.query, request, connection).map_err(Refusal::from);
        let written = door.and_then(|door| self.write(&door, request.query, request, request.body));
        Some(Waits::new(written, as_image, entry))
    }
}

/// Waits for the batch. Boxed is what is rare: thousands of these wait at once.
struct Waits {
    written: Waiting,
    as_image: bool,
    entry: Option<Box<Entry>>,
}

enum Waiting {
    Ticket(Ticket, Option<Box<HeaderValue>>),
    Refused(Box<Refusal>),
    Answered,
}

impl Waits {
    fn new(written: Result<Written, Refusal>, as_image: bool, entry: Option<Box<Entry>>) -> Self {
        let written = match written {
            Ok((set_cookie, ticket)) => Waiting::Ticket(ticket, set_cookie.map(Box::new)),
            Err(refusal) => Waiting::Refused(Box::new(refusal)),
        };
        Self { written, as_image, entry }
    }

    fn refused(refusal: Refusal) -> (PlainAnswer, StatusCode, Option<&'static str>) {
        let (mut response, problem) = refusal.answer();
        cors::allow(response.headers_mut());
        let status = response.status();
        (PlainAnswer::Any(Box::new(response)), status, problem)
    }
}

impl Future for Waits {
    type Output = PlainAnswer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PlainAnswer> {
        let this = &mut *self;
        let result = match &mut this.written {
            Waiting::Ticket(ticket, _) => Some(ready!(Pin::new(ticket).poll(cx))),
            _ => None,
        };
        let answered = match (std::mem::replace(&mut this.written, Waiting::Answered), result) {
            (Waiting::Ticket(_, set_cookie), Some(Ok(()))) => {
                let (answer, set_cookie) = (answers::accepted(this.as_image), set_cookie.map(|value| *value));
                (PlainAnswer::Fixed { answer, set_cookie }, answer.status(), None)
            }
            (_, Some(Err(error))) => Self::refused(error.into()),
            (Waiting::Refused(refusal), _) => Self::refused(*refusal),
            // Nobody asks again.
            _ => return Poll::Pending,
        };
        let (answer, status, problem) = answered;
        if let Some(entry) = this.entry.take() {
            entry.end(status.as_u16(), problem);
        }
        Poll::Ready(answer)
    }
}
