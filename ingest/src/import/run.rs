//! The import itself: where to go on in each file, its lines into batches, the
//! position into each batch.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanal_model::{AddressPolicy, DeadLetter, RULES_VERSION, RejectReason, SiteCode, Source as Origin};
use fanal_parser::log_format::{LogFormat, LogLine, LogOutcome, LogRequest, Scratch, with_reduced_addresses};
use fanal_parser::{Counts, Limits, Receiver};
use fanal_storage::catalogue::SiteDirectory;
use fanal_storage::log::{Batch, Clock, Topic};

use super::ImportTarget;
use super::error::ImportError;
use super::lines::{Found, Lines, furthest, head};
use super::position::{HeadHash, Position};
use super::report::{FileReport, Progress, Report};
use super::source::{Input, Source};
use crate::key::AddressKey;
use crate::sink::BatchSink;

/// A batch is closed after this many log lines, however small they are.
const BATCH_LINES_MAX: u64 = 10_000;
/// What one log line may add to a batch; below what a commit takes.
const LINE_RECORDS_BYTES_MAX: usize = 5 << 20;
/// So much of a line that cannot be read is kept in its dead letter.
const DEAD_BYTES_MAX: usize = 1 << 20;

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Name of the node that wrote the log, in every record.
    pub node: String,
    /// How the lines are written.
    pub format: LogFormat,
    pub limits: Limits,
    /// A batch is closed when it has this many bytes; one line may add 5 MiB.
    pub batch_bytes: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        let (node, format) = ("import".to_owned(), LogFormat::fanal());
        Self { node, format, limits: Limits::default(), batch_bytes: 1 << 20 }
    }
}

/// Imports files into a target.
pub struct Importer<T> {
    target: T,
    sites: SiteDirectory,
    key: AddressKey,
    options: ImportOptions,
    now_ms: Clock,
    receiver: Receiver,
    scratch: Scratch,
    record_key: Vec<u8>,
}

/// One file under way.
struct Work {
    report: FileReport,
    head: HeadHash,
    /// Where this file's last durable position is, and its sums.
    base: Option<Position>,
    /// What was known when this run began; said once, with the first batch.
    known: Option<String>,
    batch: Batch,
    batch_lines: u64,
    /// Time of the last line that had one: unreadable lines are counted there.
    last_ms: u64,
}

impl<T: ImportTarget> Importer<T> {
    pub fn new(
        target: T,
        sites: SiteDirectory,
        key: AddressKey,
        options: ImportOptions,
        now_ms: Clock,
    ) -> Self {
        let receiver = Receiver::new(options.limits);
        let (scratch, record_key) = (Scratch::default(), Vec::new());
        Self { target, sites, key, options, now_ms, receiver, scratch, record_key }
    }

    /// Imports all inputs one after the other; ends when all is durable.
    pub async fn run(
        &mut self,
        inputs: &[Input],
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Report, ImportError> {
        let mut report = Report::default();
        for input in inputs {
            report.files.push(self.file(input, &mut progress).await?);
        }
        if report.files.iter().any(|file| file.log_lines > 0) {
            self.target.seal().await?;
        }
        Ok(report)
    }

    async fn file(
        &mut self,
        input: &Input,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<FileReport, ImportError> {
        let source = input.open().await?;
        let name = input.name();
        let failed = |lines: u64, error: io::Error| failure(input, lines, &error);
        let mut content = source.content().map_err(|e| failed(0, e))?;
        let Some(head) = head(&mut *content).map_err(|e| failed(0, e))? else {
            return Ok(FileReport { file: name, ..FileReport::default() });
        };
        let positions = self.target.lookup(&head).await?;
        let base = match positions.is_empty() {
            true => None,
            false => {
                let mut lines = Lines::new(source.content().map_err(|e| failed(0, e))?);
                furthest(&mut lines, &positions).map_err(|e| failed(lines.offset, e))?.cloned()
            }
        };
        let mut lines = Lines::new(source.content().map_err(|e| failed(0, e))?);
        let mut report = FileReport { file: name, ..FileReport::default() };
        if let Some(base) = &base {
            let mut newlines = 0;
            lines.skip_to(base.offset, &mut newlines).map_err(|e| failed(lines.offset, e))?;
            report.already_imported = base.log_lines;
        }
        let known = Some(Position::summary(&positions));
        let last_ms = (self.now_ms)();
        let mut work = Work { report, head, base, known, batch: Batch::new(), batch_lines: 0, last_ms };
        self.lines(&mut work, &mut lines, &source, input, progress).await?;
        Ok(work.report)
    }

    async fn lines(
        &mut self,
        work: &mut Work,
        lines: &mut Lines,
        source: &Source,
        input: &Input,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(), ImportError> {
        loop {
            let found = match lines.next() {
                Ok(found) => found,
                Err(error) => {
                    // What was whole before the damage is kept.
                    self.flush(work, lines).await?;
                    return Err(failure(input, lines.offset, &error));
                }
            };
            match found {
                Found::Line => self.line(work, lines.line()),
                Found::TooLong => {
                    let line = Rejected { line: lines.line(), read: None };
                    self.reject(work, line, RejectReason::LineTooLong, "", AddressPolicy::default());
                }
                Found::Unfinished if source.complete => {
                    lines.take_unfinished();
                    self.line(work, lines.line());
                }
                Found::Unfinished => work.report.unfinished_line = true,
                Found::End => {}
            }
            let ended = matches!(found, Found::End | Found::Unfinished);
            if work.batch.byte_len() >= self.options.batch_bytes
                || work.batch_lines >= BATCH_LINES_MAX
                || ended
            {
                self.flush(work, lines).await?;
                progress(Progress {
                    file: &work.report.file,
                    done_bytes: source.read_bytes.load(Ordering::Relaxed),
                    total_bytes: source.stored_bytes,
                    log_lines: work.report.log_lines,
                    accepted: work.report.accepted,
                });
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Makes the batch durable together with the position behind its last line.
    async fn flush(&mut self, work: &mut Work, lines: &Lines) -> Result<(), ImportError> {
        if work.batch_lines == 0 {
            return Ok(());
        }
        let base = work.base.as_ref();
        let position = Position {
            offset: lines.offset,
            prefix: lines.prefix(),
            extends: base.map(|base| base.prefix.clone()),
            known: work.known.take(),
            log_lines: work.report.already_imported + work.report.log_lines,
            accepted: work.report.accepted,
            rejected: work.report.rejected.clone(),
            ignored: work.report.ignored.clone(),
            file: work.report.file.clone(),
        };
        let mut batch = std::mem::take(&mut work.batch);
        position.push(&work.head, &mut batch)?;
        self.target.append(batch).await?;
        work.batch_lines = 0;
        work.base = Some(position);
        Ok(())
    }

    fn line(&mut self, work: &mut Work, line: &[u8]) {
        if line.is_empty() {
            // The end of a line whose beginning was complete already, or a blank.
            work.ignore("empty_line");
            return;
        }
        // The scratch is taken out, so that what it holds can be used beside `self`.
        let mut scratch = std::mem::take(&mut self.scratch);
        let read = self.options.format.read(line);
        let line = Rejected { line, read: read.as_ref().ok() };
        let parsed = read.as_ref().map_err(|reason| *reason).and_then(|read| {
            work.last_ms = read.received_at_ms;
            read.outcome(&mut scratch)
        });
        match parsed {
            Ok(LogOutcome::Ignored(reason)) => work.ignore(reason.name()),
            Ok(LogOutcome::Request(request)) => self.request(work, line, &request),
            Err(reason) => {
                if reason == RejectReason::UnknownSite {
                    *work.report.unknown_sites.entry(String::new()).or_default() += 1;
                }
                self.reject(work, line, reason, "", AddressPolicy::default());
            }
        }
        self.scratch = scratch;
    }

    fn request(&mut self, work: &mut Work, line: Rejected<'_>, request: &LogRequest<'_>) {
        let Some(site) = self.sites.get(&request.site_code) else {
            let shown = SiteCode::parse(&request.site_code).map(|site| site.to_string()).unwrap_or_default();
            *work.report.unknown_sites.entry(shown.clone()).or_default() += 1;
            self.reject(work, line, RejectReason::UnknownSite, &shown, AddressPolicy::default());
            return;
        };
        let key = &self.key;
        let address = request
            .client_address
            .map(|ip| site.address_policy.apply(ip, |bytes| key.hash(bytes)))
            .unwrap_or_default();
        let tracking = fanal_parser::Request {
            site_code: site.code.as_str(),
            received_at_ms: request.received_at_ms,
            query: request.query,
            body: request.body,
            cookie_visitor: request.cookie_visitor.as_deref(),
            header_user_agent: request.user_agent,
            referer: request.referer,
            client_address: &address,
            source: Origin::NginxLog,
            node: &self.options.node,
        };
        let mut records = Batch::new();
        let mut sink = BatchSink::new(&mut records, &mut self.record_key, LINE_RECORDS_BYTES_MAX);
        let counts = self.receiver.receive(&tracking, &mut sink);
        let Some(counts) = counts.ok().filter(|_| !sink.overflowed()) else {
            // The collector would have refused it; nothing of it was handed out.
            self.reject(work, line, RejectReason::LineTooLong, site.code.as_str(), site.address_policy);
            return;
        };
        let Counts { received, accepted, rejected } = counts;
        work.take(&records);
        if received > 0 {
            let minute_ms = request.received_at_ms - request.received_at_ms % 60_000;
            work.batch.receipt(minute_ms, site.code.as_str(), received, accepted, rejected);
        }
        work.report.log_lines += 1;
        work.batch_lines += 1;
        work.report.accepted += accepted;
    }

    /// A log line that ends as a whole in the dead letters: one line received, one rejected.
    fn reject(
        &mut self,
        work: &mut Work,
        line: Rejected<'_>,
        reason: RejectReason,
        site_code: &str,
        policy: AddressPolicy,
    ) {
        let bytes = line.kept(|ip| policy.apply(ip, |bytes| self.key.hash(bytes)));
        let letter = DeadLetter {
            received_at_ms: work.last_ms,
            site_code,
            reason: reason.name(),
            rules_version: RULES_VERSION,
            source: Origin::NginxLog,
            node: &self.options.node,
            bytes: &bytes,
        };
        // Key and value are far below what a record takes.
        let pushed = work.batch.push(Topic::Dead, site_code.as_bytes(), |out| letter.encode(out));
        debug_assert!(pushed.is_ok(), "a dead letter always fits a record");
        work.batch.receipt(work.last_ms - work.last_ms % 60_000, site_code, 1, 0, 1);
        work.report.log_lines += 1;
        work.batch_lines += 1;
        *work.report.rejected.entry(reason.name().to_owned()).or_default() += 1;
    }
}

impl Work {
    fn ignore(&mut self, reason: &str) {
        self.report.log_lines += 1;
        self.batch_lines += 1;
        *self.report.ignored.entry(reason.to_owned()).or_default() += 1;
    }

    /// Adds the records of one log line.
    fn take(&mut self, records: &Batch) {
        for (topic, key, value) in records.records() {
            if topic == Topic::Dead
                && let Ok(letter) = DeadLetter::decode(value)
            {
                *self.report.rejected.entry(letter.reason.to_owned()).or_default() += 1;
            }
            let pushed = self.batch.push(topic, key, |out| out.extend_from_slice(value));
            debug_assert!(pushed.is_ok(), "a record that fitted once fits again");
        }
    }
}

/// A log line that may end in the dead letters.
#[derive(Clone, Copy)]
struct Rejected<'a> {
    line: &'a [u8],
    /// What the format made of it.
    read: Option<&'a LogLine<'a>>,
}

impl Rejected<'_> {
    /// What a dead letter holds of it, with its addresses reduced. A line that could be
    /// read is kept in the format `fanal`, whatever its own: whoever reads the letter
    /// again cannot know another.
    fn kept(&self, reduced: impl Fn(IpAddr) -> String) -> Vec<u8> {
        let mut kept = Vec::new();
        let address = self.read.and_then(LogLine::client_address).map(&reduced).unwrap_or_default();
        if !self.read.is_some_and(|read| read.write_fanal(&address, &mut kept)) {
            kept = with_reduced_addresses(&self.line[..self.line.len().min(DEAD_BYTES_MAX)], reduced);
        }
        kept.truncate(DEAD_BYTES_MAX);
        kept
    }
}

fn failure(input: &Input, good_bytes: u64, error: &io::Error) -> ImportError {
    let path = input.path().to_owned();
    match error.kind() {
        // What decompressors say about bytes that are not theirs.
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => ImportError::Corrupt { path, good_bytes, detail: error.to_string() },
        kind => ImportError::Read { path, source: io::Error::new(kind, error.to_string()) },
    }
}

/// Shares the target between importers, in tests and for several runs.
impl<T: ImportTarget> ImportTarget for Arc<T> {
    async fn lookup(&self, head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        (**self).lookup(head).await
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        (**self).append(batch).await
    }

    async fn seal(&self) -> Result<(), ImportError> {
        (**self).seal().await
    }
}
