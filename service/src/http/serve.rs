//! The accept loop and its end.
//!
//! What must stay true: a connection that the kernel completed is served, even when
//! the stop comes first; the socket is closed only when its queue is empty.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::gate::{Admitted, Gate, Load};
use super::life::Watch;
use super::listener::{begin_none, prepare};
use super::protocol::Task;
use super::{Connection, Handler, HttpLimits, Listener};
use crate::stop::Stop;
use crate::tls::TlsHandle;

/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are accepted before those open get their turn.
const ACCEPT_BATCH: usize = 64;
/// After a stop, handshakes that have begun may end for this long: a few round trips.
const ACCEPT_GRACE: Duration = Duration::from_millis(250);

/// Why a listener ended by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("the listener has no local address: {0}; the socket was closed under us, restart the process")]
    Address(io::Error),
    #[error("the listener cannot be served: {0}; raise the limit of open files, or use fewer workers")]
    Setup(io::Error),
}

/// Serves `listener` until `stop`, then lets the requests in flight finish
/// within `limits.drain_timeout`. Spawns on the runtime that it runs in.
pub async fn serve<H: Handler>(
    listener: Listener,
    handler: Arc<H>,
    limits: HttpLimits,
    stop: Stop,
) -> Result<(), ServeError> {
    let load = Load::new(0, 1, &limits);
    let gate = Gate::new(limits);
    let Listener { tcp, tls } = listener;
    let socket = tcp.into_std().map_err(ServeError::Setup)?;
    Serving { socket, is_kept: false, tls, handler, gate, load, stop }.run().await
}

/// One socket and all that its connections need.
pub(super) struct Serving<H> {
    pub(super) socket: std::net::TcpListener,
    /// Its queue outlives us.
    pub(super) is_kept: bool,
    pub(super) tls: Option<TlsHandle>,
    pub(super) handler: Arc<H>,
    pub(super) gate: Arc<Gate>,
    pub(super) load: Arc<Load>,
    pub(super) stop: Stop,
}

impl<H: Handler> Serving<H> {
    pub(super) async fn run(self) -> Result<(), ServeError> {
        let local = self.socket.local_addr().map_err(ServeError::Address)?;
        prepare(&self.socket, &self.gate.limits).map_err(ServeError::Setup)?;
        let watch = Watch::new(Arc::clone(&self.gate.limits), Arc::clone(&self.load), H::TAKES_PLAIN);
        let mut looking = JoinSet::new();
        looking.spawn(Arc::clone(&watch).run(self.stop.clone()));
        let Self { socket, is_kept, tls, handler, gate, load, stop } = self;
        let mut accepting = Accepting {
            socket: TcpListener::from_std(socket).map_err(ServeError::Setup)?,
            connections: JoinSet::new(),
            start: |stream, peer, admitted| {
                let connection = Connection { peer, local, tls: tls.is_some(), worker: load.worker };
                let (handler, watch) = (Arc::clone(&handler), Arc::clone(&watch));
                let acceptor = tls.as_ref().map(TlsHandle::acceptor);
                Task { connection, handler, watch, admitted }.run(stream, acceptor)
            },
            gate: Arc::clone(&gate),
            local,
        };
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            () = accepting.run() => {}
        }
        if !is_kept {
            accepting.empty_queue().await;
        }
        let connections = accepting.close();
        drain(connections, gate.limits.drain_timeout).await;
        Ok(())
    }
}

struct Accepting<S> {
    socket: TcpListener,
    connections: JoinSet<()>,
    start: S,
    gate: Arc<Gate>,
    local: SocketAddr,
}

impl<S, F> Accepting<S>
where
    S: Fn(TcpStream, SocketAddr, Admitted) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    /// Accepts for ever. May be dropped while it waits for a connection.
    async fn run(&mut self) {
        loop {
            let mut accepted = tokio::select! {
                biased;
                // Gives the memory of those that ended back.
                Some(_) = self.connections.join_next() => continue,
                accepted = self.socket.accept() => accepted,
            };
            for place in 1..=ACCEPT_BATCH {
                if !self.begin(accepted).await || place == ACCEPT_BATCH {
                    break;
                }
                match self.socket.accept().now_or_never() {
                    Some(next) => accepted = next,
                    None => break,
                }
            }
            // Those that are open have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// Whether the kernel may have more. Waits for a place with the connection in hand: who
    /// comes after it stays in the kernel's queue.
    async fn begin(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) -> bool {
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = self.gate.place().await else { return false };
                if let Some(admitted) = self.gate.admit(peer.ip(), place) {
                    self.connections.spawn((self.start)(stream, peer, admitted));
                }
                true
            }
            // The peer was quicker than we.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => true,
            Err(error) => {
                tracing::warn!(%error, local = %self.local, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                false
            }
        }
    }

    /// Closing a socket resets the connections in its queue, so that these are accepted first.
    async fn empty_queue(&mut self) {
        if let Err(error) = begin_none(&self.socket) {
            tracing::warn!(%error, local = %self.local, "new connections may be reset while the socket closes");
        }
        let until = Instant::now() + ACCEPT_GRACE;
        // Ends by the time alone: the last look at the queue is after the last handshake.
        let _ = timeout_at(until, self.run()).await;
    }

    fn close(self) -> JoinSet<()> {
        self.connections
    }
}

async fn drain(mut connections: JoinSet<()>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !connections.is_empty() {
        let ended = timeout_at(deadline, connections.join_next()).await;
        if ended.is_err() {
            tracing::warn!(left = connections.len(), "closing connections that did not finish in time");
            connections.shutdown().await;
        }
    }
}
