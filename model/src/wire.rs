//! The few parts of the Protobuf wire format that the public messages need.
//!
//! Written by hand because the collector encodes borrowed slices straight into
//! the log's buffer: generated code would first copy each of them into an owned
//! message. The tests hold it against `prost` and the published `.proto`.

use thiserror::Error;

/// Why bytes are not one of our messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("the record ends inside a field: it was cut off, or it is not a fanal.v1 message")]
    Truncated,
    #[error("a number is longer than 64 bits: the record is not a fanal.v1 message")]
    Overlong,
    #[error("field {field} has wire type {wire_type}, which fanal.v1 does not use: the record is not ours")]
    WireType { field: u64, wire_type: u8 },
    #[error("field {0} holds text that is not UTF-8: the record is not a fanal.v1 message")]
    Utf8(u64),
    #[error("field {0} is out of the range that fanal.v1 allows: a newer writer, or not our record")]
    Range(u64),
}

/// The value of one field: a number, or a run of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn number(self, field: u64) -> Result<u64, WireError> {
        match self {
            Value::Number(n) => Ok(n),
            Value::Bytes(_) => Err(WireError::WireType { field, wire_type: 2 }),
        }
    }

    pub(crate) fn small(self, field: u64) -> Result<u32, WireError> {
        u32::try_from(self.number(field)?).map_err(|_| WireError::Range(field))
    }

    pub(crate) fn bytes(self, field: u64) -> Result<&'a [u8], WireError> {
        match self {
            Value::Bytes(b) => Ok(b),
            Value::Number(_) => Err(WireError::WireType { field, wire_type: 0 }),
        }
    }

    pub(crate) fn text(self, field: u64) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| WireError::Utf8(field))
    }
}

/// Fields of a message in the order in which they stand in the bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field, or `None` at the end of the message.
    pub(crate) fn next_field(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Bytes(self.take(4)?),
            #[expect(clippy::cast_possible_truncation, reason = "masked to three bits")]
            other => return Err(WireError::WireType { field, wire_type: other as u8 }),
        };
        Ok(Some((field, value)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (i, &byte) in self.0.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(WireError::Overlong);
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { WireError::Truncated } else { WireError::Overlong })
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        put_varint(out, value);
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        put_present(out, field, value);
    }
}

/// As `put_bytes`, also when there are none: presence itself says something.
pub(crate) fn put_present(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits are what is wanted")]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 128 here")]
    out.push(value as u8);
}
