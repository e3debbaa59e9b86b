//! What the process asks of the system for itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// Connections are files: the process may open as many as the system lets it.
pub(super) fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Keeps the process, and the processes that it starts, to pages of the usual size: of pages of
/// 2 MiB most was never used where memory is many small pieces, and a process is counted for
/// all of it.
///
/// Holds whether that is ours to take back: whoever started the process may have asked before.
pub(crate) struct SmallPages(rustix::io::Result<bool>);

impl SmallPages {
    /// To be asked for before much memory is used.
    pub(crate) fn ask() -> Self {
        Self(transparent_huge_pages_are_disabled().and_then(|before| match before {
            true => Ok(false),
            false => disable_transparent_huge_pages(true).map(|()| true),
        }))
    }

    /// For what works on memory in large pieces.
    pub(crate) fn take_back(&mut self) {
        if self.0 == Ok(true) {
            self.0 = disable_transparent_huge_pages(false).map(|()| false);
        }
    }

    /// Logs what did not work; it costs memory or speed, nothing else.
    pub(crate) fn report(&self) {
        if let Err(error) = &self.0 {
            tracing::info!(%error, "the system does not let the process choose the size of its pages");
        }
    }
}
