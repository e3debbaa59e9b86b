//! Percent-decoding as browsers and SDKs mean it.
//!
//! Never fails: a `%` that does not start two hexadecimal digits stays a `%`, a
//! `+` stays a plus, and bytes that are not UTF-8 become U+FFFD.

use std::borrow::Cow;

use fanal_model::VISITOR_CODE_CHARS_MAX;

/// The text that `raw` stands for. Borrows unless something had to change.
#[must_use]
pub fn decode(raw: &[u8]) -> Cow<'_, str> {
    let Some(first) = first_escape(raw) else {
        // The plain check is the faster one, and hardly ever fails.
        return str::from_utf8(raw).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Borrowed);
    };
    let mut bytes = Vec::with_capacity(raw.len());
    decode_from(raw, first, &mut bytes);
    match String::from_utf8(bytes) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// Appends the decoded bytes to `out`, whatever text they are or are not.
pub(crate) fn decode_bytes(raw: &[u8], out: &mut Vec<u8>) {
    match first_escape(raw) {
        Some(first) => decode_from(raw, first, out),
        None => out.extend_from_slice(raw),
    }
}

/// Appends to `out` what [`decode`] returns; `scratch` is overwritten.
pub(crate) fn decode_text(raw: &[u8], scratch: &mut Vec<u8>, out: &mut String) {
    let Some(first) = first_escape(raw) else {
        return push_lossy(raw, out);
    };
    scratch.clear();
    decode_from(raw, first, scratch);
    push_lossy(scratch, out);
}

/// Appends `bytes`; what is not UTF-8 becomes U+FFFD.
pub(crate) fn push_lossy(bytes: &[u8], out: &mut String) {
    if let Ok(text) = str::from_utf8(bytes) {
        return out.push_str(text);
    }
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Decoded bytes one at a time, for what is read without keeping it.
#[derive(Clone)]
pub(crate) struct Decoded<'a>(pub(crate) &'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        if first == b'%'
            && let Some(byte) = escaped(rest)
        {
            self.0 = &rest[2..];
            return Some(byte);
        }
        self.0 = rest;
        Some(first)
    }
}

/// More bytes than this are more characters than a visitor code may have.
const WINDOW: usize = 4 * VISITOR_CODE_CHARS_MAX;

/// Whether the decoded text is longer than a visitor code may be. Allocates nothing.
pub(crate) fn is_longer_than_a_visitor(raw: &[u8]) -> bool {
    // A character, replacement characters included, stands for one to four bytes.
    if raw.len() <= VISITOR_CODE_CHARS_MAX {
        return false;
    }
    let mut window = [0_u8; WINDOW];
    let mut held = 0;
    for byte in Decoded(raw) {
        let Some(free) = window.get_mut(held) else { return true };
        *free = byte;
        held += 1;
    }
    let chunks = window[..held].utf8_chunks();
    let chars: usize = chunks.map(|c| c.valid().chars().count() + usize::from(!c.invalid().is_empty())).sum();
    chars > VISITOR_CODE_CHARS_MAX
}

fn first_escape(raw: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'%', raw).find(|at| escaped(&raw[at + 1..]).is_some())
}

/// Decodes `raw`, whose first escape is at `first`.
fn decode_from(raw: &[u8], first: usize, out: &mut Vec<u8>) {
    let start = out.len();
    // Decoding never makes longer: room for all of it spares a check per byte.
    out.resize(start + raw.len(), 0);
    out[start..start + first].copy_from_slice(&raw[..first]);
    let mut written = first;
    for (byte, slot) in Decoded(&raw[first..]).zip(&mut out[start + first..]) {
        *slot = byte;
        written += 1;
    }
    out.truncate(start + written);
}

/// The byte whose two hexadecimal digits `after` starts with.
fn escaped(after: &[u8]) -> Option<u8> {
    let [high, low, ..] = after else { return None };
    Some(hex(*high)? << 4 | hex(*low)?)
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    const NONE: u8 = 0xFF;
    const VALUES: [u8; 256] = {
        let mut values = [NONE; 256];
        let mut n = 0_u8;
        while n < 16 {
            values[b"0123456789abcdef"[n as usize] as usize] = n;
            values[b"0123456789ABCDEF"[n as usize] as usize] = n;
            n += 1;
        }
        values
    };
    Some(VALUES[usize::from(digit)]).filter(|value| *value != NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_percent_and_a_plus_stay_as_they_are() {
        for (raw, text) in [
            ("", ""),
            ("100%", "100%"),
            ("100%2", "100%2"),
            ("%zz%4", "%zz%4"),
            ("a+b", "a+b"),
            ("a%20b%2Bc", "a b+c"),
            ("%%41", "%A"),
            ("%25%34%31", "%41"),
            ("T%C3%AFtre", "Tïtre"),
            ("%c3%a9", "é"),
        ] {
            assert_eq!(decode(raw.as_bytes()), text, "{raw}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_replaced_and_plain_text_is_borrowed() {
        assert_eq!(decode(b"a%FFb"), "a\u{FFFD}b");
        assert_eq!(decode(b"a\xFFb"), "a\u{FFFD}b");
        assert!(matches!(decode(b"plain 100%"), Cow::Borrowed("plain 100%")));
        assert!(matches!(decode(b"%41"), Cow::Owned(_)));
    }

    #[test]
    fn characters_are_counted_as_they_decode() {
        for text in
            ["a", "é", "€", "𝄞", "%C3%A9", "%F0%9D%84%9E", "\u{FFFD}", "%FF", "%E2%82", "%F0%9D", "a%"]
        {
            for times in [1, 63, 64, 85, 86, 127, 128, 254, 255, 256, 300, 1021] {
                let raw = text.repeat(times);
                let longer = decode(raw.as_bytes()).chars().count() > VISITOR_CODE_CHARS_MAX;
                assert_eq!(is_longer_than_a_visitor(raw.as_bytes()), longer, "{text} x {times}");
            }
        }
    }
}
