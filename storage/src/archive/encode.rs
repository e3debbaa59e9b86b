//! Rows as the bytes of an archive file. The same rows in the same groups always give
//! the same bytes.

use bytes::Bytes;
use fanal_model::{Beacon, DeadLetter};
use parquet::data_type::ByteArray;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;

use super::columns::{Values, beacon_schema, dead_schema, properties, write_group};
use super::{ArchiveError, FileInfo};

/// Rows of one row group: what a reader holds in memory at once.
pub(super) const GROUP_ROWS: usize = 32_768;

/// An encoded record among other values.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) append_time_ms: u64,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What the rows of a file are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Beacons,
    Dead,
}

/// A file that is being made.
pub(super) struct Encoder {
    content: Content,
    writer: SerializedFileWriter<Vec<u8>>,
}

impl Encoder {
    pub(super) fn new(content: Content) -> Result<Self, ArchiveError> {
        let schema = match content {
            Content::Beacons => beacon_schema()?,
            Content::Dead => dead_schema()?,
        };
        Ok(Self { content, writer: SerializedFileWriter::new(Vec::new(), schema, properties())? })
    }

    /// Adds a row group of the records at `places`.
    pub(super) fn group(&mut self, values: &Bytes, places: &[Place]) -> Result<(), ArchiveError> {
        let columns = match self.content {
            Content::Beacons => beacon_columns(values, places)?,
            Content::Dead => dead_columns(values, places)?,
        };
        Ok(write_group(self.writer.next_row_group()?, &columns)?)
    }

    pub(super) fn finish(mut self, info: &FileInfo, notes: &Notes) -> Result<Vec<u8>, ArchiveError> {
        let mut note = |key: &str, value: String| {
            self.writer.append_key_value_metadata(KeyValue::new(format!("fanal.{key}"), value));
        };
        note("partition", info.partition.to_string());
        note("first_offset", info.first_offset.to_string());
        note("last_offset", info.last_offset.to_string());
        note("rules_version", notes.rules_version.clone());
        if self.content == Content::Beacons {
            note("ledger", notes.ledger.clone());
        }
        Ok(self.writer.into_inner()?)
    }
}

/// What the footer says beside the name.
pub(super) struct Notes {
    pub(super) rules_version: String,
    /// As JSON; in files of beacons only.
    pub(super) ledger: String,
}

pub(super) fn beacon_at<'v>(values: &'v Bytes, place: &Place) -> Result<Beacon<'v>, ArchiveError> {
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
        Values::Optional(
            rows.iter().map(|b| b.robot.map(|reason| share(values, reason.as_bytes()))).collect(),
        ),
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
