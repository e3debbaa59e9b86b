//! Gathers records of the log and writes a file at each border.

use bytes::Bytes;
use fanal_model::{Beacon, DeadLetter, RULES_VERSION, Receipt, RejectReason, SiteCode, Source};

use super::encode::{Content, Encoder, GROUP_ROWS, Notes, Place, beacon_at};
use super::rotation::Fill;
use super::{Archive, ArchiveError, FileInfo, Ledger, Rotation};
use crate::log::{Chunk, LogKind, Partition, Record, Topic};

/// The latest time that tables can hold (2106). A record that claims a later one is
/// not ours.
const TIME_MS_MAX: u64 = u32::MAX as u64 * 1000;

/// Writes the archive of one partition. Holds the records since the last border in
/// memory; after a restart they are read from the log again.
pub struct ArchiveWriter {
    archive: Archive,
    rotation: Rotation,
    kind: LogKind,
    partition: Partition,
    /// The record that must come next.
    next_offset: u64,
    gathered: Gathered,
}

/// The records of the file to come.
#[derive(Default)]
struct Gathered {
    fill: Fill,
    first_offset: Option<u64>,
    first_append_ms: u64,
    last_append_ms: u64,
    /// Encoded beacons and dead letters.
    values: Vec<u8>,
    beacons: Vec<Place>,
    dead: Vec<Place>,
    ledger: Ledger,
}

impl ArchiveWriter {
    /// A writer that goes on where the archive ends, or at `log_start` if it is empty.
    pub async fn resume(
        archive: Archive,
        rotation: Rotation,
        kind: LogKind,
        partition: Partition,
        log_start: u64,
    ) -> Result<Self, ArchiveError> {
        let next_offset = archive.resume_offset(partition).await?.unwrap_or(log_start);
        Ok(Self { archive, rotation, kind, partition, next_offset, gathered: Gathered::default() })
    }

    /// The record that must come next; after `resume`, where to read the log from.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Everything before this offset is in files: what a consumer position may say.
    #[must_use]
    pub fn durable_offset(&self) -> u64 {
        self.gathered.first_offset.unwrap_or(self.next_offset)
    }

    /// Takes the records of `chunk` and writes the files that end in it. After an
    /// error the writer is of no more use: resume a new one.
    pub async fn write(&mut self, chunk: &Chunk) -> Result<Vec<FileInfo>, ArchiveError> {
        let mut files = Vec::new();
        let from = self.next_offset;
        for record in chunk.records().skip_while(|r| r.offset < from) {
            // Kafka keeps marks of its own between the records.
            let is_next = match self.kind {
                LogKind::Embedded => record.offset == self.next_offset,
                LogKind::Kafka => record.offset >= self.next_offset,
            };
            if !is_next {
                return Err(ArchiveError::OutOfOrder { expected: self.next_offset, given: record.offset });
            }
            if self.gathered.fill.ends_before(&self.rotation, &record) {
                files.push(self.finish().await?);
            }
            let from_offset = std::mem::replace(&mut self.next_offset, record.offset + 1);
            if self.gathered.add(&self.rotation, self.kind, from_offset, &record) {
                files.push(self.finish().await?);
            }
        }
        Ok(files)
    }

    async fn finish(&mut self) -> Result<FileInfo, ArchiveError> {
        let gathered = std::mem::take(&mut self.gathered);
        let (partition, last_offset) = (self.partition, self.next_offset - 1);
        // Compressing takes a while; the runtime's other tasks must not wait for it.
        let encoded = tokio::task::spawn_blocking(move || gathered.encode(partition, last_offset))
            .await
            .map_err(|error| ArchiveError::Encode(error.to_string()))?;
        let Encoded { mut info, beacons, dead } = encoded?;
        self.archive.put_file(&mut info, beacons, dead).await?;
        Ok(info)
    }
}

struct Encoded {
    info: FileInfo,
    beacons: Vec<u8>,
    dead: Option<Vec<u8>>,
}

impl Gathered {
    /// Adds `record`; true if the file ends after it. `from_offset` is where the file
    /// begins if this is its first record: a gap before a record belongs to its file.
    fn add(&mut self, rotation: &Rotation, kind: LogKind, from_offset: u64, record: &Record<'_>) -> bool {
        match record.topic {
            Topic::Beacons => match read_beacon(record.value) {
                Some(beacon) => {
                    let counts = self.ledger.at(beacon.received_at_ms, beacon.site_code);
                    counts.received += own_receipt(kind);
                    counts.accepted += 1;
                    counts.archived += 1;
                    let place = self.keep(record);
                    self.beacons.push(place);
                }
                None => self.refuse(kind, RejectReason::UnreadableRecord, record),
            },
            Topic::Dead => match read_letter(record.value) {
                Some(letter) => {
                    let counts = self.ledger.at(letter.received_at_ms, letter.site_code);
                    counts.received += own_receipt(kind);
                    *counts.rejected.entry(letter.reason.to_owned()).or_default() += 1;
                    let place = self.keep(record);
                    self.dead.push(place);
                }
                None => self.refuse(kind, RejectReason::UnreadableRecord, record),
            },
            Topic::Receipts => match Receipt::decode(record.value) {
                Ok(receipt) => {
                    self.ledger.at(receipt.minute_ms, receipt.site_code).received += receipt.received;
                }
                Err(_) => self.refuse(kind, RejectReason::UnreadableRecord, record),
            },
            Topic::Foreign => self.refuse(kind, RejectReason::UnknownVersion, record),
            Topic::Lost => self.ledger.lost_records += 1,
            Topic::Positions | Topic::Seal | Topic::Overflowed => {}
        }
        if self.first_offset.is_none() {
            self.first_offset = Some(from_offset);
            self.first_append_ms = record.append_time_ms;
        }
        self.last_append_ms = record.append_time_ms;
        self.fill.add(rotation, record)
    }

    /// Keeps a record that is not what its topic says as a dead letter. What is
    /// written depends on the record alone, so that files stay the same however
    /// often they are made.
    fn refuse(&mut self, kind: LogKind, reason: RejectReason, record: &Record<'_>) {
        let letter = DeadLetter {
            received_at_ms: record.append_time_ms,
            site_code: site_of(record.key),
            reason: reason.name(),
            rules_version: RULES_VERSION,
            source: Source::Unspecified,
            node: "",
            bytes: record.value,
        };
        let (partition, offset) = (record.partition, record.offset);
        tracing::warn!(%partition, offset, reason = letter.reason, "put a record into the dead letters");
        let counts = self.ledger.at(letter.received_at_ms, letter.site_code);
        counts.received += own_receipt(kind);
        *counts.rejected.entry(letter.reason.to_owned()).or_default() += 1;
        let start = self.values.len();
        letter.encode(&mut self.values);
        let (append_time_ms, end) = (record.append_time_ms, self.values.len());
        self.dead.push(Place { offset: record.offset, append_time_ms, start, end });
    }

    fn keep(&mut self, record: &Record<'_>) -> Place {
        let start = self.values.len();
        self.values.extend_from_slice(record.value);
        Place { offset: record.offset, append_time_ms: record.append_time_ms, start, end: self.values.len() }
    }

    fn encode(self, partition: Partition, last_offset: u64) -> Result<Encoded, ArchiveError> {
        let values = Bytes::from(self.values);
        let mut times: Option<(u64, u64)> = None;
        for place in &self.beacons {
            let at = beacon_at(&values, place)?.received_at_ms;
            times = Some(times.map_or((at, at), |(min, max)| (min.min(at), max.max(at))));
        }
        let (min_received_ms, max_received_ms) = times.unwrap_or((self.first_append_ms, self.last_append_ms));
        let info = FileInfo {
            partition,
            first_offset: self.first_offset.unwrap_or(last_offset),
            last_offset,
            min_received_ms,
            max_received_ms,
            bytes: 0,
        };
        let ledger = self.ledger.to_json().map_err(|error| ArchiveError::Encode(error.to_string()))?;
        let notes = Notes { rules_version: RULES_VERSION.to_string(), ledger };
        let file = |content, places: &[Place]| {
            let mut encoder = Encoder::new(content)?;
            for group in places.chunks(GROUP_ROWS) {
                encoder.group(&values, group)?;
            }
            encoder.finish(&info, &notes)
        };
        let beacons = file(Content::Beacons, &self.beacons)?;
        let dead = if self.dead.is_empty() { None } else { Some(file(Content::Dead, &self.dead)?) };
        Ok(Encoded { info, beacons, dead })
    }
}

/// The beacon in a record's value; `None` if the value is none. What reads the event
/// log must judge records by this function, so that all parts agree on them.
#[must_use]
pub fn read_beacon(value: &[u8]) -> Option<Beacon<'_>> {
    let beacon = Beacon::decode(value).ok()?;
    (SiteCode::parse(beacon.site_code).is_ok() && beacon.received_at_ms <= TIME_MS_MAX).then_some(beacon)
}

fn read_letter(value: &[u8]) -> Option<DeadLetter<'_>> {
    DeadLetter::decode(value).ok().filter(|letter| letter.received_at_ms <= TIME_MS_MAX)
}

/// Where each record stands for one received line, that line.
fn own_receipt(kind: LogKind) -> u64 {
    match kind {
        LogKind::Embedded => 0,
        LogKind::Kafka => 1,
    }
}

/// The site that a record's key names before its NUL; empty if it names none.
fn site_of(key: &[u8]) -> &str {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    str::from_utf8(&key[..end]).ok().filter(|site| SiteCode::parse(site).is_ok()).unwrap_or_default()
}
