//! What a batch brings to Kafka, measured before anything is taken or sent: its records,
//! and that none of them is too large.

use fanal_storage::log::{AppendError, Batch, Topic};

use crate::config::KafkaConfig;
use crate::record::{Outgoing, outgoing};

/// A batch that can be sent.
pub(crate) struct Load<'b> {
    pub(crate) records: usize,
    /// Of keys and values.
    pub(crate) bytes: usize,
    /// Dead letters for lines without a record, which the batch does not hold itself.
    pub(crate) letters: Vec<Outgoing<'b>>,
}

impl<'b> Load<'b> {
    pub(crate) fn measure(batch: &'b Batch, config: &KafkaConfig) -> Result<Self, AppendError> {
        let (mut records, mut bytes, mut largest) = (0, 0, 0);
        let mut positions = false;
        for (topic, key, value) in batch.records() {
            match topic {
                Topic::Beacons | Topic::Dead => {
                    let len = key.len() + value.len();
                    (records, bytes, largest) = (records + 1, bytes + len, largest.max(len));
                }
                Topic::Positions => positions |= !key.is_empty(),
                Topic::Receipts | Topic::Seal | Topic::Lost | Topic::Foreign | Topic::Overflowed => {
                    let detail = format!("{topic:?} is no record that a batch brings to Kafka");
                    return Err(AppendError::Io(detail));
                }
            }
        }
        let received: u64 =
            batch.receipts().iter().fold(0, |sum, counts| sum.saturating_add(counts.received));
        let letters =
            if received > records as u64 { outgoing(batch)?.split_off(records) } else { Vec::new() };
        if positions {
            return Err(AppendError::Io("positions of imports need a transaction".to_owned()));
        }
        for letter in &letters {
            (records, bytes, largest) = (records + 1, bytes + letter.len(), largest.max(letter.len()));
        }
        check_bytes(largest, bytes, config)?;
        Ok(Self { records, bytes, letters })
    }
}

/// Checks that the largest record, and all of them, are no larger than configured.
pub(crate) fn check_bytes(largest: usize, all: usize, config: &KafkaConfig) -> Result<(), AppendError> {
    for (bytes, max) in [(largest, config.record_bytes_max), (all, config.batch_bytes_max)] {
        let max = usize::try_from(max.0).unwrap_or(usize::MAX);
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
    }
    Ok(())
}
