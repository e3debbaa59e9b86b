//! What today's rules say to a dead letter.
//!
//! A letter of the collector holds one tracking line: what its request's URL, cookie
//! and headers said beside it is lost, so the line must name its visitor itself. A
//! letter of an import holds a whole line of the access log, or one tracking line out
//! of one. A letter of the archive holds a record that another program put on the
//! topic, or a program of another version.

use fanal_model::{Beacon, DeadLetter, RejectReason, SiteCode, Source};
use fanal_parser::line::parse_limited;
use fanal_parser::log_format::{LogFormat, LogOutcome, LogRequest, Scratch};
use fanal_parser::{Limits, Receiver, Sink, parse_query};
use fanal_storage::catalogue::SiteDirectory;
use fanal_storage::log::Batch;

use super::letters::Letter;
use crate::key::AddressKey;
use crate::sink::BatchSink;

/// What one letter may add to a batch; below what a commit takes.
const LETTER_RECORDS_BYTES_MAX: usize = 5 << 20;
/// An access-log line of this length was cut when it was rejected.
const CUT_BYTES: usize = 1 << 20;

/// What comes of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its records are in the batch. Lines of a request that are still rejected are
    /// dead letters of their own now, without the log line around them.
    Accepted { accepted: u64, rejected: u64 },
    /// Nothing was added. The name says why.
    Rejected(&'static str),
}

/// Reads letters again. Keeps its working memory between them.
pub(super) struct Judge {
    sites: SiteDirectory,
    key: AddressKey,
    limits: Limits,
    receiver: Receiver,
    /// Of whole lines of a log; an import keeps those that it can read in this one.
    format: LogFormat,
    scratch: Scratch,
    record_key: Vec<u8>,
}

impl Judge {
    pub(super) fn new(sites: SiteDirectory, key: AddressKey, limits: Limits) -> Self {
        let (scratch, record_key) = (Scratch::default(), Vec::new());
        let (receiver, format) = (Receiver::new(limits), LogFormat::fanal());
        Self { sites, key, limits, receiver, format, scratch, record_key }
    }

    /// Adds to `batch` what is accepted, with its receipt; nothing unless it is.
    pub(super) fn judge(&mut self, letter: &Letter, batch: &mut Batch) -> Verdict {
        let mut records = Batch::new();
        let verdict = match RejectReason::from_name(&letter.reason) {
            Some(RejectReason::UnreadableRecord) => self.record(letter, &mut records),
            // Its bytes may pass for a record of version 1 and mean something else. Which
            // version it names the letter does not say, so no program may guess.
            Some(RejectReason::UnknownVersion) => Err(RejectReason::UnknownVersion.name()),
            reason if letter.source == Source::NginxLog => self.of_log(letter, reason, &mut records),
            _ => self.line(letter, &mut records),
        };
        let pushed = verdict.and_then(|verdict| match append(batch, &records) {
            true => Ok(verdict),
            false => Err(RejectReason::LineTooLong.name()),
        });
        pushed.unwrap_or_else(Verdict::Rejected)
    }

    /// One tracking line.
    fn line(&mut self, letter: &Letter, records: &mut Batch) -> Result<Verdict, &'static str> {
        let site = self.sites.get(&letter.site_code).ok_or(RejectReason::UnknownSite.name())?;
        let bytes = &letter.bytes[..];
        // The line of a GET is the whole query; only there stands a site.
        let is_query = parse_query(bytes).site_code.is_some() || bytes.contains(&b'\n');
        let request = fanal_parser::Request {
            site_code: site.code.as_str(),
            received_at_ms: letter.received_at_ms,
            query: if is_query { bytes } else { &[] },
            body: (!is_query).then_some(bytes),
            cookie_visitor: None,
            header_user_agent: &[],
            referer: &[],
            client_address: "",
            source: letter.source,
            node: &letter.node,
        };
        let sink = BatchSink::new(records, &mut self.record_key, LETTER_RECORDS_BYTES_MAX);
        // Its position in the request is not known. The letter's place keeps equal lines
        // of one request apart, and is the same whenever this is done again.
        let line_number = u32::try_from(letter.id.offset & u64::from(u32::MAX >> 1)).unwrap_or(0);
        let mut sink = OneLine { sink, line_number, rejected: None };
        let counts = self.receiver.receive(&request, &mut sink);
        let accepted = counts.map_or(0, |counts| counts.accepted);
        if accepted != 1 || sink.sink.overflowed() {
            return Err(sink.rejected.unwrap_or(RejectReason::LineTooLong).name());
        }
        receipt(records, letter.received_at_ms, site.code.as_str(), 1, 0);
        Ok(Verdict::Accepted { accepted: 1, rejected: 0 })
    }

    /// A line of an access log, or one tracking line out of one.
    fn of_log(
        &mut self,
        letter: &Letter,
        reason: Option<RejectReason>,
        records: &mut Batch,
    ) -> Result<Verdict, &'static str> {
        let is_cut = letter.bytes.len() >= CUT_BYTES;
        let mut scratch = std::mem::take(&mut self.scratch);
        let verdict = match self.format.read(&letter.bytes) {
            Ok(_) if is_cut => Err(RejectReason::LineTooLong.name()),
            Ok(columns) => match columns.outcome(&mut scratch) {
                Ok(LogOutcome::Request(request)) => self.request(letter, &request, records),
                Ok(LogOutcome::Ignored(reason)) => Err(reason.name()),
                Err(reason) => Err(reason.name()),
            },
            // Only whole lines of a log can be these.
            Err(still)
                if matches!(reason, Some(RejectReason::MalformedLogLine | RejectReason::UnknownSite)) =>
            {
                Err(still.name())
            }
            Err(_) if is_cut => Err(RejectReason::LineTooLong.name()),
            Err(_) => self.line(letter, records),
        };
        self.scratch = scratch;
        verdict
    }

    /// As an import of the log line today.
    fn request(
        &mut self,
        letter: &Letter,
        request: &LogRequest<'_>,
        records: &mut Batch,
    ) -> Result<Verdict, &'static str> {
        let site = self.sites.get(&request.site_code).ok_or(RejectReason::UnknownSite.name())?;
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
            source: Source::NginxLog,
            node: &letter.node,
        };
        let sink = BatchSink::new(records, &mut self.record_key, LETTER_RECORDS_BYTES_MAX);
        let mut sink = FirstReason { sink, rejected: None };
        let counts = self.receiver.receive(&tracking, &mut sink);
        let counts = counts.map_err(|_| RejectReason::LineTooLong.name())?;
        if sink.sink.overflowed() {
            return Err(RejectReason::LineTooLong.name());
        }
        if counts.accepted == 0 {
            return Err(sink.rejected.map_or("no_tracking_line", RejectReason::name));
        }
        receipt(records, request.received_at_ms, site.code.as_str(), counts.accepted, counts.rejected);
        Ok(Verdict::Accepted { accepted: counts.accepted, rejected: counts.rejected })
    }

    /// A record that the archive could not read then.
    fn record(&mut self, letter: &Letter, records: &mut Batch) -> Result<Verdict, &'static str> {
        let unreadable = RejectReason::UnreadableRecord.name();
        let mut beacon = Beacon::decode(&letter.bytes).map_err(|_| unreadable)?;
        // Bytes of something else can pass for a message with all fields empty.
        if beacon.line.is_empty() || SiteCode::parse(beacon.site_code).is_err() {
            return Err(unreadable);
        }
        let site = self.sites.get(beacon.site_code).ok_or(RejectReason::UnknownSite.name())?;
        parse_limited(beacon.line, &self.limits).map_err(RejectReason::name)?;
        if beacon.visitor().is_empty() {
            return Err(RejectReason::MissingVisitor.name());
        }
        if beacon.received_at_ms == 0 {
            beacon.received_at_ms = letter.received_at_ms;
        }
        // Who wrote it need not have known the site's policy. What is reduced stays so.
        let key = &self.key;
        let address = beacon.client_address.parse().ok();
        let address = address.map(|ip| site.address_policy.apply(ip, |bytes| key.hash(bytes)));
        if let Some(address) = &address {
            beacon.client_address = address;
        }
        let mut sink = BatchSink::new(records, &mut self.record_key, LETTER_RECORDS_BYTES_MAX);
        sink.accepted(&beacon);
        if sink.overflowed() {
            return Err(RejectReason::LineTooLong.name());
        }
        receipt(records, beacon.received_at_ms, site.code.as_str(), 1, 0);
        Ok(Verdict::Accepted { accepted: 1, rejected: 0 })
    }
}

/// Counts the lines once more, in their own minute.
fn receipt(records: &mut Batch, received_at_ms: u64, site: &str, accepted: u64, rejected: u64) {
    let minute_ms = received_at_ms - received_at_ms % 60_000;
    records.receipt(minute_ms, site, accepted + rejected, accepted, rejected);
}

/// Adds all of `records`, or says that they do not fit.
fn append(batch: &mut Batch, records: &Batch) -> bool {
    for (topic, key, value) in records.records() {
        if batch.push(topic, key, |out| out.extend_from_slice(value)).is_err() {
            return false;
        }
    }
    for counts in records.receipts() {
        batch.receipt(counts.minute_ms, &counts.site, counts.received, counts.accepted, counts.rejected);
    }
    true
}

/// Passes on an accepted line under another position; what is rejected goes nowhere.
struct OneLine<'b> {
    sink: BatchSink<'b>,
    line_number: u32,
    rejected: Option<RejectReason>,
}

impl Sink for OneLine<'_> {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        self.sink.accepted(&Beacon { line_number: self.line_number, ..*beacon });
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.rejected = RejectReason::from_name(letter.reason);
    }
}

/// Passes on everything and remembers the first reason.
struct FirstReason<'b> {
    sink: BatchSink<'b>,
    rejected: Option<RejectReason>,
}

impl Sink for FirstReason<'_> {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        self.sink.accepted(beacon);
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.rejected = self.rejected.or(RejectReason::from_name(letter.reason));
        self.sink.rejected(letter);
    }
}
