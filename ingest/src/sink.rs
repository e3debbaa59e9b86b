//! Records of one request or log line on their way into a batch.

use fanal_model::{Beacon, DeadLetter, RejectReason, record_key};
use fanal_parser::Sink;
use fanal_storage::log::{Batch, Mark, Topic};

use crate::rules::LineRules;

/// Adds to a batch up to a bound. One buffer for keys serves all records.
pub(crate) struct BatchSink<'b> {
    batch: &'b mut Batch,
    /// Where this request begins; what stands before is others'.
    start: Mark,
    key: &'b mut Vec<u8>,
    bytes_max: usize,
    overflow: bool,
    lacks_visitor: bool,
    rules: Option<LineRules<'b>>,
    /// Lines that the rules kept out.
    refused: u64,
}

impl<'b> BatchSink<'b> {
    pub(crate) fn new(batch: &'b mut Batch, key: &'b mut Vec<u8>, bytes_max: usize) -> Self {
        let start = batch.mark();
        let rules = None;
        Self { batch, start, key, bytes_max, overflow: false, lacks_visitor: false, rules, refused: 0 }
    }

    /// Lets these rules see each line.
    pub(crate) fn with_rules(self, rules: Option<LineRules<'b>>) -> Self {
        Self { rules, ..self }
    }

    /// Lines that the rules kept out: they were never received.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a line was rejected because it names no visitor.
    pub(crate) fn lacks_visitor(&self) -> bool {
        self.lacks_visitor
    }

    /// Whether a record did not fit: the batch is not complete then.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflow
    }

    fn push(&mut self, topic: Topic, bytes: usize, write_value: impl FnOnce(&mut Vec<u8>)) {
        if self.overflow || self.batch.bytes_since(self.start) + self.key.len() + bytes > self.bytes_max {
            self.overflow = true;
            return;
        }
        self.overflow |= self.batch.push(topic, self.key, write_value).is_err();
    }
}

impl Sink for BatchSink<'_> {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        // What is refused as a whole need not be judged.
        if !self.overflow && self.rules.as_ref().is_some_and(|rules| rules.refuse(beacon)) {
            self.refused += 1;
            return;
        }
        self.key.clear();
        record_key(self.key, beacon.site_code, beacon.visitor());
        let bytes = beacon.line.len() + beacon.user_agent.len() + beacon.referer.len();
        self.push(Topic::Beacons, bytes, |out| beacon.encode(out));
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.lacks_visitor |= letter.reason == RejectReason::MissingVisitor.name();
        self.key.clear();
        self.key.extend_from_slice(letter.site_code.as_bytes());
        self.push(Topic::Dead, letter.bytes.len(), |out| letter.encode(out));
    }
}
