//! A thread per core, each with a runtime, sockets and connections of its own.
//!
//! A connection stays with the worker that accepted it; workers share the handler and the
//! count of connections, nothing else. What must stay true: a worker that no longer turns
//! can be seen from outside ([`Workers::turns`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use super::gate::{Gate, Load};
use super::gather::Gather;
use super::serve::{ServeError, Serving};
use super::{Handler, HttpLimits, Sockets};
use crate::stop::Stop;
use crate::tls::TlsHandle;

/// How often each worker says that it turns.
const TURN: Duration = Duration::from_millis(250);
/// A worker that hangs holds up the end of the process for this long at most.
const END_TIMEOUT: Duration = Duration::from_secs(3);
const END_PAUSE: Duration = Duration::from_millis(1);
/// Tasks that run before a worker asks the kernel what else is ready. Tokio's 61 would ask
/// several times per round of a thousand busy connections.
const TASKS_PER_POLL: u32 = 256;

/// Why there are no workers.
#[derive(Debug, Error)]
pub enum WorkersError {
    #[error(
        "cannot start worker {worker} of {workers}: {source}; use fewer workers or raise the limits of threads and open files"
    )]
    Start { worker: usize, workers: usize, source: io::Error },
    #[error("{sockets} sockets for {workers} workers: {remedy}")]
    Sockets { sockets: usize, workers: usize, remedy: &'static str },
}

/// The threads. Dropping them ends them at once; [`Self::ended`] waits for their requests.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<Thread>,
    gate: Arc<Gate>,
    ended: Stop,
    serving: JoinSet<Result<(), ServeError>>,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    load: Arc<Load>,
    turns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// How many workers there are where nothing else is said: one for each core that we may use.
#[must_use]
pub fn workers_default() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

impl Workers {
    /// Starts `workers` threads; `limits` hold for all listeners together.
    pub fn start(workers: usize, limits: HttpLimits) -> Result<Self, WorkersError> {
        let ended = Stop::new();
        let mut threads = Vec::with_capacity(workers);
        for worker in 0..workers.max(1) {
            let load = Load::new(worker, workers, &limits);
            let thread = Thread::start(load, ended.clone());
            threads.push(thread.map_err(|source| WorkersError::Start { worker, workers, source })?);
        }
        Ok(Self { threads, gate: Gate::new(limits), ended, serving: JoinSet::new() })
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Serves the sockets, one by each worker, until `stop`; fewer sockets than workers are
    /// shared among them. Must be called in a tokio runtime.
    pub fn serve<H: Handler>(
        &mut self,
        sockets: Sockets,
        tls: Option<&TlsHandle>,
        handler: &Arc<H>,
        stop: &Stop,
    ) -> Result<(), WorkersError> {
        let Sockets { sockets, are_kept } = sockets;
        let refused =
            |remedy| WorkersError::Sockets { sockets: sockets.len(), workers: self.count(), remedy };
        if sockets.is_empty() || sockets.len() > self.count() {
            return Err(refused("a socket without a worker would keep its connections waiting for ever"));
        }
        for (worker, thread) in self.threads.iter().enumerate() {
            let socket = sockets[worker % sockets.len()]
                .try_clone()
                .map_err(|source| WorkersError::Start { worker, workers: self.count(), source })?;
            let serving = Serving {
                socket,
                is_kept: are_kept,
                tls: tls.cloned(),
                handler: Arc::clone(handler),
                gate: Arc::clone(&self.gate),
                load: Arc::clone(&thread.load),
                stop: stop.clone(),
            };
            self.serving.spawn_on(serving.run(), &thread.handle);
        }
        Ok(())
    }

    /// Runs something on one worker's thread, such as what writes out the worker's own counts.
    pub fn spawn_on(&self, worker: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.threads[worker].handle.spawn(task);
    }

    /// For each worker, a number that grows as long as it turns.
    #[must_use]
    pub fn turns(&self) -> Turns {
        Turns(self.threads.iter().map(|thread| Arc::clone(&thread.turns)).collect())
    }

    /// Returns when all listeners were stopped and their requests are answered.
    pub async fn ended(mut self) -> Result<(), ServeError> {
        let mut result = Ok(());
        while let Some(served) = self.serving.join_next().await {
            if let Ok(Err(error)) = served {
                result = Err(error);
            }
        }
        result
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.ended.stop();
        let until = Instant::now() + END_TIMEOUT;
        for thread in &mut self.threads {
            let Some(thread) = thread.thread.take() else { continue };
            while !thread.is_finished() && Instant::now() < until {
                // Drop cannot await; this thread is about to end as well.
                std::thread::park_timeout(END_PAUSE);
            }
            if thread.is_finished() {
                thread.join().ok();
            } else {
                tracing::error!("a worker does not end; it is left behind");
            }
        }
    }
}

impl Thread {
    fn start(load: Arc<Load>, ended: Stop) -> io::Result<Self> {
        let (watched, gather) = (Arc::clone(&load), Gather::default());
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(TASKS_PER_POLL)
            .on_thread_park(move || {
                if let Some(pause) = gather.pause(watched.waiting()) {
                    // All of this worker's requests are to wait, and nobody unparks it.
                    std::thread::park_timeout(pause);
                }
            })
            .build()?;
        let (handle, turns) = (runtime.handle().clone(), Arc::new(AtomicU64::new(0)));
        let turned = Arc::clone(&turns);
        let thread = std::thread::Builder::new().name(format!("http-{}", load.worker)).spawn(move || {
            runtime.block_on(async {
                while !ended.is_stopped() {
                    turned.fetch_add(1, Ordering::Relaxed);
                    let _ = tokio::time::timeout(TURN, ended.stopped()).await;
                }
            });
        })?;
        Ok(Self { handle, load, turns, thread: Some(thread) })
    }
}

/// Whether workers turn, for a watchdog.
#[derive(Debug, Clone)]
pub struct Turns(Vec<Arc<AtomicU64>>);

impl Turns {
    /// The numbers now.
    #[must_use]
    pub fn now(&self) -> Vec<u64> {
        self.0.iter().map(|turns| turns.load(Ordering::Relaxed)).collect()
    }

    /// Whether every worker has turned since `before`.
    #[must_use]
    pub fn all_since(&self, before: &[u64]) -> bool {
        self.now().iter().zip(before).all(|(now, before)| now > before)
    }
}
