//! What could not be accepted, and the counts that prove nothing else was lost.

use crate::beacon::Source;
use crate::wire::{Fields, WireError, put_bytes, put_number};

/// `fanal.v1.DeadLetter`: rejected bytes with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadLetter<'a> {
    pub received_at_ms: u64,
    pub site_code: &'a str,
    /// The name of a [`crate::RejectReason`]; text, so that a replay by a newer
    /// or older version reads it.
    pub reason: &'a str,
    pub rules_version: u32,
    pub source: Source,
    pub node: &'a str,
    pub bytes: &'a [u8],
}

impl<'a> DeadLetter<'a> {
    /// Appends the Protobuf encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, 1, self.received_at_ms);
        put_bytes(out, 2, self.site_code.as_bytes());
        put_bytes(out, 3, self.reason.as_bytes());
        put_number(out, 4, u64::from(self.rules_version));
        put_number(out, 5, self.source.number());
        put_bytes(out, 6, self.node.as_bytes());
        put_bytes(out, 7, self.bytes);
    }

    /// Reads the Protobuf encoding; unknown fields are skipped.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut letter = Self::default();
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next_field()? {
            match field {
                1 => letter.received_at_ms = value.number(field)?,
                2 => letter.site_code = value.text(field)?,
                3 => letter.reason = value.text(field)?,
                4 => letter.rules_version = value.small(field)?,
                5 => letter.source = Source::from_number(value.number(field)?),
                6 => letter.node = value.text(field)?,
                7 => letter.bytes = value.bytes(field)?,
                _ => {}
            }
        }
        Ok(letter)
    }
}

/// `fanal.v1.Receipt`: what one commit received for one site and minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt<'a> {
    pub minute_ms: u64,
    pub site_code: &'a str,
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
}

impl<'a> Receipt<'a> {
    /// Appends the Protobuf encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, 1, self.minute_ms);
        put_bytes(out, 2, self.site_code.as_bytes());
        put_number(out, 3, self.received);
        put_number(out, 4, self.accepted);
        put_number(out, 5, self.rejected);
    }

    /// Reads the Protobuf encoding; unknown fields are skipped.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut receipt = Self::default();
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next_field()? {
            match field {
                1 => receipt.minute_ms = value.number(field)?,
                2 => receipt.site_code = value.text(field)?,
                3 => receipt.received = value.number(field)?,
                4 => receipt.accepted = value.number(field)?,
                5 => receipt.rejected = value.number(field)?,
                _ => {}
            }
        }
        Ok(receipt)
    }
}
