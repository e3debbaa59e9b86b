//! The log files of the day.
//!
//! Duty: one file per node and UTC date, as log rotation at midnight leaves them. Each node has two workers that buffer
//! their lines as `access_log … buffer=` does, so that lines are near the order of time, but not in it.

use super::account::Day;
use super::nginx::{Renderer, truncated};
use super::{Error, Options};
use crate::random::mix;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const WORKERS: usize = 2;
const WORKER_BUFFER_BYTES: usize = 32 * 1024;
const DATE_MS: u64 = 24 * 60 * 60 * 1000;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub files: Vec<PathBuf>,
    pub log_lines: u64,
    pub bytes: u64,
    /// Files that end in the middle of a line.
    pub torn_ends: u64,
}

/// One node: the file of the current date, and its workers' buffers.
struct Node {
    name: String,
    date: u64,
    file: Option<(PathBuf, File)>,
    workers: [Vec<u8>; WORKERS],
}

/// Writes all log files.
pub(super) fn logs(day: &Day, options: &Options) -> Result<Written, Error> {
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Write { path, source }
    };
    std::fs::create_dir_all(&options.out).map_err(fail(&options.out))?;
    let mut nodes: Vec<Node> = (1..=day.nodes)
        .map(|n| Node {
            name: format!("node-{n}"),
            date: 0,
            file: None,
            workers: std::array::from_fn(|_| Vec::with_capacity(2 * WORKER_BUFFER_BYTES)),
        })
        .collect();
    let mut renderer = Renderer::default();
    let mut written = Written::default();
    for request in &day.requests {
        let node = &mut nodes[usize::from(request.node)];
        let date = request.at_ms / DATE_MS;
        if node.date != date {
            node.flush(&mut written)?;
            node.open(date, &options.out, &mut written)?;
        }
        let worker = usize::try_from(mix(request.sequence.into()) % WORKERS as u64).unwrap_or(0);
        renderer.request(day, request, &mut node.workers[worker]);
        written.log_lines += 1;
        if node.workers[worker].len() >= WORKER_BUFFER_BYTES {
            node.write(worker, &mut written)?;
        }
    }
    for node in &mut nodes {
        node.flush(&mut written)?;
    }
    if let (Some(node), Some(last)) = (nodes.first_mut(), day.requests.last()) {
        // The machine lost power: the last line of one file has no end.
        truncated(last, &day.sites[0], 33, &mut node.workers[0]);
        node.flush(&mut written)?;
        written.log_lines += 1;
        written.torn_ends += 1;
    }
    written.files.sort();
    Ok(written)
}

impl Node {
    fn open(&mut self, date: u64, out: &Path, written: &mut Written) -> Result<(), Error> {
        let path = out.join(format!("{}-{}.log", self.name, super::truth::date(date * DATE_MS)));
        let file = File::create(&path).map_err(|source| Error::Write { path: path.clone(), source })?;
        written.files.push(path.clone());
        self.date = date;
        self.file = Some((path, file));
        Ok(())
    }

    fn flush(&mut self, written: &mut Written) -> Result<(), Error> {
        (0..WORKERS).try_for_each(|worker| self.write(worker, written))
    }

    fn write(&mut self, worker: usize, written: &mut Written) -> Result<(), Error> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        let buffer = &mut self.workers[worker];
        file.write_all(buffer).map_err(|source| Error::Write { path: path.clone(), source })?;
        written.bytes += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }
}
