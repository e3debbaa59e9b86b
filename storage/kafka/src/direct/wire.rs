//! Kafka's numbers, texts and variable-length integers, read and written. Pure. What a
//! broker sends is never trusted: each read is checked against what is left.

use super::trouble::Trouble;

/// Appends a text with its length.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    // Topic names and user names have 249 bytes at most, by the configuration's check.
    out.extend_from_slice(&i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends bytes with their length in four bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_i32(out, i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(bytes);
}

pub(super) fn put_i16(out: &mut Vec<u8>, number: i16) {
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn put_i32(out: &mut Vec<u8>, number: i32) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a zigzag integer of one to five bytes.
pub(super) fn put_varint(out: &mut Vec<u8>, number: i32) {
    let mut rest = zigzag(number);
    while rest >= 0x80 {
        out.push(low_byte(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_byte(rest));
}

/// Bytes of a zigzag integer.
pub(super) fn varint_len(number: i32) -> usize {
    let bits = 32 - (zigzag(number) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn zigzag(number: i32) -> u32 {
    (number << 1 ^ number >> 31).cast_unsigned()
}

fn low_byte(number: u32) -> u8 {
    (number & 0x7f) as u8
}

/// The fields of an answer, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Trouble> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(*head)
    }

    fn take_slice(&mut self, len: usize) -> Result<&'a [u8], Trouble> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Trouble> {
        Ok(self.take::<1>()? != [0])
    }

    pub(super) fn i16(&mut self) -> Result<i16, Trouble> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Trouble> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Trouble> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<&'a str>, Trouble> {
        let Ok(len) = usize::try_from(self.i16()?) else { return Ok(None) };
        let text = std::str::from_utf8(self.take_slice(len)?);
        text.map(Some).map_err(|_| Trouble::Malformed("a text in it is not UTF-8"))
    }

    pub(super) fn string(&mut self) -> Result<&'a str, Trouble> {
        self.nullable_string()?.ok_or(Trouble::Malformed("a text in it is missing"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Trouble> {
        let len = usize::try_from(self.i32()?).map_err(|_| Trouble::Malformed("bytes in it are missing"))?;
        self.take_slice(len)
    }

    /// Elements that follow; none of them is empty, so there are no more than bytes.
    pub(super) fn count(&mut self) -> Result<usize, Trouble> {
        let count = usize::try_from(self.i32()?.max(0)).unwrap_or(0);
        if count > self.0.len() { Err(CUT_OFF) } else { Ok(count) }
    }

    /// Passes over a list of four-byte numbers.
    pub(super) fn skip_i32s(&mut self) -> Result<(), Trouble> {
        let count = self.count()?;
        self.take_slice(count * 4).map(|_| ())
    }
}

const CUT_OFF: Trouble = Trouble::Malformed("it is cut off");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_the_bytes_of_the_published_encoding() {
        let cases: [(i32, &[u8]); 7] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (number, bytes) in cases {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!((&*out, varint_len(number)), (bytes, bytes.len()), "{number}");
        }
    }

    #[test]
    fn no_answer_however_broken_is_read_beyond_its_end() {
        let mut fields = Fields::new(&[0x7f, 0xff, 0xff, 0xff, 1]);
        assert!(fields.count().is_err(), "more elements than bytes");
        assert!(Fields::new(&[0, 5, b'a']).string().is_err());
        assert!(Fields::new(&[0xff, 0xff]).string().is_err());
        assert!(Fields::new(&[0, 1, 0xff]).string().is_err());
        assert!(Fields::new(&[0xff, 0xff, 0xff, 0xff]).bytes().is_err());
        assert!(Fields::new(&[0, 0, 0]).i32().is_err());
        assert!(Fields::new(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 0]).skip_i32s().is_err());
    }
}
