//! Requests that arrived whole: the steps of [`Ingest::handle`] without waiting for a body.

use fanal_service::cors;
use fanal_service::http::{Connection, PlainAnswer, PlainRequest};
use fanal_storage::log::EventLog;
use http::Version;

use super::{Ingest, Refusal, Written, as_image, has_body};
use crate::access::{Entry, Seen};
use crate::answers;

impl<L: EventLog> Ingest<L> {
    /// Takes a request to one of [`Self::PATHS`]; `None` leaves it to [`Self::handle`].
    pub fn plain(
        &self,
        request: &PlainRequest<'_>,
        connection: &Connection,
    ) -> Option<impl Future<Output = PlainAnswer> + Send + use<L>> {
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
            version: Version::HTTP_11,
            body_bytes: body_bytes.map(|bytes| bytes as u64),
        };
        let entry = self.access.begin(seen, connection);
        let door = self.door(request.query, request, connection).map_err(Refusal::from);
        let written = door.and_then(|door| self.write(&door, request.query, request, request.body));
        Some(answer(written.map_err(Box::new), as_image, entry))
    }
}

/// Boxed is what is rare: thousands wait here at once.
async fn answer(
    written: Result<Written, Box<Refusal>>,
    as_image: bool,
    entry: Option<Box<Entry>>,
) -> PlainAnswer {
    let durable = match written {
        Ok((set_cookie, ticket)) => match ticket.await {
            Ok(()) => Ok(set_cookie),
            Err(error) => Err(Box::new(error.into())),
        },
        Err(refusal) => Err(refusal),
    };
    let (answer, status, problem) = match durable {
        Ok(set_cookie) => answers::accepted_plain(as_image, set_cookie),
        Err(refusal) => {
            let (mut response, problem) = refusal.answer();
            cors::allow(response.headers_mut());
            let status = response.status();
            (PlainAnswer::Any(Box::new(response)), status, problem)
        }
    };
    if let Some(entry) = entry {
        entry.end(status.as_u16(), problem);
    }
    answer
}
