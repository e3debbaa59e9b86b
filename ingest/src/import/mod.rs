//! Import of nginx access logs: files, or standard input, into the event log.
//!
//! Never adds a line twice: how far a file has come stands in the same commit as the
//! records of its lines, so a kill at any moment loses and repeats nothing. A file is
//! known by its content, not by its name: compressed, renamed or grown, it goes on
//! where it stopped. Memory is bounded by one line and one batch.

mod endpoint;
mod error;
mod kafka;
mod lines;
mod position;
mod remote;
mod report;
mod run;
mod source;
mod state;

pub use endpoint::ImportEndpoint;
pub use error::ImportError;
pub use kafka::KafkaTarget;
pub use position::{HeadHash, Position};
pub use remote::RemoteTarget;
pub use report::{FileReport, Progress, Report};
pub use run::{ImportOptions, Importer};
pub use source::Input;
pub use state::{Imports, LocalTarget};

use std::future::Future;

use fanal_storage::log::Batch;

/// Where an import goes: the log of this process, the process that holds it, or Kafka.
pub trait ImportTarget {
    /// What is known of files with this head.
    fn lookup(&self, head: &HeadHash) -> impl Future<Output = Result<Vec<Position>, ImportError>>;
    /// Returns after the batch and the position in it are durable.
    fn append(&self, batch: Batch) -> impl Future<Output = Result<(), ImportError>>;
    /// Ends the file of the raw archive, so that what was imported shows soon.
    fn seal(&self) -> impl Future<Output = Result<(), ImportError>>;
}

#[cfg(test)]
mod tests;
