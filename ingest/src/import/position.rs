//! How far the import of one file has come, as a record of the event log.

use std::collections::BTreeMap;
use std::fmt;

use fanal_storage::log::{Batch, BatchError, Topic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a file's beginning that its head is made of, at most; its first line if
/// that is shorter, so that the head of a growing file stays.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Finds candidates for a file; the prefix decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeadHash(pub [u8; 32]);

impl HeadHash {
    pub(super) fn of(head: &[u8]) -> Self {
        Self(Sha256::digest(head).into())
    }

    /// Reads 64 hexadecimal characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for HeadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Everything before `offset` of a file with this content is in the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes of the content, decompressed.
    pub offset: u64,
    /// SHA-256 of these bytes, in hexadecimal.
    pub prefix: String,
    /// The prefix that this one goes on from; none at the beginning of a file.
    pub extends: Option<String>,
    /// In the first batch of a run: which positions of this head the run had seen.
    /// If others have come since, somebody else is importing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Lines of the file so far.
    pub log_lines: u64,
    pub accepted: u64,
    pub rejected: BTreeMap<String, u64>,
    pub ignored: BTreeMap<String, u64>,
    /// As it was called; for people.
    pub file: String,
}

impl Position {
    /// Puts the position into the batch whose records it covers.
    pub(super) fn push(&self, head: &HeadHash, batch: &mut Batch) -> Result<(), BatchError> {
        let value = serde_json::to_vec(self).unwrap_or_default();
        batch.push(Topic::Positions, &head.0, |out| out.extend_from_slice(&value))
    }

    /// One name for what is known of a head; `positions` ascend by offset and prefix.
    pub(super) fn summary(positions: &[Self]) -> String {
        let mut hasher = Sha256::new();
        for position in positions {
            hasher.update(position.prefix.as_bytes());
        }
        hex(&hasher.finalize())
    }

    /// Reads a record; `None` for one that is not a file's position, such as a probe.
    pub(super) fn of_record(key: &[u8], value: &[u8]) -> Option<(HeadHash, Self)> {
        let head = HeadHash(key.try_into().ok()?);
        Some((head, serde_json::from_slice(value).ok()?))
    }
}

pub(super) fn hex(digest: &[u8]) -> String {
    let mut text = String::with_capacity(digest.len() * 2);
    for byte in digest {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
