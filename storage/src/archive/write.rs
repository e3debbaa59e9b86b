//! Gathers records of the log and writes a file at each border.

use bytes::Bytes;
use fanal_model::{Beacon, DeadLetter, RULES_VERSION, Receipt};
use parquet::data_type::ByteArray;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;

use super::columns::{Values, beacon_schema, dead_schema, properties, write_group};
use super::rotation::Fill;
use super::{Archive, ArchiveError, FileInfo, Ledger, Rotation};
use crate::log::{Chunk, LogKind, Partition, Record, Topic};

/// Rows of one row group: what a reader holds in memory at once.
const GROUP_ROWS: usize = 32_768;

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
    /// Values of beacons and dead letters.
    values: Vec<u8>,
    beacons: Vec<Place>,
    dead: Vec<Place>,
    ledger: Ledger,
}

/// A value in `Gathered::values`.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    append_time_ms: u64,
    start: usize,
    end: usize,
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
            if self.gathered.add(&self.rotation, self.kind, from_offset, &record)? {
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
        // The beacons come last: their name is what says that the range is done.
        if let Some(dead) = dead {
            self.archive.put(&info.dead_path(), dead).await?;
        }
        info.bytes = self.archive.put(&info.path(), beacons).await?;
        Ok(info)
    }
}

struct Encoded {
    info: FileInfo,
    beacons: Vec<u8>,
    dead: Option<Vec<u8>>,
}

impl Gathered {
    /// Adds `record`; true if the file ends after it.
    fn add(&mut self, rotation: &Rotation, record: &Record<'_>) -> Result<bool, ArchiveError> {
        let wrong = |source| ArchiveError::Record { offset: record.offset, source };
        match record.topic {
            Topic::Beacons => {
                let beacon = Beacon::decode(record.value).map_err(wrong)?;
                let counts = self.ledger.at(beacon.received_at_ms, beacon.site_code);
                counts.accepted += 1;
                counts.archived += 1;
                let place = self.keep(record);
                self.beacons.push(place);
            }
            Topic::Dead => {
                let letter = DeadLetter::decode(record.value).map_err(wrong)?;
                let counts = self.ledger.at(letter.received_at_ms, letter.site_code);
                *counts.rejected.entry(letter.reason.to_owned()).or_default() += 1;
                let place = self.keep(record);
                self.dead.push(place);
            }
            Topic::Receipts => {
                let receipt = Receipt::decode(record.value).map_err(wrong)?;
                self.ledger.at(receipt.minute_ms, receipt.site_code).received += receipt.received;
            }
            Topic::Lost => self.ledger.lost_records += 1,
            Topic::Positions | Topic::Seal => {}
        }
        if self.first_offset.is_none() {
            self.first_offset = Some(record.offset);
            self.first_append_ms = record.append_time_ms;
        }
        self.last_append_ms = record.append_time_ms;
        Ok(self.fill.add(rotation, record))
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
        let beacons = encode_file(&info, Some(&ledger), beacon_schema()?, &self.beacons, |places| {
            beacon_columns(&values, places)
        })?;
        let dead = match &self.dead[..] {
            [] => None,
            dead => {
                Some(encode_file(&info, None, dead_schema()?, dead, |places| dead_columns(&values, places))?)
            }
        };
        Ok(Encoded { info, beacons, dead })
    }
}

fn encode_file(
    info: &FileInfo,
    ledger: Option<&str>,
    schema: parquet::schema::types::TypePtr,
    places: &[Place],
    columns: impl Fn(&[Place]) -> Result<Vec<Values>, ArchiveError>,
) -> Result<Vec<u8>, ArchiveError> {
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties())?;
    let mut note = |key: &str, value: String| {
        writer.append_key_value_metadata(KeyValue::new(format!("fanal.{key}"), value));
    };
    note("partition", info.partition.to_string());
    note("first_offset", info.first_offset.to_string());
    note("last_offset", info.last_offset.to_string());
    note("rules_version", RULES_VERSION.to_string());
    if let Some(ledger) = ledger {
        note("ledger", ledger.to_owned());
    }
    for group in places.chunks(GROUP_ROWS) {
        write_group(writer.next_row_group()?, &columns(group)?)?;
    }
    Ok(writer.into_inner()?)
}

fn beacon_at<'v>(values: &'v Bytes, place: &Place) -> Result<Beacon<'v>, ArchiveError> {
    Beacon::decode(&values[place.start..place.end])
        .map_err(|source| ArchiveError::Record { offset: place.offset, source })
}

/// The values of `places` in the order of the schema; bytes are shared, not copied.
fn beacon_columns(values: &Bytes, places: &[Place]) -> Result<Vec<Values>, ArchiveError> {
    let rows = places.iter().map(|place| beacon_at(values, place)).collect::<Result<Vec<_>, _>>()?;
    let column = |of: for<'b> fn(&Beacon<'b>) -> &'b [u8]| {
        Values::Bytes(rows.iter().map(|row| share(values, of(row))).collect())
    };
    let times = rows.iter().map(|row| row.received_at_ms.cast_signed()).collect();
    Ok(vec![
        offsets(places),
        append_times(places),
        Values::U64(times),
        column(|b| b.site_code.as_bytes()),
        column(|b| b.visitor_code.as_bytes()),
        column(|b| b.mapping_value.as_bytes()),
        column(|b| b.client_address.as_bytes()),
        column(|b| b.user_agent),
        column(|b| b.referer),
        column(|b| b.source.name().as_bytes()),
        column(|b| b.node.as_bytes()),
        column(|b| b.line),
        Values::U32(rows.iter().map(|row| row.line_number.cast_signed()).collect()),
        Values::U32(rows.iter().map(|row| row.visitor_lines.cast_signed()).collect()),
        column(|b| b.sdk_name.as_bytes()),
        column(|b| b.sdk_version.as_bytes()),
    ])
}

fn dead_columns(values: &Bytes, places: &[Place]) -> Result<Vec<Values>, ArchiveError> {
    let decode = |place: &Place| {
        DeadLetter::decode(&values[place.start..place.end])
            .map_err(|source| ArchiveError::Record { offset: place.offset, source })
    };
    let rows = places.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let column = |of: for<'b> fn(&DeadLetter<'b>) -> &'b [u8]| {
        Values::Bytes(rows.iter().map(|row| share(values, of(row))).collect())
    };
    let times = rows.iter().map(|row| row.received_at_ms.cast_signed()).collect();
    Ok(vec![
        offsets(places),
        append_times(places),
        Values::U64(times),
        column(|d| d.site_code.as_bytes()),
        column(|d| d.reason.as_bytes()),
        Values::U32(rows.iter().map(|row| row.rules_version.cast_signed()).collect()),
        column(|d| d.source.name().as_bytes()),
        column(|d| d.node.as_bytes()),
        column(|d| d.bytes),
    ])
}

fn offsets(places: &[Place]) -> Values {
    Values::U64(places.iter().map(|place| place.offset.cast_signed()).collect())
}

fn append_times(places: &[Place]) -> Values {
    Values::U64(places.iter().map(|place| place.append_time_ms.cast_signed()).collect())
}

/// `part` without a copy if it lies in `values`; constants such as a source's name do not.
fn share(values: &Bytes, part: &[u8]) -> ByteArray {
    let inside = values.as_ptr_range().contains(&part.as_ptr());
    ByteArray::from(if inside { values.slice_ref(part) } else { Bytes::copy_from_slice(part) })
}
