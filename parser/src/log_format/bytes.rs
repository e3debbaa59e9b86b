//! Sets of bytes: what a variable's value may hold, before and after escaping.
//!
//! Never looks at a line. What must stay true: a set says at least what nginx can
//! write; a byte that is missing here would be taken for a separator.

/// A set of byte values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) const NONE: Self = Self([0; 4]);
    pub(super) const ALL: Self = Self([u64::MAX; 4]);
    pub(super) const DIGITS: Self = Self::range(b'0', b'9');
    pub(super) const LETTERS: Self = Self::range(b'A', b'Z').and(Self::range(b'a', b'z'));
    pub(super) const ALPHANUMERIC: Self = Self::DIGITS.and(Self::LETTERS);
    /// What a header's value or a request line may hold: neither ends inside of it.
    pub(super) const HEADER: Self = Self::ALL.without(Self::of(b"\r\n\0"));
    /// No blanks and no control characters.
    pub(super) const VISIBLE: Self = Self::ALL.without(Self::range(0, b' ')).without(Self::of(b"\x7F"));

    pub(super) const fn of(bytes: &[u8]) -> Self {
        let mut set = Self::NONE;
        let mut at = 0;
        while at < bytes.len() {
            set = set.and(Self::range(bytes[at], bytes[at]));
            at += 1;
        }
        set
    }

    pub(super) const fn range(first: u8, last: u8) -> Self {
        let mut words = [0; 4];
        let mut byte = first as usize;
        while byte <= last as usize {
            words[byte / 64] |= 1 << (byte % 64);
            byte += 1;
        }
        Self(words)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]])
    }

    pub(super) const fn without(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] & !b[0], a[1] & !b[1], a[2] & !b[2], a[3] & !b[3]])
    }

    pub(super) const fn has(self, byte: u8) -> bool {
        self.0[byte as usize / 64] >> (byte % 64) & 1 == 1
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        let (a, b) = (self.0, other.0);
        (a[0] & b[0]) | (a[1] & b[1]) | (a[2] & b[2]) | (a[3] & b[3]) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_was_made_of_and_nothing_else() {
        let set = ByteSet::of(b"a\xFF").and(ByteSet::DIGITS).without(ByteSet::of(b"5"));
        for byte in 0..=u8::MAX {
            let expected = byte == b'a' || byte == 0xFF || (byte.is_ascii_digit() && byte != b'5');
            assert_eq!(set.has(byte), expected, "{byte}");
            assert_eq!(set.meets(ByteSet::of(&[byte])), expected, "{byte}");
            assert_eq!(ByteSet::VISIBLE.has(byte), byte > b' ' && byte != 0x7F, "{byte}");
        }
        assert!(!ByteSet::NONE.meets(ByteSet::ALL));
    }
}
