//! How nginx escapes values, and back.
//!
//! Never changes a line. What must stay true: what one escape wrote is read back
//! exactly; what it cannot have written is refused, not guessed.

use super::bytes::ByteSet;
use crate::decode::hex;

/// The parameter `escape=` of a `log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Escape {
    /// `\xHH` for `"`, `\` and all bytes below 32 and above 126; `-` for no value.
    Default,
    /// As in a JSON string, bytes above 126 as they are; nothing for no value.
    Json,
    /// As it is; nothing for no value.
    None,
}

/// What `escape=default` replaces.
const BY_DEFAULT: ByteSet = ByteSet::ALL.without(ByteSet::range(b' ', b'~')).and(ByteSet::of(b"\"\\"));
/// What `escape=json` replaces.
const BY_JSON: ByteSet = ByteSet::range(0, 31).and(ByteSet::of(b"\"\\"));

impl Escape {
    /// The word behind `escape=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Json => "json",
            Self::None => "none",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Default, Self::Json, Self::None].into_iter().find(|escape| escape.name() == name)
    }

    /// What the text of a value may hold whose bytes are of `raw`. That `-` may stand
    /// there for no value is not in it.
    pub(super) fn text_of(self, raw: ByteSet) -> ByteSet {
        let (replaced, sequence) = match self {
            Self::Default => (BY_DEFAULT, ByteSet::of(b"\\x0123456789ABCDEF")),
            Self::Json => (BY_JSON, ByteSet::of(b"\\\"bfnrtu0123456789ABCDEF")),
            Self::None => return raw,
        };
        if raw.meets(replaced) { raw.without(replaced).and(sequence) } else { raw }
    }

    /// What stands for a value that there is none of.
    pub(super) fn absent(self) -> &'static [u8] {
        match self {
            Self::Default => b"-",
            Self::Json | Self::None => b"",
        }
    }

    /// Whether the text is not its value already.
    pub(super) fn changes(self, text: &[u8]) -> bool {
        self != Self::None && memchr::memchr(b'\\', text).is_some()
    }

    /// Appends the value that `text` stands for. `None` where nginx cannot have written it.
    pub(super) fn decode(self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Default => undo_default(text, out),
            Self::Json => undo_json(text, out),
            Self::None => {
                out.extend_from_slice(text);
                Some(())
            }
        }
    }

    /// Appends what nginx would write for a value by `escape=default`.
    pub(super) fn write_default(value: &[u8], out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        if value.is_empty() {
            return out.push(b'-');
        }
        for &byte in value {
            match BY_DEFAULT.has(byte) {
                false => out.push(byte),
                true => {
                    out.extend([b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
                }
            }
        }
    }
}

fn undo_default(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.reserve(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        // Escapes stand together where text is not English: no search between them.
        while let [b'\\', after @ ..] = rest {
            let [b'x', high, low, after @ ..] = after else { return None };
            out.push(hex(*high)? << 4 | hex(*low)?);
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    Some(())
}

fn undo_json(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.reserve(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (&escaped, after) = rest[at + 1..].split_first()?;
        rest = after;
        out.push(match escaped {
            b'"' | b'\\' | b'/' => escaped,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0C,
            b'u' => {
                rest = character(rest, out)?;
                continue;
            }
            _ => return None,
        });
    }
    out.extend_from_slice(rest);
    Some(())
}

/// The character behind `\u`, of one half or two; gives what stands behind it.
fn character<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, mut rest) = four_digits(text)?;
    let mut number = first;
    if (0xD800..0xDC00).contains(&first) {
        let (second, after) = four_digits(rest.strip_prefix(b"\\u")?)?;
        let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
        number = 0x1_0000 + ((first - 0xD800) << 10) + low;
        rest = after;
    }
    let mut buffer = [0; 4];
    out.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut buffer).as_bytes());
    Some(rest)
}

fn four_digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let number = digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | u32::from(hex(*digit)?)))?;
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(escape: Escape, text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        escape.decode(text, &mut out).map(|()| out)
    }

    #[test]
    fn every_byte_comes_back_out_of_the_default_escape() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let mut text = Vec::new();
        Escape::write_default(&all, &mut text);
        assert!(text.iter().all(|byte| Escape::Default.text_of(ByteSet::ALL).has(*byte)));
        assert_eq!(decoded(Escape::Default, &text), Some(all));
    }

    #[test]
    fn json_escapes_are_read_also_where_nginx_does_not_write_them() {
        for (text, value) in [
            (r#"a\"b\\c\/d"#, &b"a\"b\\c/d"[..]),
            (r"\b\f\n\r\t\u0000\u001F", b"\x08\x0C\n\r\t\0\x1F"),
            (r"\u00e9\u20AC", "é€".as_bytes()),
            (r"\ud834\udd1e", "𝄞".as_bytes()),
            ("plain é", "plain é".as_bytes()),
        ] {
            assert_eq!(decoded(Escape::Json, text.as_bytes()).as_deref(), Some(value), "{text}");
        }
        assert_eq!(decoded(Escape::Json, b"\xFF\\n").as_deref(), Some(&b"\xFF\n"[..]));
    }

    #[test]
    fn a_broken_escape_is_no_value() {
        for text in ["\\", "\\x4", "\\x4g", "\\n", "\\\\", "a\\x"] {
            assert_eq!(decoded(Escape::Default, text.as_bytes()), None, "{text}");
        }
        for text in ["\\", "\\x41", "\\u12", "\\u12g4", "\\ud834", "\\ud834\\u0041", "\\udd1e", "\\ud834\\n"]
        {
            assert_eq!(decoded(Escape::Json, text.as_bytes()), None, "{text}");
        }
        assert_eq!(decoded(Escape::None, b"\\").as_deref(), Some(&b"\\"[..]));
    }
}
