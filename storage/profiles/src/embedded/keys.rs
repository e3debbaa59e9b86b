//! Keys of the tables: codes with their lengths before them, so that the entries of a
//! visitor stand together, newest first.

use crate::writes::{LinkKey, SlotKey};

/// Entries of the expiry index stand by hour: one visitor with ten events in an hour
/// has one entry.
const HOUR_MS: u64 = 3_600_000;
/// Ids stand in signed order, as Cassandra's `bigint` has them.
const SIGN: u64 = 1 << 63;

/// A code and its length. Codes are at most 1024 bytes.
pub(super) fn put_code(key: &mut Vec<u8>, code: &str) {
    let length = u16::try_from(code.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(code.as_bytes());
}

pub(super) fn codes(codes: &[&str]) -> Vec<u8> {
    let mut key = Vec::with_capacity(codes.iter().map(|code| code.len() + 2).sum());
    for code in codes {
        put_code(&mut key, code);
    }
    key
}

/// Reads codes back; `None` if the key is none of ours.
pub(super) fn split_codes<const N: usize>(mut key: &[u8]) -> Option<([&str; N], &[u8])> {
    let mut codes = [""; N];
    for code in &mut codes {
        let (length, rest) = key.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        *code = std::str::from_utf8(text).ok()?;
        key = rest;
    }
    Some((codes, key))
}

/// Newest first: the bytes of later visits are smaller.
pub(super) fn slot(key: &SlotKey) -> Vec<u8> {
    let mut bytes = codes(&[&key.site_code, &key.visitor_code]);
    bytes.extend_from_slice(&(!key.started_at_ms).to_be_bytes());
    bytes.extend_from_slice(&(!(key.visit_id ^ SIGN)).to_be_bytes());
    bytes
}

pub(super) fn read_slot(key: &[u8]) -> Option<SlotKey> {
    let ([site_code, visitor_code], rest) = split_codes::<2>(key)?;
    let (started, visit) = rest.split_first_chunk::<8>()?;
    Some(SlotKey {
        site_code: site_code.to_owned(),
        visitor_code: visitor_code.to_owned(),
        started_at_ms: !u64::from_be_bytes(*started),
        visit_id: !u64::from_be_bytes(visit.try_into().ok()?) ^ SIGN,
    })
}

/// Key of the link by user id, and by visitor.
pub(super) fn links(key: &LinkKey) -> (Vec<u8>, Vec<u8>) {
    (
        codes(&[&key.site_code, &key.mapping_value, &key.visitor_code]),
        codes(&[&key.site_code, &key.visitor_code, &key.mapping_value]),
    )
}

/// What an entry of the expiry index is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Visits = 0,
    Link = 1,
    Erasure = 2,
}

/// The entry of what began at `at_ms`. `about` is the visitor, or the link by user id.
pub(super) fn expiry(at_ms: u64, kind: Kind, about: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(about.len() + 9);
    key.extend_from_slice(&(at_ms / HOUR_MS).to_be_bytes());
    key.push(kind as u8);
    key.extend_from_slice(about);
    key
}

/// The end of the hour, what kind, and what about.
pub(super) fn read_expiry(key: &[u8]) -> Option<(u64, Kind, &[u8])> {
    let (hour, rest) = key.split_first_chunk::<8>()?;
    let (kind, about) = rest.split_first()?;
    let kind = match kind {
        0 => Kind::Visits,
        1 => Kind::Link,
        2 => Kind::Erasure,
        _ => return None,
    };
    Some((u64::from_be_bytes(*hour).saturating_add(1).saturating_mul(HOUR_MS), kind, about))
}

/// The first key after all that begin with `prefix`; `None` if there is none.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}
