//! How `fanal dev` is to be started.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::dev::Dev;

/// The listeners of `fanal dev`, as its flags name them.
pub(crate) const LISTENERS: [&str; 5] = ["http", "https", "sse", "admin", "clickhouse"];

/// Options of a start.
#[derive(Debug, Clone)]
pub struct Start {
    pub(crate) folder: PathBuf,
    pub(crate) addresses: [String; 5],
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, OsString)>,
    /// Words before the program, such as `unshare -m`.
    pub(crate) wrapper: Vec<String>,
}

/// A start that did not come to `ready`.
#[derive(Debug)]
pub struct Failure {
    /// Exit code; -1 where it had to be killed because nothing happened.
    pub code: i32,
    pub output: String,
}

impl Start {
    /// On free ports of loopback.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            addresses: LISTENERS.map(|_| free_address()),
            arguments: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// # Panics
    /// When there is no listener of that name.
    #[must_use]
    pub fn address(mut self, listener: &str, address: &str) -> Self {
        let at = LISTENERS.iter().position(|name| *name == listener).unwrap();
        address.clone_into(&mut self.addresses[at]);
        self
    }

    #[must_use]
    pub fn arguments(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts and waits for `ready`.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn dev(&self) -> Dev {
        self.try_dev()
            .unwrap_or_else(|failure| panic!("fanal dev ended with {}\n{}", failure.code, failure.output))
    }

    /// As [`Start::dev`]; a start that fails is the caller's to judge.
    ///
    /// # Errors
    /// When the program ended, or did not become ready in time.
    pub fn try_dev(&self) -> Result<Dev, Failure> {
        Dev::start(self)
    }

    /// The failure of a start that must fail by itself.
    ///
    /// # Panics
    /// When it becomes ready, or hangs.
    #[must_use]
    pub fn must_fail(&self) -> Failure {
        let Err(failure) = self.try_dev() else { panic!("fanal dev became ready; it should have refused") };
        assert!(failure.code >= 0, "fanal dev neither became ready nor ended\n{}", failure.output);
        failure
    }
}

/// Below the ports that the kernel gives to outgoing connections, so that a
/// killed program finds its ports free when it is started again.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address of loopback that nobody listens on, and no other test is given.
pub(crate) fn free_address() -> String {
    PORTS
        .map(|_| {
            let number =
                std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            format!("127.0.0.1:{}", PORTS.start + number % (PORTS.end - PORTS.start))
        })
        .find(|address| TcpListener::bind(address).is_ok())
        .unwrap()
}
