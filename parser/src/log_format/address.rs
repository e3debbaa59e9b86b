//! Addresses in text that nobody could read.
//!
//! Never knows a format. What must stay true: an address in its usual writing is not
//! left as it was; rather too much is taken for one than too little.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Any bytes, with `reduced` in the place of each address in them.
#[must_use]
pub fn with_reduced_addresses(bytes: &[u8], mut reduced: impl FnMut(IpAddr) -> String) -> Vec<u8> {
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        match address(&rest[..word]) {
            Some((address, length)) => {
                out.extend_from_slice(reduced(address).as_bytes());
                rest = &rest[length..];
            }
            None => {
                out.extend_from_slice(&rest[..word]);
                rest = &rest[word..];
            }
        }
        let other = rest.iter().position(is_part).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..other]);
        rest = &rest[other..];
    }
    out
}

/// The address that a word is or begins with, such as one with its port.
fn address(word: &[u8]) -> Option<(IpAddr, usize)> {
    let text = str::from_utf8(word).ok()?;
    let whole = text.trim_end_matches(['.', ':']);
    for candidate in [text, whole] {
        let address = candidate.parse::<IpAddr>().ok();
        if let Some(address) = address.filter(|ip| *ip != IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
            return Some((address, candidate.len()));
        }
    }
    let host = text.split_once(':').map_or("", |(host, _)| host);
    host.parse::<Ipv4Addr>().ok().map(|ip| (IpAddr::V4(ip), host.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_in_garbage_is_reduced() {
        for (text, expected) in [
            ("", ""),
            ("203.0.113.7 - - [10/Oct/2025:13:55:36 +0000]", "# - - [10/Oct/2025:13:55:36 +0000]"),
            ("client 203.0.113.7:443, [2001:db8::1]:80 and 203.0.113.8.", "client #:443, [#]:80 and #."),
            ("1700000000.123\t::1\tGET", "1700000000.123\t#\tGET"),
            ("\"203.0.113.7, 198.51.100.1\"", "\"#, #\""),
            ("x :: 1.2.3 12:30:45 ab:cd", "x :: 1.2.3 12:30:45 ab:cd"),
            ("::ffff:203.0.113.7", "#"),
        ] {
            let reduced = with_reduced_addresses(text.as_bytes(), |_| "#".to_owned());
            assert_eq!(String::from_utf8_lossy(&reduced), expected, "{text}");
        }
    }
}
