//! The visitor code out of a `Cookie` header.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::decode::{decode, push_lossy};

const NAME: &[u8] = b"kameleoonVisitorCode";

/// The code in the cookie `kameleoonVisitorCode`, if there is one that is not
/// empty. Scripts write it raw or percent-encoded, back ends may quote it.
#[must_use]
pub fn cookie_visitor(header: &[u8]) -> Option<Cow<'_, str>> {
    // Most of what a site's pages set has another name: one search over all of it.
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));
    if header.len() <= NAME.len() || FINDER.find(header).is_none() {
        return None;
    }
    for pair in header.split(|b| *b == b';') {
        let pair = pair.trim_ascii();
        let Some(at) = memchr::memchr(b'=', pair) else { continue };
        if pair[..at].trim_ascii() != NAME {
            continue;
        }
        let code = cookie_value(&pair[at + 1..]);
        if code.is_some() {
            return code;
        }
    }
    None
}

/// The code that the value of that cookie stands for, if it is not empty.
pub(crate) fn cookie_value(value: &[u8]) -> Option<Cow<'_, str>> {
    let code = match value.trim_ascii() {
        [b'"', inner @ .., b'"'] => unquoted(inner),
        plain => decode(plain),
    };
    (!code.is_empty()).then_some(code)
}

/// A quoted value: `\"`, `\\`, and `\351` for the character with that number,
/// as Python's cookie library writes them.
fn unquoted(inner: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', inner).is_none() {
        return decode(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        push_lossy(&rest[..at], &mut text);
        rest = match &rest[at + 1..] {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                text.push(char::from((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')));
                after
            }
            [b'\\', after @ ..] => {
                text.push('\\');
                after
            }
            after => after,
        };
    }
    push_lossy(rest, &mut text);
    Cow::Owned(decode(text.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visitor_code_is_found_among_other_cookies() {
        for (header, code) in [
            ("kameleoonVisitorCode=abc123", Some("abc123")),
            ("a=1; kameleoonVisitorCode=abc123; b=2", Some("abc123")),
            ("a=1;kameleoonVisitorCode=%C3%A9l%C3%A8ve%207", Some("élève 7")),
            (r#"kameleoonVisitorCode="user@example.com""#, Some("user@example.com")),
            (r#"kameleoonVisitorCode="\351l\350ve 7\073 \"x\\y""#, Some("élève 7; \"x\\y")),
            ("kameleoonVisitorCode=a=b", Some("a=b")),
            ("kameleoonVisitorCode=100%", Some("100%")),
            ("kameleoonVisitorCode=", None),
            ("kameleoonVisitorCode=\"\"; kameleoonVisitorCode=second", Some("second")),
            ("xkameleoonVisitorCode=abc", None),
            ("kameleoonVisitorCode", None),
            ("", None),
            (";;=;", None),
        ] {
            assert_eq!(cookie_visitor(header.as_bytes()).as_deref(), code, "{header}");
        }
    }
}
