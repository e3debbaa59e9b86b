//! Logs to standard error: for people on a terminal, JSON otherwise.
//!
//! Never blocks a role: lines go through a bounded queue to one writing
//! thread; when nobody reads them in time they are dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the writing thread.
const QUEUE_LINES_MAX: usize = 8192;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    Human,
    Json,
}

/// Why logs cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    #[error(
        "`{filter}` is not a log filter: write a level such as `info`, or `info,fanal_ingest=debug` ({reason})"
    )]
    Filter { filter: String, reason: String },
    #[error("logs are already set up in this process; set them up once, in main")]
    Twice,
    #[error("cannot start the thread that writes logs: {0}; raise the limit on threads")]
    Thread(io::Error),
}

/// Keeps the writing thread; dropping it writes what still waits.
#[derive(Debug)]
pub struct Logs {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    End,
}

/// Sets up logs for the whole process. `filter` is as in `RUST_LOG`.
pub fn start(format: LogFormat, filter: &str) -> Result<Logs, LogError> {
    let env_filter = EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let terminal = io::stderr().is_terminal();
    let human = format == LogFormat::Human || (format == LogFormat::Auto && terminal);
    let (sender, receiver) = sync_channel(QUEUE_LINES_MAX);
    let thread = std::thread::Builder::new()
        .name("logs".to_owned())
        .spawn(move || write_lines(&receiver, &mut io::stderr().lock()))
        .map_err(LogError::Thread)?;
    let builder = tracing_subscriber::fmt().with_env_filter(env_filter).with_writer(Queue(sender.clone()));
    let set = if human {
        builder.with_ansi(terminal).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    let logs = Logs { sender: Some(sender), thread: Some(thread) };
    set.map_err(|_| LogError::Twice)?;
    Ok(logs)
}

impl Drop for Logs {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            // The subscriber keeps a sender for ever, so that the end must be said.
            let _ = sender.send(Message::End);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_lines(receiver: &Receiver<Message>, out: &mut impl Write) {
    while let Ok(Message::Line(line)) = receiver.recv() {
        // With standard error gone there is nowhere left to say so.
        let _ = out.write_all(&line);
    }
    let _ = out.flush();
}

/// Makes one buffer per line.
struct Queue(SyncSender<Message>);

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::with_capacity(256), sender: self.0.clone() }
    }
}

/// One line; sent when it is complete, dropped if the queue is full.
struct Line {
    bytes: Vec<u8>,
    sender: SyncSender<Message>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.bytes);
        if !line.is_empty() && self.sender.try_send(Message::Line(line)).is_err() {
            metrics::counter!("log_lines_dropped_total").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_lines_instead_of_blocking() {
        let (sender, receiver) = sync_channel(2);
        let queue = Queue(sender);
        for n in 0..5 {
            writeln!(queue.make_writer(), "line {n}").unwrap();
        }
        drop(queue);
        let mut out = Vec::new();
        write_lines(&receiver, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "line 0\nline 1\n");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let error = start(LogFormat::Json, "info,=,").unwrap_err().to_string();
        assert!(error.contains("`info,=,`"), "{error}");
    }
}
