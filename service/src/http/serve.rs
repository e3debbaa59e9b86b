//! The accept loop and the life of each connection.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Activity;
use super::{Connection, Handler, HttpLimits, Listener, Request, Response};
use crate::problem::Problem;
use crate::stop::Stop;

/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A connection that was told to close and has no request is dropped after this.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Why a listener ended by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("the listener has no local address: {0}; the socket was closed under us, restart the process")]
    Address(io::Error),
}

/// Serves `listener` until `stop`, then lets the requests in flight finish
/// within `limits.drain_timeout`.
pub async fn serve<H: Handler>(
    listener: Listener,
    handler: Arc<H>,
    limits: HttpLimits,
    stop: Stop,
) -> Result<(), ServeError> {
    let local = listener.local_addr().map_err(ServeError::Address)?;
    let Listener { tcp, tls } = listener;
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let limits = Arc::new(limits);
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer, permit) = tokio::select! {
            biased;
            () = stop.stopped() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&tcp, &permits) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, %local, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let task = Task {
            connection: Connection { peer, local, tls: tls.is_some(), worker: 0 },
            handler: Arc::clone(&handler),
            limits: Arc::clone(&limits),
            stop: stop.clone(),
            _permit: permit,
        };
        let acceptor = tls.as_ref().map(|handle| handle.acceptor());
        connections.spawn(task.run(stream, acceptor));
    }
    drop(tcp);
    drain(connections, limits.drain_timeout).await;
    Ok(())
}

async fn accept(
    tcp: &tokio::net::TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, std::net::SocketAddr, OwnedSemaphorePermit)> {
    let permit =
        Arc::clone(permits).acquire_owned().await.map_err(|_| io::Error::other("the listener is closed"))?;
    let (stream, peer) = tcp.accept().await?;
    Ok((stream, peer, permit))
}

async fn drain(mut connections: JoinSet<()>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !connections.is_empty() {
        let ended = tokio::time::timeout_at(deadline, connections.join_next()).await;
        if ended.is_err() {
            tracing::warn!(left = connections.len(), "closing connections that did not finish in time");
            connections.shutdown().await;
        }
    }
}

/// One connection.
struct Task<H> {
    connection: Connection,
    handler: Arc<H>,
    limits: Arc<HttpLimits>,
    stop: Stop,
    _permit: OwnedSemaphorePermit,
}

impl<H: Handler> Task<H> {
    async fn run(self, stream: TcpStream, acceptor: Option<tokio_rustls::TlsAcceptor>) {
        metrics::gauge!("http_connections").increment(1.0);
        if let Err(error) = prepare(&stream, &self.limits) {
            tracing::debug!(%error, "cannot set socket options");
        }
        match acceptor {
            None => self.serve(stream).await,
            Some(acceptor) => match timeout(self.limits.handshake_timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => {
                    metrics::counter!("http_tls_handshakes_failed_total").increment(1);
                    tracing::debug!(%error, "tls handshake failed");
                }
                Err(_) => metrics::counter!("http_tls_handshakes_failed_total").increment(1),
            },
        }
        metrics::gauge!("http_connections").decrement(1.0);
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S) {
        let activity = Activity::new();
        let service = service_fn(|request| {
            let in_flight = activity.begin();
            let handler = Arc::clone(&self.handler);
            let connection = self.connection;
            async move {
                let response = answer(&*handler, request, &connection).await;
                Ok::<_, Infallible>(response.map(|body| body.counted(in_flight)))
            }
        });
        let builder = protocol(&self.limits);
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut closing: Option<Instant> = None;
        loop {
            let wake = closing.unwrap_or_else(|| activity.deadline(&self.limits));
            tokio::select! {
                ended = served.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended with an error");
                    }
                    return;
                }
                () = self.stop.stopped(), if closing.is_none() => {
                    served.as_mut().graceful_shutdown();
                    closing = Some(Instant::now() + CLOSE_GRACE);
                }
                () = sleep_until(wake) => match closing {
                    Some(_) if activity.is_idle() => return,
                    Some(_) => closing = Some(Instant::now() + CLOSE_GRACE),
                    None if activity.deadline(&self.limits) <= Instant::now() => {
                        served.as_mut().graceful_shutdown();
                        closing = Some(Instant::now() + CLOSE_GRACE);
                    }
                    None => {}
                },
            }
        }
    }
}

fn prepare(stream: &TcpStream, limits: &HttpLimits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limits.peer_timeout))
}

fn protocol(limits: &HttpLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The connection's task watches over headers and idleness for both protocols.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout);
    builder
}

/// The handler's answer; a panic in it becomes an answer 500.
async fn answer<H: Handler>(handler: &H, request: Request, connection: &Connection) -> Response {
    let handled: Pin<&mut _> = pin!(AssertUnwindSafe(handler.handle(request, connection)).catch_unwind());
    match handled.await {
        Ok(response) => response,
        Err(_) => {
            metrics::counter!("http_handler_panics_total").increment(1);
            tracing::error!(peer = %connection.peer, "a request handler panicked");
            let mut response = Problem::internal().into_response();
            crate::cors::allow(response.headers_mut());
            response
        }
    }
}
