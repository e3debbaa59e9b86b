//! The engine's threads and the queue in front of them.
//!
//! Duty: start the engine once, hand every admitted request to a thread of its
//! own, stop everything in order. Must stay true: no more statements run than
//! there are threads, no more wait than the bound, and one connection stays
//! open as long as the pool lives, because the engine ends with its last one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::BodyReader;
use crate::exception::Exception;
use crate::execute;
use crate::ffi::{Connection, Library, LoadError};
use crate::reply::Reply;
use crate::request::Request;
use crate::{ServeError, ServerConfig};

/// Kill orders that may wait; more are dropped, the statements then run on.
const KILLS_WAITING_MAX: usize = 64;
/// Folder inside of the data directory for answers that are sent as one document.
const RESULTS_FOLDER: &str = "http-results";
/// Our own lock, taken before the engine's, for a clear error.
const LOCK_FILE: &str = "fanal.lock";

/// What the threads share.
pub(crate) struct Engine {
    library: Library,
    arguments: Vec<String>,
    pub(crate) results: PathBuf,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) query_bytes_max: usize,
}

impl Engine {
    /// A fresh connection: about 0.2 ms, and nothing of another request is in it.
    pub(crate) fn connect(&self) -> Option<Connection> {
        self.library.connect(&self.arguments)
    }
}

/// Texts of the engine that answers carry.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) timezone: String,
    pub(crate) host: String,
}

/// A statement under way, seen from both sides.
pub(crate) struct Running {
    /// How the engine lists it; unique.
    pub(crate) mark: String,
    state: AtomicU8,
}

const WAITING: u8 = 0;
/// Reads only, so nothing is lost when it is killed.
const READING: u8 = 1;
const WRITING: u8 = 2;
const DONE: u8 = 3;

impl Running {
    pub(crate) fn new(mark: String) -> Self {
        Self { mark, state: AtomicU8::new(WAITING) }
    }

    pub(crate) fn begins(&self, read_only: bool) {
        self.state.store(if read_only { READING } else { WRITING }, Ordering::Release);
    }

    fn is_reading(&self) -> bool {
        self.state.load(Ordering::Acquire) == READING
    }
}

/// A request on its way to a thread.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) body: BodyReader,
    pub(crate) reply: Reply,
    pub(crate) running: Arc<Running>,
    pub(crate) place: OwnedSemaphorePermit,
}

/// The running engine.
pub(crate) struct Pool {
    engine: Arc<Engine>,
    pub(crate) greeting: Greeting,
    jobs: Sender<Job>,
    kills: SyncSender<Arc<Running>>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    threads: Vec<JoinHandle<()>>,
    /// Never used after the start; the lock only makes it shareable.
    anchor: Mutex<Connection>,
    _lock: std::fs::File,
}

impl Pool {
    /// Loads the library, starts the engine and its threads. Blocks for about a second.
    pub(crate) fn start(config: &ServerConfig) -> Result<Self, ServeError> {
        let lock = lock_directory(&config.data_dir)?;
        let results = config.data_dir.join(RESULTS_FOLDER);
        prepare_results(&results).map_err(|source| directory_error(&config.data_dir, source))?;
        let library = load(&config.library)?;
        let path = config.data_dir.to_str().ok_or_else(|| {
            directory_error(&config.data_dir, std::io::Error::other("its name is not UTF-8"))
        })?;
        // A server takes no bare expression for a select.
        let mut arguments = vec![format!("--path={path}"), "--implicit_select=0".to_owned()];
        if let Some(file) = &config.engine_config_file {
            arguments.push(format!("--config-file={}", file.display()));
        }
        let engine = Arc::new(Engine {
            library,
            arguments,
            results,
            settings: config.settings.clone(),
            query_bytes_max: config.query_bytes_max,
        });
        let mut anchor =
            engine.connect().ok_or_else(|| ServeError::EngineStart { path: config.data_dir.clone() })?;
        let greeting = greet(&mut anchor).map_err(|reason| ServeError::EngineAnswer { reason })?;
        let (jobs, job_source) = channel::<Job>();
        let (kills, kill_source) = sync_channel(KILLS_WAITING_MAX);
        let mut threads = Vec::new();
        let job_source = Arc::new(Mutex::new(job_source));
        for number in 0..config.connections {
            let (engine, source) = (Arc::clone(&engine), Arc::clone(&job_source));
            threads.push(spawn(format!("clickhouse-{number}"), move || work(&engine, &source))?);
        }
        let killer = Arc::clone(&engine);
        threads.push(spawn("clickhouse-kill".to_owned(), move || kill(&killer, &kill_source))?);
        Ok(Self {
            engine,
            greeting,
            jobs,
            kills,
            places: Arc::new(Semaphore::new(config.connections)),
            waiting: AtomicUsize::new(0),
            waiting_max: config.waiting_max,
            threads,
            anchor: Mutex::new(anchor),
            _lock: lock,
        })
    }

    /// Waits for a free place, unless too many wait already.
    pub(crate) async fn admit(&self) -> Result<OwnedSemaphorePermit, Exception> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let counted = Waiting::count(&self.waiting);
        if counted.before >= self.waiting_max {
            return Err(Exception::busy("Too many simultaneous queries: the queue is full, try again later"));
        }
        Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| Exception::busy("The embedded ClickHouse is stopping"))
    }

    /// Gives a request to a thread.
    pub(crate) fn submit(&self, job: Job) {
        if let Err(lost) = self.jobs.send(job) {
            lost.0.reply.fail(&Exception::busy("The embedded ClickHouse is stopping"));
        }
    }

    /// The client of a statement went away: a read is ended, a write goes on.
    pub(crate) fn abandon(&self, running: &Arc<Running>) {
        if running.is_reading() && self.kills.try_send(Arc::clone(running)).is_err() {
            tracing::warn!("kill queue is full, an abandoned statement runs on");
        }
    }

    /// Waits for the threads, then ends the engine. All jobs must be done.
    pub(crate) fn stop(self) {
        drop(self.jobs);
        drop(self.kills);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("an engine thread ended by a panic");
            }
        }
        drop(self.anchor);
        let stopped = self.engine.library.shutdown();
        tracing::info!(threads_stopped = stopped, "engine closed");
    }

    /// Places that are taken now.
    pub(crate) fn busy(&self, connections: usize) -> usize {
        connections.saturating_sub(self.places.available_permits())
    }
}

/// Counts a waiting request as long as it lives, also when its future is dropped.
struct Waiting<'a> {
    counter: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn count(counter: &'a AtomicUsize) -> Self {
        Self { counter, before: counter.fetch_add(1, Ordering::AcqRel) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::AcqRel);
    }
}

fn directory_error(path: &Path, source: std::io::Error) -> ServeError {
    ServeError::Directory { path: path.to_owned(), source }
}

fn lock_directory(path: &Path) -> Result<std::fs::File, ServeError> {
    std::fs::create_dir_all(path).map_err(|source| directory_error(path, source))?;
    let lock = std::fs::File::create(path.join(LOCK_FILE)).map_err(|source| directory_error(path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServeError::DirectoryInUse { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(directory_error(path, source)),
    }
}

/// An empty folder for results; what a killed process left is removed.
fn prepare_results(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(path)
}

fn load(path: &Path) -> Result<Library, ServeError> {
    if !path.is_file() {
        return Err(ServeError::LibraryMissing { tried: vec![path.to_owned()] });
    }
    Library::load(path).map_err(|error| match error {
        LoadError::Open(reason) => ServeError::LibraryUnusable { path: path.to_owned(), reason },
        LoadError::Symbol(symbol) => ServeError::SymbolMissing { path: path.to_owned(), symbol },
    })
}

fn greet(connection: &mut Connection) -> Result<Greeting, String> {
    let answer = connection.query("SELECT version(), timezone(), hostName()", "TSVRaw", &[])?;
    let text = String::from_utf8_lossy(answer.bytes()).into_owned();
    let mut parts = text.trim_end().split('\t').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(version), Some(timezone), Some(host)) => Ok(Greeting { version, timezone, host }),
        _ => Err(format!("unexpected greeting {text:?}")),
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ServeError> {
    std::thread::Builder::new()
        .name(name)
        .spawn(run)
        .map_err(|source| ServeError::System { action: "start a thread", source })
}

fn work(engine: &Engine, source: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: the others wait for the lock instead.
        let next = source.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let running = Arc::clone(&job.running);
        if catch_unwind(AssertUnwindSafe(|| execute::run(engine, job))).is_err() {
            tracing::error!("a statement ended by a panic");
        }
        running.state.store(DONE, Ordering::Release);
    }
}

fn kill(engine: &Engine, source: &Receiver<Arc<Running>>) {
    while let Ok(running) = source.recv() {
        if !running.is_reading() {
            continue;
        }
        let Some(mut connection) = engine.connect() else { continue };
        let mark = [("mark".to_owned(), running.mark.clone())];
        let sql = "KILL QUERY WHERE Settings['log_comment'] = {mark:String} ASYNC";
        if let Err(error) = connection.query(sql, "Null", &mark) {
            tracing::warn!(error, "cannot end an abandoned statement");
        }
    }
}
