//! One way to serve HTTP/1.1 and HTTP/2, in clear and over TLS.
//!
//! Never answers for a [`Handler`], except where a limit or the framing of a request forbids to ask
//! it. What must stay true: headers,
//! bodies, connections and waits are bounded by [`HttpLimits`], a panic in one
//! handler costs one answer 500 and nothing else, and a stop lets the requests
//! in flight finish within `drain_timeout`. A request takes no lock and reads no clock
//! here.

mod answer;
mod body;
mod fields;
mod framing;
mod gate;
mod gather;
mod life;
mod limits;
mod listener;
mod plain;
mod protocol;
mod read;
mod serve;
mod wire;
mod workers;

use std::future::Future;
use std::net::SocketAddr;

pub use answer::{bytes_answer, empty, json};
pub use body::Body;
pub use fields::Fields;
pub use limits::HttpLimits;
pub use listener::{BindError, Listener, Sharing, Sockets, bind, bind_as};
pub use plain::{FixedAnswer, PlainAnswer, PlainRequest};
pub use read::{BodyError, BodyLimits, Encoding, RATE_GRACE, read_body};
pub use serve::{ServeError, serve};
pub use workers::{Turns, Workers, WorkersError, workers_default};

/// A request as it arrives, its body still on the wire.
pub type Request = http::Request<hyper::body::Incoming>;
/// An answer.
pub type Response = http::Response<Body>;

/// What answers the requests of one listener.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request, connection: &Connection) -> impl Future<Output = Response> + Send;

    /// Whether [`Self::plain`] takes any.
    const TAKES_PLAIN: bool = false;

    /// Takes a plain request the short way, with the answer that [`Self::handle`]
    /// would give. `None` leaves it to that, and must have changed and counted nothing. Thousands
    /// of the futures wait at once: small ones are quicker.
    fn plain(
        &self,
        request: &PlainRequest<'_>,
        connection: &Connection,
    ) -> Option<impl Future<Output = PlainAnswer> + Send + Unpin + use<Self>> {
        let _ = (request, connection);
        None::<std::future::Pending<PlainAnswer>>
    }
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub tls: bool,
    /// The thread that serves it, less than the number of [`Workers`]; 0 where there are none.
    /// What a handler keeps per worker is used by no other thread.
    pub worker: usize,
}
