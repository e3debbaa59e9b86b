//! What a record on a topic looks like, both ways: a batch into records, and a record
//! into what it is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fanal_model::{Beacon, DeadLetter, RULES_VERSION, RejectReason, Source};
use fanal_storage::log::{AppendError, Batch, Family, Topic};

/// The header that names the version of a record's format; none means version 1.
pub const VERSION_HEADER: &str = "fanal-version";
/// The version that this program reads and writes.
pub const VERSION: &[u8] = b"1";
/// The header that tells records apart that are no lines.
pub const KIND_HEADER: &str = "fanal-kind";
/// The kind of a border between two files of the raw archive: no key, no value.
pub const SEAL_KIND: &[u8] = b"seal";

/// The kind of a note that lines of its key went to the overflow topic; its value is
/// the time of one of them, in decimal milliseconds.
pub const OVERFLOW_KIND: &[u8] = b"overflow";

/// More lines without a record than this are no slip of a parser but a broken batch.
const UNACCOUNTED_MAX: u64 = 100_000;

/// A record on its way to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing<'b> {
    pub(crate) family: Family,
    pub(crate) key: Cow<'b, [u8]>,
    pub(crate) value: Cow<'b, [u8]>,
    /// None for a line.
    pub(crate) kind: Option<&'static [u8]>,
}

impl<'b> Outgoing<'b> {
    /// What the partition of a line on the overflow topic is told.
    pub(crate) fn overflow_note(key: &'b [u8], value: &[u8]) -> Self {
        let at_ms = Beacon::decode(value).map_or(0, |beacon| beacon.received_at_ms);
        Self {
            family: Family::Beacons,
            key: Cow::Borrowed(key),
            value: Cow::Owned(at_ms.to_string().into_bytes()),
            kind: Some(OVERFLOW_KIND),
        }
    }
}

impl Outgoing<'_> {
    pub(crate) fn len(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// The records of a batch. Positions are left to the caller; a dead letter is added
/// for each line that the batch's receipts count and no record stands for.
pub(crate) fn outgoing(batch: &Batch) -> Result<Vec<Outgoing<'_>>, AppendError> {
    let mut records = Vec::with_capacity(batch.record_count() as usize);
    for (topic, key, value) in batch.records() {
        let family = match topic {
            Topic::Beacons => Family::Beacons,
            Topic::Dead => Family::Dead,
            Topic::Positions => continue,
            Topic::Receipts | Topic::Seal | Topic::Lost | Topic::Foreign | Topic::Overflowed => {
                return Err(AppendError::Io(format!("{topic:?} is no record that a batch brings to Kafka")));
            }
        };
        records.push(Outgoing { family, key: Cow::Borrowed(key), value: Cow::Borrowed(value), kind: None });
    }
    add_unaccounted(batch, &mut records)?;
    Ok(records)
}

fn add_unaccounted<'b>(batch: &'b Batch, records: &mut Vec<Outgoing<'b>>) -> Result<(), AppendError> {
    let received: u64 = batch.receipts().iter().fold(0, |sum, counts| sum.saturating_add(counts.received));
    let mut missing = received.saturating_sub(records.len() as u64);
    if missing == 0 {
        return Ok(());
    }
    if missing > UNACCOUNTED_MAX {
        let detail = format!("{missing} lines of a batch have no record, which is a fault of its sender");
        return Err(AppendError::Io(detail));
    }
    tracing::error!(missing, "lines without an outcome are kept as dead letters; please report this");
    let mut stored: BTreeMap<&[u8], u64> = BTreeMap::new();
    for record in &*records {
        if let Cow::Borrowed(key) = record.key {
            *stored.entry(site_of(key)).or_default() += 1;
        }
    }
    for counts in batch.receipts() {
        let found = stored.entry(counts.site.as_bytes()).or_default();
        let here = counts.received.saturating_sub(*found).min(missing);
        *found = found.saturating_sub(counts.received);
        missing -= here;
        for _ in 0..here {
            records.push(unaccounted(&counts.site, counts.minute_ms));
        }
    }
    // Counted for one site and stored for another.
    if let Some(counts) = batch.receipts().last() {
        for _ in 0..missing {
            records.push(unaccounted(&counts.site, counts.minute_ms));
        }
    }
    Ok(())
}

fn unaccounted<'b>(site: &str, minute_ms: u64) -> Outgoing<'b> {
    let letter = DeadLetter {
        received_at_ms: minute_ms,
        site_code: site,
        reason: RejectReason::Unaccounted.name(),
        rules_version: RULES_VERSION,
        source: Source::Http,
        ..DeadLetter::default()
    };
    let mut value = Vec::with_capacity(64);
    letter.encode(&mut value);
    Outgoing {
        family: Family::Dead,
        key: Cow::Owned(site.as_bytes().to_vec()),
        value: Cow::Owned(value),
        kind: None,
    }
}

/// The site that a key begins with.
fn site_of(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == 0).next().unwrap_or(key)
}

/// What a record of a topic is, by everything but its value.
pub(crate) fn classify<'h>(
    family: Family,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
) -> Topic {
    let own = match family {
        Family::Beacons | Family::Overflow => Topic::Beacons,
        Family::Dead => Topic::Dead,
    };
    let mut kind = None;
    for (name, content) in headers {
        match name {
            VERSION_HEADER if content != Some(VERSION) => return Topic::Foreign,
            KIND_HEADER => kind = Some(content),
            _ => {}
        }
    }
    match kind {
        None if value.is_some() => own,
        Some(Some(SEAL_KIND)) if key.is_none_or(<[u8]>::is_empty) && value.is_none_or(<[u8]>::is_empty) => {
            Topic::Seal
        }
        Some(Some(OVERFLOW_KIND)) if family == Family::Beacons && value.is_some() => Topic::Overflowed,
        // A kind that came later, or neither a value nor a kind.
        _ => Topic::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(received: u64) -> Batch {
        let mut batch = Batch::new();
        batch.push(Topic::Beacons, b"one\0visitor", |v| v.push(1)).unwrap();
        batch.push(Topic::Dead, b"two", |v| v.push(2)).unwrap();
        batch.push(Topic::Positions, b"", |_| {}).unwrap();
        batch.receipt(60_000, "one", 1, 1, 0);
        batch.receipt(60_000, "two", received, 0, 1);
        batch
    }

    #[test]
    fn records_go_to_the_topic_of_their_family() {
        let batch = batch(1);
        let records = outgoing(&batch).unwrap();
        let found: Vec<_> = records.iter().map(|r| (r.family, &*r.key, &*r.value)).collect();
        assert_eq!(
            found,
            [(Family::Beacons, &b"one\0visitor"[..], &[1][..]), (Family::Dead, &b"two"[..], &[2][..])]
        );
    }

    #[test]
    fn a_line_without_a_record_becomes_an_unaccounted_dead_letter_of_its_site() {
        let batch = batch(3);
        let records = outgoing(&batch).unwrap();
        assert_eq!(records.len(), 4);
        for record in &records[2..] {
            let letter = DeadLetter::decode(&record.value).unwrap();
            assert_eq!(
                (letter.site_code, letter.reason, letter.received_at_ms),
                ("two", "unaccounted", 60_000)
            );
            assert_eq!((record.family, &*record.key), (Family::Dead, &b"two"[..]));
        }
    }

    #[test]
    fn absurd_receipts_are_refused() {
        assert!(matches!(outgoing(&batch(u64::MAX)), Err(AppendError::Io(_))));
    }

    #[test]
    fn a_batch_brings_no_seal() {
        let mut batch = Batch::new();
        batch.push(Topic::Seal, b"", |_| {}).unwrap();
        assert!(matches!(outgoing(&batch), Err(AppendError::Io(_))));
    }

    #[test]
    fn headers_say_what_a_record_is() {
        type Case<'c> = (Option<&'c [u8]>, &'c [(&'c str, Option<&'c [u8]>)], Topic);
        let value = Some(&b"v"[..]);
        let cases: [Case<'_>; 9] = [
            (value, &[], Topic::Beacons),
            (value, &[(VERSION_HEADER, Some(b"1"))], Topic::Beacons),
            (value, &[("trace", Some(b"x"))], Topic::Beacons),
            (value, &[(VERSION_HEADER, Some(b"2"))], Topic::Foreign),
            (value, &[(VERSION_HEADER, None)], Topic::Foreign),
            (value, &[(KIND_HEADER, Some(b"seal"))], Topic::Foreign),
            (None, &[(KIND_HEADER, Some(b"seal"))], Topic::Seal),
            (None, &[(KIND_HEADER, Some(b"other"))], Topic::Foreign),
            (None, &[], Topic::Foreign),
        ];
        for (value, headers, topic) in cases {
            assert_eq!(
                classify(Family::Overflow, None, value, headers.iter().copied()),
                topic,
                "{headers:?}"
            );
        }
    }
}
