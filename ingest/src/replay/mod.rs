//! Dead letters of the raw archive: listed, read again by today's rules, or dropped.
//!
//! Never changes a dead letter, never writes one that fails again, so that a replay
//! cannot feed itself. What must stay true: a letter is marked as handled only after
//! what came of it is durable; a replay that is cut off and run again appends the same
//! records with the same identity, which deduplication drops.

mod filter;
mod handled;
mod judge;
mod letters;
mod run;
mod target;

use fanal_storage::archive::ArchiveError;
use thiserror::Error;

use crate::import::ImportError;

pub use filter::{LetterFilter, LetterId};
pub use handled::Action;
pub use letters::{DeadLetterStore, Letter};
pub use run::{Listed, ListedLetter, ReplayOptions, ReplayProgress, ReplayReport, Replayer};
pub use target::LogTarget;

/// Why dead letters cannot be read or replayed. What is durable stays; running the same
/// again goes on there.
#[derive(Debug, Error)]
pub enum ReplayError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the archive's store failed: {0}; check it and run the command again, what is marked stays")]
    Store(#[from] object_store::Error),
    #[error(
        "`{path}` does not say which dead letters were handled ({detail}): restore it; without it they are shown and \
         replayed again"
    )]
    Mark { path: String, detail: String },
    #[error("dead letters cannot be appended: {0}")]
    Append(#[from] ImportError),
    #[error("a dead letter does not fit the event log: {0}; this is a bug, please report it")]
    Record(#[from] fanal_storage::log::BatchError),
    #[error("reading was cut off: {0}; run the command again")]
    Reading(String),
}

#[cfg(test)]
mod tests;
