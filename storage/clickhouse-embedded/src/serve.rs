//! The server: starts the engine, accepts connections, drains, ends the engine.
//!
//! Must stay true: after the stop no new statement begins, running ones get
//! their time, and the engine is closed in order.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::handle::{Service, answer};
use crate::pool::Pool;
use crate::{ServeError, ServerConfig};

/// A client must have sent its request's head after this time.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the drain looks at the running statements.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// Serves the ClickHouse HTTP interface on the listener until `stop` ends, then
/// lets running statements end (up to `drain_max`) and closes the engine.
///
/// One call per process: the engine takes one data directory and cannot be
/// started again after its end.
///
/// # Errors
/// A start that failed; each variant of [`ServeError`] names its remedy.
pub async fn serve(
    config: ServerConfig,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    for (key, value, default) in [
        ("connections", config.connections, 8),
        ("query_bytes_max", config.query_bytes_max, 16 << 20),
        ("http_connections_max", config.http_connections_max, 512),
    ] {
        if value == 0 {
            return Err(ServeError::Setting { key, default });
        }
    }
    let starting = config.clone();
    let pool = tokio::task::spawn_blocking(move || Pool::start(&starting))
        .await
        .map_err(|error| ServeError::System { action: "start the engine", source: error.into() })??;
    tracing::info!(version = pool.greeting.version, "embedded clickhouse is ready");
    let service = Arc::new(Service {
        config,
        pool: Arc::new(pool),
        runtime: Handle::current(),
        stopping: AtomicBool::new(false),
    });
    let (stopped, watched) = watch::channel(false);
    let mut connections = accept(&service, listener, stop, &watched).await;
    service.stopping.store(true, Ordering::Release);
    stopped.send_replace(true);
    drain(service, &mut connections).await;
    Ok(())
}

async fn accept(
    service: &Arc<Service>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let places = Arc::new(Semaphore::new(service.config.http_connections_max));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => return connections,
            Some(_) = connections.join_next() => {}
            (place, accepted) = next => match accepted {
                Ok((socket, _)) => {
                    let (service, stopped) = (Arc::clone(service), stopped.clone());
                    connections.spawn(async move {
                        serve_connection(service, socket, stopped).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_connection(service: Arc<Service>, socket: TcpStream, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set nodelay");
    }
    let mut connection = pin!(
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).serve_connection(
            TokioIo::new(socket),
            service_fn(move |request| answer(Arc::clone(&service), request))
        )
    );
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop_seen(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

async fn stop_seen(stopped: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop as well.
    let _gone = stopped.wait_for(|stopped| *stopped).await.is_err();
}

/// Waits for running statements, then closes the engine.
async fn drain(service: Arc<Service>, connections: &mut JoinSet<()>) {
    let bound = service.config.drain_max;
    let places = service.config.connections;
    let ended = timeout(bound, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(
            running = service.pool.busy(places),
            "statements still run after the drain, breaking them off"
        );
        connections.shutdown().await;
    }
    // Reads were told to end by their clients' going; give them a last moment.
    let quiet = timeout(bound.min(Duration::from_secs(5)), async {
        while service.pool.busy(places) > 0 {
            sleep(DRAIN_STEP).await;
        }
    })
    .await;
    let pool = Arc::into_inner(service).and_then(|service| Arc::into_inner(service.pool));
    match (quiet, pool) {
        (Ok(()), Some(pool)) => {
            if tokio::task::spawn_blocking(move || pool.stop()).await.is_err() {
                tracing::error!("the engine's end panicked");
            }
        }
        // The engine survives a killed process; its end without a close is no loss.
        _ => tracing::warn!("a statement does not end, leaving the engine to the end of the process"),
    }
}
