//! Reading archive files, one row group in memory at a time.

use bytes::Bytes;
use fanal_model::{Beacon, DeadLetter, Source};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::statistics::Statistics;

use super::columns::ColumnsReader;
use super::{ArchiveError, Ledger};

/// Position of `received_at_ms` among the columns.
const RECEIVED_COLUMN: usize = 2;

/// Which beacons are wanted. The default wants all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub site_code: Option<String>,
    /// Event times from the first up to, not including, the second.
    pub received_ms: Option<(u64, u64)>,
}

impl Filter {
    fn wants(&self, beacon: &Beacon<'_>) -> bool {
        let in_time = |(from, to): (u64, u64)| (from..to).contains(&beacon.received_at_ms);
        self.site_code.as_deref().is_none_or(|site| site == beacon.site_code)
            && self.received_ms.is_none_or(in_time)
    }
}

/// An archived beacon with its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivedBeacon<'a> {
    pub log_offset: u64,
    pub append_time_ms: u64,
    pub beacon: Beacon<'a>,
}

/// A file of beacons.
pub struct ArchiveFile {
    path: String,
    reader: SerializedFileReader<Bytes>,
}

impl ArchiveFile {
    pub(super) fn new(path: String, bytes: Bytes) -> Result<Self, ArchiveError> {
        let reader = SerializedFileReader::new(bytes).map_err(|error| unreadable(&path, &error))?;
        Ok(Self { path, reader })
    }

    /// The counts in the footer.
    pub fn ledger(&self) -> Result<Ledger, ArchiveError> {
        let detail = |detail: String| ArchiveError::Unreadable { path: self.path.clone(), detail };
        let json = self.footer("fanal.ledger").ok_or_else(|| detail("it has no ledger".to_owned()))?;
        Ledger::from_json(json).map_err(detail)
    }

    /// A value of the footer, such as `fanal.rules_version`.
    #[must_use]
    pub fn footer(&self, key: &str) -> Option<&str> {
        let notes = self.reader.metadata().file_metadata().key_value_metadata()?;
        notes.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// Rows of all row groups.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        u64::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// The row groups that can hold wanted beacons, read one by one.
    pub fn groups<'f>(&'f self, filter: &'f Filter) -> impl Iterator<Item = Result<Rows, ArchiveError>> + 'f {
        (0..self.reader.num_row_groups())
            .filter(|group| self.may_hold(*group, filter))
            .map(|group| self.group(group).map_err(|error| unreadable(&self.path, &error)))
    }

    fn may_hold(&self, group: usize, filter: &Filter) -> bool {
        let Some((from, to)) = filter.received_ms else { return true };
        match self.reader.metadata().row_group(group).column(RECEIVED_COLUMN).statistics() {
            Some(Statistics::Int64(times)) => match (times.min_opt(), times.max_opt()) {
                (Some(min), Some(max)) => min.cast_unsigned() < to && max.cast_unsigned() >= from,
                _ => true,
            },
            _ => true,
        }
    }

    fn group(&self, group: usize) -> Result<Rows, ParquetError> {
        let group = self.reader.get_row_group(group)?;
        let mut columns = ColumnsReader::new(&*group)?;
        Ok(Rows {
            count: columns.rows(),
            log_offset: columns.u64()?,
            append_time_ms: columns.u64()?,
            received_at_ms: columns.u64()?,
            site_code: columns.text()?,
            visitor_code: columns.text()?,
            mapping_value: columns.text()?,
            client_address: columns.text()?,
            user_agent: columns.bytes()?,
            referer: columns.bytes()?,
            source: columns.text()?,
            node: columns.text()?,
            line: columns.bytes()?,
            line_number: columns.u32()?,
            visitor_lines: columns.u32()?,
            sdk_name: columns.text()?,
            sdk_version: columns.text()?,
            robot: columns.optional_text()?,
        })
    }
}

/// One row group in memory.
pub struct Rows {
    count: usize,
    log_offset: Vec<u64>,
    append_time_ms: Vec<u64>,
    received_at_ms: Vec<u64>,
    site_code: Vec<ByteArray>,
    visitor_code: Vec<ByteArray>,
    mapping_value: Vec<ByteArray>,
    client_address: Vec<ByteArray>,
    user_agent: Vec<ByteArray>,
    referer: Vec<ByteArray>,
    source: Vec<ByteArray>,
    node: Vec<ByteArray>,
    line: Vec<ByteArray>,
    line_number: Vec<u32>,
    visitor_lines: Vec<u32>,
    sdk_name: Vec<ByteArray>,
    sdk_version: Vec<ByteArray>,
    robot: Vec<Option<ByteArray>>,
}

impl Rows {
    /// The wanted beacons in the order of the log.
    pub fn beacons<'r>(&'r self, filter: &'r Filter) -> impl Iterator<Item = ArchivedBeacon<'r>> + 'r {
        (0..self.count).map(|row| self.at(row)).filter(|row| filter.wants(&row.beacon))
    }

    fn at(&self, row: usize) -> ArchivedBeacon<'_> {
        ArchivedBeacon {
            log_offset: self.log_offset[row],
            append_time_ms: self.append_time_ms[row],
            beacon: Beacon {
                received_at_ms: self.received_at_ms[row],
                site_code: text(&self.site_code[row]),
                visitor_code: text(&self.visitor_code[row]),
                mapping_value: text(&self.mapping_value[row]),
                client_address: text(&self.client_address[row]),
                user_agent: self.user_agent[row].data(),
                referer: self.referer[row].data(),
                source: source(&self.source[row]),
                node: text(&self.node[row]),
                line: self.line[row].data(),
                line_number: self.line_number[row],
                visitor_lines: self.visitor_lines[row],
                sdk_name: text(&self.sdk_name[row]),
                sdk_version: text(&self.sdk_version[row]),
                robot: self.robot[row].as_ref().map(text),
            },
        }
    }
}

/// An archived dead letter with its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivedLetter<'a> {
    pub log_offset: u64,
    pub append_time_ms: u64,
    pub letter: DeadLetter<'a>,
}

/// A file of dead letters.
pub struct DeadLetters {
    path: String,
    reader: SerializedFileReader<Bytes>,
}

impl DeadLetters {
    pub(super) fn new(path: String, bytes: Bytes) -> Result<Self, ArchiveError> {
        let reader = SerializedFileReader::new(bytes).map_err(|error| unreadable(&path, &error))?;
        Ok(Self { path, reader })
    }

    /// Rows of all row groups.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        u64::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Hands each dead letter to `each`, in the order of the log.
    pub fn for_each(&self, mut each: impl FnMut(ArchivedLetter<'_>)) -> Result<(), ArchiveError> {
        (0..self.reader.num_row_groups())
            .try_for_each(|group| self.group(group, &mut each))
            .map_err(|error| unreadable(&self.path, &error))
    }

    fn group(&self, group: usize, each: &mut impl FnMut(ArchivedLetter<'_>)) -> Result<(), ParquetError> {
        let group = self.reader.get_row_group(group)?;
        let mut columns = ColumnsReader::new(&*group)?;
        let (offsets, append_times, received) = (columns.u64()?, columns.u64()?, columns.u64()?);
        let (sites, reasons, rules) = (columns.text()?, columns.text()?, columns.u32()?);
        let (sources, nodes, bytes) = (columns.text()?, columns.text()?, columns.bytes()?);
        for row in 0..columns.rows() {
            each(ArchivedLetter {
                log_offset: offsets[row],
                append_time_ms: append_times[row],
                letter: DeadLetter {
                    received_at_ms: received[row],
                    site_code: text(&sites[row]),
                    reason: text(&reasons[row]),
                    rules_version: rules[row],
                    source: source(&sources[row]),
                    node: text(&nodes[row]),
                    bytes: bytes[row].data(),
                },
            });
        }
        Ok(())
    }
}

/// Columns of text were checked when they were read.
fn text(value: &ByteArray) -> &str {
    value.as_utf8().unwrap_or_default()
}

fn source(value: &ByteArray) -> Source {
    let named = |source: &Source| source.name().as_bytes() == value.data();
    [Source::Http, Source::NginxLog].into_iter().find(named).unwrap_or_default()
}

fn unreadable(path: &str, error: &ParquetError) -> ArchiveError {
    ArchiveError::Unreadable { path: path.to_owned(), detail: error.to_string() }
}
