//! The cookie `kameleoonVisitorCode` as the collector sets it.

use std::fmt::Write;

use fanal_model::VISITOR_CODE_CHARS_MAX;
use fanal_storage::catalogue::VisitorCookie;
use http::HeaderValue;
use rand::RngExt;

/// A year: how long a browser that does not come back keeps its code.
const MAX_AGE_S: u32 = 365 * 24 * 3600;
const CODE_CHARS: usize = 16;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A new visitor code.
pub(crate) fn new_code() -> String {
    let mut random = rand::rng();
    (0..CODE_CHARS).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// The `Set-Cookie` value; `None` for a code that no cookie can hold. Scripts read
/// this cookie, so it is not `HttpOnly`.
pub(crate) fn set_cookie(code: &str, cookie: &VisitorCookie, tls: bool) -> Option<HeaderValue> {
    if code.is_empty() || code.chars().count() > VISITOR_CODE_CHARS_MAX {
        return None;
    }
    let mut value = String::with_capacity(128);
    value.push_str("kameleoonVisitorCode=");
    for byte in code.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            value.push(char::from(byte));
        } else {
            write!(value, "%{byte:02X}").ok()?;
        }
    }
    write!(value, "; Max-Age={MAX_AGE_S}; Path=/").ok()?;
    if let Some(domain) = &cookie.domain {
        write!(value, "; Domain={domain}").ok()?;
    }
    if tls {
        value.push_str("; Secure");
    }
    value.push_str("; SameSite=Lax");
    HeaderValue::from_str(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_code_is_one_that_sdks_would_make() {
        let (one, two) = (new_code(), new_code());
        assert_ne!(one, two);
        assert!(one.len() == 16 && one.bytes().all(|b| ALPHABET.contains(&b)), "{one}");
    }

    #[test]
    fn a_code_reads_back_from_the_cookie_that_was_set() {
        let cookie = VisitorCookie { domain: Some("shop.example".to_owned()) };
        for code in ["abc123", "é; x=\"1\",", "a b%"] {
            let value = set_cookie(code, &cookie, true).unwrap();
            assert_eq!(fanal_parser::cookie_visitor(value.as_bytes()).as_deref(), Some(code));
            let text = value.to_str().unwrap();
            for part in
                ["; Max-Age=31536000", "; Path=/", "; Domain=shop.example", "; Secure", "; SameSite=Lax"]
            {
                assert!(text.contains(part), "{text}");
            }
            assert!(!text.contains("HttpOnly"));
        }
        assert!(
            !set_cookie("a", &VisitorCookie::default(), false).unwrap().to_str().unwrap().contains("Secure")
        );
        assert_eq!(set_cookie(&"x".repeat(256), &cookie, true), None);
    }
}
