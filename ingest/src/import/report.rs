//! What an import tells about itself, under way and at its end.

use std::collections::BTreeMap;

/// What came of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileReport {
    pub file: String,
    /// Lines of the log that this run read.
    pub log_lines: u64,
    /// Lines of the log that earlier runs had read.
    pub already_imported: u64,
    /// Tracking lines.
    pub accepted: u64,
    /// By the name of the reason.
    pub rejected: BTreeMap<String, u64>,
    /// Log lines that are no answered tracking requests, by the name of the reason.
    pub ignored: BTreeMap<String, u64>,
    /// The last line has no end yet and was left for the next run.
    pub unfinished_line: bool,
    /// Sites that the catalogue does not know, with their log lines.
    pub unknown_sites: BTreeMap<String, u64>,
}

/// What came of all files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub files: Vec<FileReport>,
}

impl Report {
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.files.iter().map(|file| file.accepted).sum()
    }

    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.files.iter().flat_map(|file| file.rejected.values()).sum()
    }

    #[must_use]
    pub fn already_imported(&self) -> u64 {
        self.files.iter().map(|file| file.already_imported).sum()
    }
}

/// How far an import has come; reported after each batch.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'p> {
    pub file: &'p str,
    /// Bytes of the file as stored, read so far and in all.
    pub done_bytes: u64,
    pub total_bytes: u64,
    pub log_lines: u64,
    pub accepted: u64,
}
