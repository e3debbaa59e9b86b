//! Header blocks of HTTP/2: requests written, the status of an answer read.
//!
//! What must stay true: the first request of a connection puts the headers into the server's table in their order, and
//! all later ones name them by that order; the path never enters the table.

/// Bytes that the table must have for a request's headers (RFC 7541 §4.1: 32 for each beside name and value). Every
/// server has 4096 unless it says otherwise.
pub(super) const TABLE_NEEDED: u32 = 2_048;

/// Places of the table that never changes (RFC 7541, appendix A).
const AUTHORITY: u8 = 1;
const METHOD_GET: u8 = 2;
const PATH: u8 = 4;
const SCHEME_HTTP: u8 = 6;
const SCHEME_HTTPS: u8 = 7;
const STATUS: u8 = 8;
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
/// The first place of the table that the client fills; the youngest entry stands there.
const FIRST_OWN: usize = 62;

const INDEXED: u8 = 0x80;
const ADDED: u8 = 0x40;
const SIZE_UPDATE: u8 = 0x20;

/// Appends the block of a GET.
pub(super) fn request(
    out: &mut Vec<u8>,
    tls: bool,
    authority: &str,
    path: &[u8],
    headers: &[(String, String)],
    first: bool,
) {
    out.push(INDEXED | METHOD_GET);
    out.push(INDEXED | if tls { SCHEME_HTTPS } else { SCHEME_HTTP });
    out.push(PATH);
    text(out, path);
    if first {
        out.push(ADDED | AUTHORITY);
        text(out, authority.as_bytes());
        for (name, value) in headers {
            out.push(ADDED);
            text(out, name.as_bytes());
            text(out, value.as_bytes());
        }
    } else {
        // The authority is the oldest.
        for age in (0..=headers.len()).rev() {
            integer(out, INDEXED, 7, FIRST_OWN + age);
        }
    }
}

/// The status in an answer's block, which is its first field; `None` where the block is none.
pub(super) fn status(mut block: &[u8]) -> Option<u16> {
    while block.first()? & 0xE0 == SIZE_UPDATE {
        // A size of 31 or more goes on in further bytes; the last has no high bit.
        let long = block[0] & 0x1F == 0x1F;
        let more = if long { block[1..].iter().position(|byte| byte & 0x80 == 0)? + 1 } else { 0 };
        block = &block[1 + more..];
    }
    let first = block[0];
    if first & INDEXED != 0 {
        return STATUSES.get(usize::from((first & 0x7F).checked_sub(STATUS)?)).copied();
    }
    // A literal, whose name is any of the places of `:status`.
    let place = if first & ADDED == 0 { first & 0x0F } else { first & 0x3F };
    if !(STATUS..STATUS + 7).contains(&place) {
        return None;
    }
    let length = *block.get(1)?;
    let value = block.get(2..2 + usize::from(length & 0x7F))?;
    if length & 0x80 == 0 { std::str::from_utf8(value).ok()?.parse().ok() } else { huffman_number(value) }
}

/// Three digits in the code of RFC 7541, appendix B: 0 to 2 have five bits, 3 to 9 have six.
fn huffman_number(bytes: &[u8]) -> Option<u16> {
    let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = bytes.len() * 8;
    let mut number = 0;
    for _ in 0..3 {
        let five = bits.checked_shr(u32::try_from(left.checked_sub(5)?).ok()?)? & 0x1F;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left = left.checked_sub(6)?;
            ((bits >> left) & 0x3F).checked_sub(0x19).filter(|more| *more < 7)? + 3
        };
        number = number * 10 + u16::try_from(digit).ok()?;
    }
    Some(number)
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    integer(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

/// RFC 7541 §5.1: what does not fit into the prefix goes on in bytes of seven bits.
fn integer(out: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let most = (1usize << prefix) - 1;
    let low = |value: usize| u8::try_from(value & 0xFF).unwrap_or(0);
    if value < most {
        out.push(flags | low(value));
        return;
    }
    out.push(flags | low(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(low(rest & 0x7F) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_in_all_its_forms() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x89, 0x61]), Some(204));
        assert_eq!(status(&[0x20, 0x89]), Some(204), "after the table's new size");
        assert_eq!(status(&[0x3F, 0xE1, 0x1F, 0x89]), Some(204), "after a large one");
        assert_eq!(status(b"\x48\x03503"), Some(503));
        assert_eq!(status(b"\x08\x03429"), Some(429));
        // 302, as RFC 7541 C.6.1 has it.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        // 307, as C.6.2 has it.
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
    }

    #[test]
    fn nonsense_is_no_status() {
        for bad in [&b""[..], b"\x20", b"\xBE", b"\x48", b"\x48\x83\x64", b"\x40\x03abc", b"\x48\x81\xFF"] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn integers_are_written_as_in_the_standard() {
        let written = |prefix, value| {
            let mut out = Vec::new();
            integer(&mut out, 0, prefix, value);
            out
        };
        assert_eq!(written(5, 10), [10]);
        assert_eq!(written(5, 1337), [0x1F, 0x9A, 0x0A]);
        assert_eq!(written(7, 127), [0x7F, 0]);
    }

    #[test]
    fn later_requests_name_the_headers_of_the_first() {
        let headers = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
        let mut out = Vec::new();
        request(&mut out, true, "h", b"/", &headers, true);
        assert_eq!(out, b"\x82\x87\x04\x01/\x41\x01h\x40\x01a\x011\x40\x01b\x012");
        out.clear();
        request(&mut out, true, "h", b"/", &headers, false);
        assert_eq!(out, b"\x82\x87\x04\x01/\xC0\xBF\xBE");
    }
}
