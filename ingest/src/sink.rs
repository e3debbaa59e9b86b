//! Records of one request or log line on their way into a batch.

use fanal_model::{Beacon, DeadLetter, record_key};
use fanal_parser::Sink;
use fanal_storage::log::{Batch, Topic};

/// Fills a batch up to a bound. One buffer for keys serves all records.
pub(crate) struct BatchSink<'b> {
    batch: &'b mut Batch,
    key: &'b mut Vec<u8>,
    bytes_max: usize,
    overflow: bool,
}

impl<'b> BatchSink<'b> {
    pub(crate) fn new(batch: &'b mut Batch, key: &'b mut Vec<u8>, bytes_max: usize) -> Self {
        Self { batch, key, bytes_max, overflow: false }
    }

    /// Whether a record did not fit: the batch is not complete then.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflow
    }

    fn push(&mut self, topic: Topic, bytes: usize, write_value: impl FnOnce(&mut Vec<u8>)) {
        if self.overflow || self.batch.byte_len() + self.key.len() + bytes > self.bytes_max {
            self.overflow = true;
            return;
        }
        self.overflow |= self.batch.push(topic, self.key, write_value).is_err();
    }
}

impl Sink for BatchSink<'_> {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        self.key.clear();
        record_key(self.key, beacon.site_code, beacon.visitor());
        let bytes = beacon.line.len() + beacon.user_agent.len() + beacon.referer.len();
        self.push(Topic::Beacons, bytes, |out| beacon.encode(out));
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.key.clear();
        self.key.extend_from_slice(letter.site_code.as_bytes());
        self.push(Topic::Dead, letter.bytes.len(), |out| letter.encode(out));
    }
}
