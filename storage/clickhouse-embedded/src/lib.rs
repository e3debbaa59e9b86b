//! The embedded ClickHouse: the real engine (`libchdb.so`, loaded at run time)
//! behind the ClickHouse HTTP interface.
//!
//! Duty: answer ordinary ClickHouse clients as a server would, from one data
//! directory. It never interprets SQL beyond a statement's outline, never
//! stores a result, and knows nothing of the rest of the program. What must
//! stay true:
//! - the engine is called on its own threads only, never on the runtime's;
//! - every statement runs on a fresh connection, so no setting, database or
//!   temporary table of one request is seen by another;
//! - an answer that did not reach its end never looks whole.
//!
//! It is meant to be a process of its own: the engine takes a data directory
//! for the life of the process, and a crash of it must not take the caller along.

use std::path::PathBuf;
use std::time::Duration;

mod body;
mod exception;
mod execute;
mod ffi;
mod format;
mod framing;
mod gather;
mod handle;
mod lexer;
mod library;
mod parameters;
mod pool;
mod process;
mod reply;
mod request;
mod serve;
mod statement;

pub use library::{LIBRARY_VARIABLE, find_library};
pub use process::die_with_parent;
pub use serve::serve;

/// What [`serve`] needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The engine's library, as [`find_library`] finds it.
    pub library: PathBuf,
    /// Folder of the engine's data; made if it is missing.
    pub data_dir: PathBuf,
    /// The engine's own configuration (XML or YAML), such as `remote_servers`.
    pub engine_config_file: Option<PathBuf>,
    /// Statements that run at the same time.
    pub connections: usize,
    /// Requests that may wait for a free place; more get 503 with code 202.
    pub waiting_max: usize,
    /// Largest statement (data of an insert does not count), in bytes.
    pub query_bytes_max: usize,
    /// HTTP connections open at the same time.
    pub http_connections_max: usize,
    /// The only user; `default` unless said otherwise.
    pub user: String,
    /// Password of the user. Without one any password is taken, so listen on loopback.
    pub password: Option<String>,
    /// Settings of every statement, before those of the request.
    pub settings: Vec<(String, String)>,
    /// How long a client may keep a statement waiting, by sending or taking nothing.
    pub client_stall_max: Duration,
    /// How long running statements may go on after the stop.
    pub drain_max: Duration,
}

impl ServerConfig {
    /// The defaults, for this library and this folder.
    pub fn new(library: PathBuf, data_dir: PathBuf) -> Self {
        Self {
            library,
            data_dir,
            engine_config_file: None,
            connections: 8,
            waiting_max: 128,
            query_bytes_max: 16 << 20,
            http_connections_max: 512,
            user: "default".to_owned(),
            password: None,
            settings: Vec::new(),
            client_stall_max: Duration::from_secs(120),
            drain_max: Duration::from_secs(20),
        }
    }
}

/// Why the embedded ClickHouse could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No library in any known place.
    #[error(
        "libchdb.so is missing (looked for {}); `make run` installs it, or name the file in FANAL_LIBCHDB",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    LibraryMissing {
        /// Places that were looked at.
        tried: Vec<PathBuf>,
    },
    /// The file is there but is no library for this machine.
    #[error(
        "cannot load {}: {reason}; run `make run` to install the library again, or name another file in FANAL_LIBCHDB",
        path.display()
    )]
    LibraryUnusable {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The library lacks a call, so it is of another version.
    #[error(
        "{} has no call `{symbol}`, so it is of another version; run `make run` to install \
         @chdb/lib-linux-x64-gnu 26.7.3-stable.1",
        path.display()
    )]
    SymbolMissing {
        /// The file.
        path: PathBuf,
        /// The call.
        symbol: &'static str,
    },
    /// Another process works on the data directory.
    #[error(
        "the data directory {} is in use by another process (code 76); stop that one or choose another directory",
        path.display()
    )]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be made or written.
    #[error("cannot use the data directory {}: {source}; check its owner and free space", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The engine refused to start.
    #[error(
        "the engine does not start on {}; its own words are on standard error, and a copy of the directory is \
         worth keeping before anything is deleted",
        path.display()
    )]
    EngineStart {
        /// The directory.
        path: PathBuf,
    },
    /// The engine answered its first statement with an error.
    #[error("the engine started but does not answer: {reason}")]
    EngineAnswer {
        /// The engine's text.
        reason: String,
    },
    /// A setting that cannot work.
    #[error("{key} must be at least 1; the default is {default}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Its default.
        default: usize,
    },
    /// A thread or a socket could not be had.
    #[error("cannot {action}: {source}; check the limits of this process")]
    System {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}
