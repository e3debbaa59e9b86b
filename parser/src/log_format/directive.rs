//! The text of a `log_format`, as it stands in nginx.conf, into literals and variables.
//!
//! Never judges whether the format can be read back. What must stay true: strings,
//! escapes and names are read as nginx reads them, and each piece knows where it
//! stood in the text.

use super::error::{FormatError, FormatFault, Place};
use super::escape::Escape;

/// A longer text is no `log_format`.
const FORMAT_BYTES_MAX: usize = 64 << 10;
const VARIABLES_MAX: usize = 256;

/// What a format is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) escape: Escape,
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal {
        bytes: Vec<u8>,
    },
    /// The name as it is written, without `$` and braces.
    Variable {
        name: String,
        offset: usize,
    },
}

/// One word of nginx.conf: its bytes after nginx's own escapes, each with its offset.
#[derive(Debug, Default)]
struct Word {
    bytes: Vec<u8>,
    offsets: Vec<usize>,
    start: usize,
}

impl Word {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Reads `log_format NAME [escape=…] 'part' …;`, or only the parts, or one bare string.
pub(super) fn parse(text: &str) -> Result<Directive, FormatError> {
    let fault = |offset, fault| FormatError { place: Place::at(text, offset), fault };
    if text.len() > FORMAT_BYTES_MAX {
        let too_long = FormatFault::TooLong { max: FORMAT_BYTES_MAX };
        return Err(FormatError { place: Place::WHOLE, fault: too_long });
    }
    let begin = text.len() - text.trim_start().len();
    let (escape, parts) = match text[begin..].strip_prefix("log_format") {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_whitespace()) => {
            let mut strings = words(text, begin).map_err(|(at, why)| fault(at, why))?;
            strings.drain(..strings.len().min(2));
            let escape = match strings.first() {
                Some(word) => escape_of(&word.text()).map_err(|why| fault(word.start, why))?,
                None => None,
            };
            strings.drain(..usize::from(escape.is_some()));
            if strings.is_empty() {
                return Err(fault(begin, FormatFault::NoString));
            }
            (escape, strings)
        }
        _ => {
            let word = text[begin..].split_ascii_whitespace().next().unwrap_or_default();
            let escape = escape_of(word).map_err(|why| fault(begin, why))?;
            let behind =
                if escape.is_some() { text[begin + word.len()..].trim_start() } else { &text[begin..] };
            (escape, strings_or_bare(text, text.len() - behind.len()).map_err(|(at, why)| fault(at, why))?)
        }
    };
    let mut pieces = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        split(part, is_last, &mut pieces).map_err(|(at, why)| fault(at, why))?;
    }
    let variables = pieces.iter().filter(|piece| matches!(piece, Piece::Variable { .. })).count();
    if variables == 0 {
        let name = text.trim().chars().take(40).collect();
        return Err(FormatError { place: Place::WHOLE, fault: FormatFault::UnknownName { text: name } });
    }
    if variables > VARIABLES_MAX {
        let too_many = FormatFault::TooManyVariables { max: VARIABLES_MAX };
        return Err(FormatError { place: Place::WHOLE, fault: too_many });
    }
    Ok(Directive { escape: escape.unwrap_or(Escape::Default), pieces })
}

type Fault = (usize, FormatFault);

/// What a word says about escaping, if it is about that.
fn escape_of(word: &str) -> Result<Option<Escape>, FormatFault> {
    let Some(name) = word.strip_prefix("escape=") else { return Ok(None) };
    let known = Escape::from_name(name);
    known.map(Some).ok_or_else(|| FormatFault::UnknownEscape { word: name.to_owned() })
}

/// Text without a directive: strings in quotes, or the format itself.
fn strings_or_bare(text: &str, begin: usize) -> Result<Vec<Word>, Fault> {
    let rest = &text[begin..];
    let parts = match rest.as_bytes().first() {
        Some(b'\'') => true,
        // A bare format may begin with `"`, but then it does not end with that string.
        Some(b'"') => words(text, begin).is_ok_and(|words| words.len() == 1),
        _ => false,
    };
    if parts {
        return words(text, begin);
    }
    let mut bare = Word { start: begin, ..Word::default() };
    unescape(text.as_bytes(), begin, begin + rest.trim_end_matches(['\n', '\r']).len(), &mut bare);
    Ok(vec![bare])
}

/// The words up to `;` or the end, as nginx takes its configuration apart.
fn words(text: &str, begin: usize) -> Result<Vec<Word>, Fault> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut at = begin;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' => at += memchr::memchr(b'\n', &bytes[at..]).unwrap_or(bytes.len() - at),
            b';' => {
                let rest = &text[at + 1..];
                let behind = rest.trim_start();
                if !behind.is_empty() && !behind.starts_with('#') {
                    return Err((text.len() - behind.len(), FormatFault::BehindTheEnd));
                }
                return Ok(words);
            }
            quote @ (b'"' | b'\'') => {
                let open = FormatFault::OpenString { quote: char::from(quote) };
                let end = end_of(bytes, at + 1, |byte| byte == quote).ok_or((at, open))?;
                let mut word = Word { start: at, ..Word::default() };
                unescape(bytes, at + 1, end, &mut word);
                words.push(word);
                at = end + 1;
                if bytes.get(at).is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';')) {
                    return Err((at, FormatFault::NoSpace));
                }
            }
            _ => {
                let ends = |byte: u8| byte == b';' || byte.is_ascii_whitespace();
                let end = end_of(bytes, at, ends).unwrap_or(bytes.len());
                let mut word = Word { start: at, ..Word::default() };
                unescape(bytes, at, end, &mut word);
                words.push(word);
                at = end;
            }
        }
    }
    Ok(words)
}

/// The first byte from `at` on that ends the word; one behind a backslash does not.
fn end_of(bytes: &[u8], mut at: usize, ends: impl Fn(u8) -> bool) -> Option<usize> {
    while let Some(&byte) = bytes.get(at) {
        if byte == b'\\' {
            at += 1;
        } else if ends(byte) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// nginx's escapes in its configuration: `\"`, `\'`, `\\`, `\t`, `\r`, `\n`; others stay.
fn unescape(bytes: &[u8], begin: usize, end: usize, word: &mut Word) {
    let mut at = begin;
    while at < end {
        let second = bytes[..end].get(at + 1).copied();
        let (byte, length) = match (bytes[at], second) {
            (b'\\', Some(b @ (b'"' | b'\'' | b'\\'))) => (b, 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (byte, _) => (byte, 1),
        };
        word.bytes.push(byte);
        word.offsets.push(at);
        at += length;
    }
}

/// Takes one string apart. A variable never goes on in the next string.
fn split(word: &Word, is_last: bool, pieces: &mut Vec<Piece>) -> Result<(), Fault> {
    let offset = |at: usize| word.offsets.get(at).copied().unwrap_or(word.start);
    let mut at = 0;
    while at < word.bytes.len() {
        let rest = &word.bytes[at..];
        if rest[0] != b'$' {
            let length = memchr::memchr(b'$', rest).unwrap_or(rest.len());
            // At the very end a carriage return belongs to the end of the line.
            let is_end = |found: usize| is_last && rest[found] == b'\r' && found + 1 == rest.len();
            let mut ends = memchr::memchr2_iter(b'\n', b'\r', &rest[..length]);
            if let Some(found) = ends.find(|found| !is_end(*found)) {
                return Err((offset(at + found), FormatFault::LineEnd));
            }
            match pieces.last_mut() {
                Some(Piece::Literal { bytes }) => bytes.extend_from_slice(&rest[..length]),
                _ => pieces.push(Piece::Literal { bytes: rest[..length].to_vec() }),
            }
            at += length;
            continue;
        }
        let braces = usize::from(rest.get(1) == Some(&b'{'));
        let inner = &rest[1 + braces..];
        let length =
            inner.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(inner.len());
        let name = String::from_utf8_lossy(&inner[..length]).into_owned();
        if braces == 1 && inner.get(length) != Some(&b'}') {
            return Err((offset(at), FormatFault::OpenBrace { name }));
        }
        if length == 0 {
            return Err((offset(at), FormatFault::NoVariableName));
        }
        pieces.push(Piece::Variable { name, offset: offset(at) });
        at += 1 + 2 * braces + length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Literals as they are, variables in angle brackets.
    fn shape(text: &str) -> String {
        let directive = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let pieces = directive.pieces.iter().map(|piece| match piece {
            Piece::Literal { bytes } => String::from_utf8_lossy(bytes).into_owned(),
            Piece::Variable { name, .. } => format!("<{name}>"),
        });
        format!("{}:{}", directive.escape.name(), pieces.collect::<String>())
    }

    #[test]
    fn a_directive_is_read_as_it_stands_in_nginx_conf() {
        for (text, expected) in [
            ("log_format x '$a $b';", "default:<a> <b>"),
            (
                "  log_format  x  escape=json\n  '{\"a\":\"$a\",'  # one\n  \"\\\"b\\\":$b}\" ; # two\n",
                "json:{\"a\":\"<a>\",\"b\":<b>}",
            ),
            ("log_format x escape=none $a\\t${b}c;", "none:<a>\t<b>c"),
            ("log_format x '$a' '$b'", "default:<a><b>"),
            ("'$a\\t$b\\\\\\x'", "default:<a>\t<b>\\\\x"),
            ("escape=json '$a'", "json:<a>"),
            ("escape=none $a $b", "none:<a> <b>"),
            ("$a - $b [\"$c\"]", "default:<a> - <b> [\"<c>\"]"),
            ("\"$a\" \"$b\"", "default:\"<a>\" \"<b>\""),
            ("\"$a\\t$b\"", "default:<a>\t<b>"),
            ("{\"a\":\"$a\"}\n", "default:{\"a\":\"<a>\"}"),
            ("$a\\t$B_1.$c", "default:<a>\t<B_1>.<c>"),
            ("log_formatted $a", "default:log_formatted <a>"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn what_nginx_refuses_is_refused_with_its_place() {
        for (text, offset, words) in [
            ("log_format x '$a", 13, "closing '"),
            ("log_format x \"$a'", 13, "closing \""),
            ("log_format x '$a'$b;", 17, "space between"),
            ("log_format x '$a'; access_log off;", 19, "one `log_format` only"),
            ("log_format x;", 0, "at least one string"),
            ("log_format x escape=json;", 0, "at least one string"),
            ("log_format x escape=xml '$a';", 13, "`escape=xml` is unknown"),
            ("escape=JSON $a", 0, "`escape=JSON` is unknown"),
            ("$a $ b", 3, "no name"),
            ("$a\t${}", 3, "no name"),
            ("log_format x\n '$a ${b';", 18, "`${b}`"),
            ("'$a $' 'b'", 4, "no name"),
            ("$a\\n$b", 2, "line feed"),
            ("'$a\\r' '$b\\r'", 3, "carriage return"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.place.offset, Some(offset), "{text}: {error}");
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
        let error = parse("log_format x\n '$a ${b';").unwrap_err();
        assert_eq!((error.place.line, error.place.column), (2, 6));
        assert!(parse("combind").unwrap_err().to_string().starts_with("`combind` has no variable"));
        assert!(parse(&"$a ".repeat(300)).unwrap_err().to_string().contains("256 variables"));
        assert!(parse(&" ".repeat(70_000)).unwrap_err().to_string().contains("65536 bytes"));
    }
}
