//! What the process asks of the system for itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

use crate::config::Config;

/// Before anything is read: in pages of 2 MiB most of the memory that a process is counted for
/// was never used, where there are only many small pieces.
pub(crate) fn use_small_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "cannot do without large pages of memory");
    }
}

pub(super) fn prepare(config: &Config) {
    if let Err(error) = allow_many_files() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    // Visits are built in large pieces.
    if config.etl.is_some()
        && let Err(error) = disable_transparent_huge_pages(false)
    {
        tracing::warn!(%error, "cannot use large pages of memory");
    }
}

/// Connections are files: the process may open as many as the system lets it.
fn allow_many_files() -> rustix::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
}
