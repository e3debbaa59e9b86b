//! The life of one connection: handshake, protocol, requests, end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::server::TlsStream;

use super::framing::Verdict;
use super::gate::Admitted;
use super::life::{Activity, Order, Orders, Watch, Watched};
use super::limits::HEADERS_MAX_FREE;
use super::plain::{End, answer_stream, plain};
use super::wire::{Protocol, Wire};
use super::{Connection, Handler, HttpLimits, Request, Response};
use crate::problem::Problem;

/// What hyper needs at least to read with.
const READ_BUFFER_MIN: usize = 8192;
/// Written and not yet taken by the peer, for one HTTP/2 stream.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// When a request may be sent again that was one too many.
const RETRY_AFTER_S: u32 = 1;
/// Streams that an HTTP/2 connection may make us reset before it is ended.
const LOCAL_RESETS_MAX: usize = 64;

/// One connection.
pub(super) struct Task<H> {
    pub(super) connection: Connection,
    pub(super) handler: Arc<H>,
    pub(super) watch: Arc<Watch>,
    pub(super) admitted: Admitted,
}

/// What the requests of a connection share.
pub(super) struct Served<H> {
    pub(super) handler: Arc<H>,
    pub(super) connection: Connection,
    pub(super) activity: Arc<Activity>,
    admitted: Admitted,
}

impl<H: Handler> Task<H> {
    // Each phase is in a box of its own, made where nothing waits, so that a connection takes the
    // memory of the one it is in: most of them wait for a next request that comes seconds later
    // or never.
    pub(super) fn run(
        self,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
    ) -> impl Future<Output = ()> + Send + use<H> {
        match tls {
            None => {
                let (served, watched) = self.begin();
                let wire = Wire::new(stream, Arc::clone(&served.activity));
                Either::Left(serve(wire, served, watched))
            }
            Some(acceptor) => Either::Right(Box::pin(self.over_tls(stream, acceptor))),
        }
    }

    async fn over_tls(self, stream: TcpStream, acceptor: TlsAcceptor) {
        let Some(stream) = self.handshake(stream, acceptor).await else { return };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (served, watched) = self.begin();
        let wire = Wire::new(stream, Arc::clone(&served.activity));
        match is_http2 {
            true => {
                let _watched = watched;
                http2_apart(wire, &served).await;
            }
            false => serve(wire, served, watched).await,
        }
    }

    fn handshake(
        &self,
        stream: TcpStream,
        acceptor: TlsAcceptor,
    ) -> BoxFuture<'_, Option<Box<TlsStream<TcpStream>>>> {
        let gate = &self.admitted.gate;
        Box::pin(async move {
            let stream = match timeout(gate.limits.handshake_timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                failed => {
                    gate.meters.handshakes_failed.increment(1);
                    let reason = failed.map_or("timed out".to_owned(), |result| {
                        result.map_or_else(|error| error.to_string(), |_| String::new())
                    });
                    tracing::debug!(peer = %self.connection.peer, reason, "handshake failed");
                    return None;
                }
            };
            match stream.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) => gate.meters.handshakes_resumed.increment(1),
                _ => gate.meters.handshakes_full.increment(1),
            }
            // What TLS keeps is more than all the rest of a connection that waits.
            Some(Box::new(stream))
        })
    }

    fn begin(self) -> (Arc<Served<H>>, Watched) {
        let watched = self.watch.begin();
        let Self { connection, handler, admitted, .. } = self;
        let activity = Arc::clone(&watched.activity);
        (Arc::new(Served { handler, connection, activity, admitted }), watched)
    }
}

/// Both protocols may come without being announced.
async fn serve<S, H: Handler>(mut wire: Wire<S>, served: Arc<Served<H>>, _watched: Watched)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = &served;
    loop {
        if H::TAKES_PLAIN && matches!(plain(&mut wire, served).await, End::Closed) {
            return;
        }
        let mut orders = Orders::new(&served.activity);
        let protocol = poll_fn(|cx| match orders.next(cx) {
            Order::GoOn | Order::Park => wire.poll_protocol(cx).map(|read| read.ok().flatten()),
            // Nothing was asked yet.
            Order::Close | Order::Drop => Poll::Ready(None),
        });
        match protocol.await {
            Some(Protocol::Http1) => {
                served.activity.unpark();
                match http1_apart(wire, served).await {
                    Some(parked) => wire = parked,
                    None => return,
                }
            }
            Some(Protocol::Http2) => return http2_apart(wire, served).await,
            None => return,
        }
    }
}

/// Behind a pointer, and never part of the caller: each look at a plain request would else
/// touch the pages of a stack frame that only the library needs.
#[inline(never)]
fn http1_apart<S, H: Handler>(wire: Wire<S>, served: &Arc<Served<H>>) -> BoxFuture<'_, Option<Wire<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(http1(wire, served))
}

#[inline(never)]
fn http2_apart<S, H: Handler>(wire: Wire<S>, served: &Arc<Served<H>>) -> BoxFuture<'_, ()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(http2(wire, served))
}

/// Serves requests until the connection ends, or nothing is asked at two looks: then the
/// buffers of the protocol are given back, and the wire, which waits for less.
async fn http1<S, H: Handler>(wire: Wire<S>, served: &Arc<Served<H>>) -> Option<Wire<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = http1_settings(&served.admitted.gate.limits);
    let service = service_fn(|request| {
        let served = Arc::clone(served);
        async move { Ok::<_, Infallible>(served.answer(request).await) }
    });
    let mut connection = builder.serve_connection(TokioIo::new(wire), service);
    let mut orders = Orders::new(&served.activity);
    let is_parked = poll_fn(|cx| {
        match orders.next(cx) {
            Order::GoOn => {}
            Order::Park if served.activity.is_quiet() => return Poll::Ready(true),
            // A request was quicker.
            Order::Park => served.activity.unpark(),
            Order::Close => Pin::new(&mut connection).graceful_shutdown(),
            Order::Drop => return Poll::Ready(false),
        }
        Pin::new(&mut connection).poll(cx).map(|ended| {
            ended_with(ended);
            false
        })
    });
    if !is_parked.await {
        return None;
    }
    let parts = connection.into_parts();
    let mut wire = parts.io.into_inner();
    wire.put_back(&parts.read_buf);
    Some(wire)
}

async fn http2<S, H: Handler>(wire: Wire<S>, served: &Arc<Served<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    served.activity.is_http2();
    let builder = http2_settings(&served.admitted.gate.limits);
    let service = service_fn(|request| answer_stream(request, served).map(Ok::<_, Infallible>));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
    let mut orders = Orders::new(&served.activity);
    let ended = poll_fn(|cx| {
        match orders.next(cx) {
            Order::GoOn | Order::Park => {}
            Order::Close => connection.as_mut().graceful_shutdown(),
            Order::Drop => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    });
    ended_with(ended.await);
}

fn ended_with(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended with an error");
    }
}

fn http1_settings(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The watch looks after the time that headers take: a timer costs something per request.
    // With half_close nothing is read while a request waits for its answer: that read, which
    // only notices early that the client is gone, costs a buffer and a system call per request.
    builder
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(limits.header_bytes_max.max(READ_BUFFER_MIN));
    if limits.headers_max != HEADERS_MAX_FREE {
        builder.max_headers(limits.headers_max);
    }
    builder
}

fn http2_settings(limits: &HttpLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.stream_resets_max)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout);
    builder
}

impl<H: Handler> Served<H> {
    pub(super) async fn answer(&self, request: Request) -> Response {
        let version = request.version();
        let mut is_last = self.activity.watch().is_stopping();
        let Some(in_flight) = self.activity.begin() else {
            return self.refused();
        };
        self.activity.watch().took_long();
        if request.headers().contains_key(TRANSFER_ENCODING) {
            match self.framing(&request) {
                Verdict::OneLength => {}
                Verdict::Unknown => is_last = true,
                Verdict::TwoLengths => {
                    self.admitted.gate.meters.refused_framing.increment(1);
                    return last(framing_refused());
                }
            }
        }
        let response = self.handled(request).await;
        let response = response.map(|body| body.counted(in_flight, &self.activity));
        // HTTP/2 says so by a frame.
        if is_last && version < Version::HTTP_2 { last(response) } else { response }
    }

    fn framing(&self, request: &Request) -> Verdict {
        match *request.method() {
            // No client sends one; where a GET ends must never be a question.
            Method::GET => Verdict::TwoLengths,
            _ => self.activity.framing.verdict(),
        }
    }

    /// The handler's answer; a panic in it becomes an answer 500.
    async fn handled(&self, request: Request) -> Response {
        let handled = pin!(AssertUnwindSafe(self.handler.handle(request, &self.connection)).catch_unwind());
        handled.await.unwrap_or_else(|_| self.panicked())
    }

    /// For a request that is one too many.
    pub(super) fn refused(&self) -> Response {
        self.admitted.gate.meters.refused_requests.increment(1);
        busy()
    }

    pub(super) fn panicked(&self) -> Response {
        self.admitted.gate.meters.panics.increment(1);
        tracing::error!(peer = %self.connection.peer, "a request handler panicked");
        readable(Problem::internal())
    }

    pub(super) fn limits(&self) -> &HttpLimits {
        // In the cache with whatever else is asked of the watch.
        self.activity.watch().limits()
    }
}

/// Pages of other origins may read it, as every answer.
fn readable(problem: Problem) -> Response {
    let mut response = problem.into_response();
    crate::cors::allow(response.headers_mut());
    response
}

fn last(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn framing_refused() -> Response {
    readable(Problem::new(
        StatusCode::BAD_REQUEST,
        "body_length_ambiguous",
        "Ambiguous length of the body",
        "Send either Content-Length or Transfer-Encoding, and neither with a GET.",
    ))
}

fn busy() -> Response {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_busy",
        "Too many requests at once",
        "Send the request again after the seconds that Retry-After names.",
    );
    readable(problem.retry_after(RETRY_AFTER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Handler for Nothing {
        async fn handle(&self, _: Request, _: &Connection) -> Response {
            crate::http::empty(StatusCode::NO_CONTENT)
        }
    }

    #[tokio::test]
    async fn a_connection_that_waits_takes_half_a_kilobyte() {
        let limits = HttpLimits::default();
        let (load, gate) =
            (crate::http::gate::Load::new(0, 1, &limits), crate::http::gate::Gate::new(limits));
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = socket.local_addr().unwrap();
        let stream = TcpStream::connect(local).await.unwrap();
        let peer = stream.local_addr().unwrap();
        let admitted = gate.admit(peer.ip(), gate.place().await.unwrap()).unwrap();
        let watch = Watch::new(Arc::clone(&gate.limits), load, true);
        let connection = Connection { peer, local, tls: false, worker: 0 };
        let task = Task { connection, handler: Arc::new(Nothing), watch, admitted };
        let bytes = size_of_val(&task.run(stream, None));
        assert!(bytes <= 512, "{bytes}");
    }
}
