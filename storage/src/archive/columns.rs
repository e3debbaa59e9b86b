//! The columns of the archive, and how a run of values becomes one of them.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::RowGroupReader;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

/// Columns of a file of beacons; the order is that of `write::beacon_columns` and
/// of the readers. Only ever add at the end.
const BEACONS: &str = "message beacons {
    required int64 log_offset (INTEGER(64,false));
    required int64 append_time_ms (TIMESTAMP(MILLIS,true));
    required int64 received_at_ms (TIMESTAMP(MILLIS,true));
    required binary site_code (STRING);
    required binary visitor_code (STRING);
    required binary mapping_value (STRING);
    required binary client_address (STRING);
    required binary user_agent;
    required binary referer;
    required binary source (STRING);
    required binary node (STRING);
    required binary line;
    required int32 line_number (INTEGER(32,false));
    required int32 visitor_lines (INTEGER(32,false));
    required binary sdk_name (STRING);
    required binary sdk_version (STRING);
    optional binary robot (STRING);
}";

const DEAD: &str = "message dead_letters {
    required int64 log_offset (INTEGER(64,false));
    required int64 append_time_ms (TIMESTAMP(MILLIS,true));
    required int64 received_at_ms (TIMESTAMP(MILLIS,true));
    required binary site_code (STRING);
    required binary reason (STRING);
    required int32 rules_version (INTEGER(32,false));
    required binary source (STRING);
    required binary node (STRING);
    required binary bytes;
}";

pub(super) fn beacon_schema() -> Result<TypePtr, ParquetError> {
    parse_message_type(BEACONS).map(Arc::new)
}

pub(super) fn dead_schema() -> Result<TypePtr, ParquetError> {
    parse_message_type(DEAD).map(Arc::new)
}

pub(super) fn properties() -> WriterPropertiesPtr {
    Arc::new(
        WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            // Almost every value of these is new; a dictionary would be built in vain.
            .set_column_dictionary_enabled(ColumnPath::from("line"), false)
            .set_column_dictionary_enabled(ColumnPath::from("bytes"), false)
            .set_column_dictionary_enabled(ColumnPath::from("log_offset"), false)
            .set_created_by("fanal".to_owned())
            .build(),
    )
}

/// The values of one column.
pub(super) enum Values {
    /// Unsigned 64 bits, stored with the same bits.
    U64(Vec<i64>),
    U32(Vec<i32>),
    Bytes(Vec<ByteArray>),
    /// A column whose values may be absent.
    Optional(Vec<Option<ByteArray>>),
}

/// Writes one row group.
pub(super) fn write_group<W: Write + Send>(
    mut group: SerializedRowGroupWriter<'_, W>,
    columns: &[Values],
) -> Result<(), ParquetError> {
    for values in columns {
        let missing = || ParquetError::General("there are more values than columns".to_owned());
        let mut column = group.next_column()?.ok_or_else(missing)?;
        match values {
            Values::U64(values) => column.typed::<Int64Type>().write_batch(values, None, None)?,
            Values::U32(values) => column.typed::<Int32Type>().write_batch(values, None, None)?,
            Values::Bytes(values) => column.typed::<ByteArrayType>().write_batch(values, None, None)?,
            Values::Optional(values) => {
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let present: Vec<ByteArray> = values.iter().flatten().cloned().collect();
                column.typed::<ByteArrayType>().write_batch(&present, Some(&levels), None)?
            }
        };
        column.close()?;
    }
    group.close().map(|_| ())
}

/// Reads the columns of a row group one after the other.
pub(super) struct ColumnsReader<'g> {
    group: &'g dyn RowGroupReader,
    next: usize,
    rows: usize,
}

impl<'g> ColumnsReader<'g> {
    pub(super) fn new(group: &'g dyn RowGroupReader) -> Result<Self, ParquetError> {
        let rows = usize::try_from(group.metadata().num_rows())
            .map_err(|_| ParquetError::General("a row group has an impossible number of rows".to_owned()))?;
        Ok(Self { group, next: 0, rows })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn column(&mut self) -> Result<ColumnReader, ParquetError> {
        self.next += 1;
        self.group.get_column_reader(self.next - 1)
    }

    pub(super) fn u64(&mut self) -> Result<Vec<u64>, ParquetError> {
        let ColumnReader::Int64ColumnReader(mut reader) = self.column()? else { return Err(wrong_type()) };
        let mut values = Vec::with_capacity(self.rows);
        reader.read_records(self.rows, None, None, &mut values)?;
        self.complete(values.len())?;
        Ok(values.into_iter().map(i64::cast_unsigned).collect())
    }

    pub(super) fn u32(&mut self) -> Result<Vec<u32>, ParquetError> {
        let ColumnReader::Int32ColumnReader(mut reader) = self.column()? else { return Err(wrong_type()) };
        let mut values = Vec::with_capacity(self.rows);
        reader.read_records(self.rows, None, None, &mut values)?;
        self.complete(values.len())?;
        Ok(values.into_iter().map(i32::cast_unsigned).collect())
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<ByteArray>, ParquetError> {
        let ColumnReader::ByteArrayColumnReader(mut reader) = self.column()? else {
            return Err(wrong_type());
        };
        let mut values = Vec::with_capacity(self.rows);
        reader.read_records(self.rows, None, None, &mut values)?;
        self.complete(values.len())?;
        Ok(values)
    }

    /// As `bytes`; every value is checked to be UTF-8.
    pub(super) fn text(&mut self) -> Result<Vec<ByteArray>, ParquetError> {
        let values = self.bytes()?;
        for value in &values {
            value.as_utf8()?;
        }
        Ok(values)
    }

    /// Text that may be absent; a file from before the column was added has none.
    pub(super) fn optional_text(&mut self) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        if self.next >= self.group.num_columns() {
            self.next += 1;
            return Ok(vec![None; self.rows]);
        }
        let ColumnReader::ByteArrayColumnReader(mut reader) = self.column()? else {
            return Err(wrong_type());
        };
        let (mut levels, mut present) = (Vec::with_capacity(self.rows), Vec::new());
        reader.read_records(self.rows, Some(&mut levels), None, &mut present)?;
        self.complete(levels.len())?;
        for value in &present {
            value.as_utf8()?;
        }
        let mut present = present.into_iter();
        let values: Vec<_> =
            levels.iter().map(|level| if *level > 0 { present.next() } else { None }).collect();
        Ok(values)
    }

    fn complete(&self, found: usize) -> Result<(), ParquetError> {
        if found == self.rows {
            Ok(())
        } else {
            Err(ParquetError::General(format!(
                "column {} has {found} of {} values",
                self.next - 1,
                self.rows
            )))
        }
    }
}

fn wrong_type() -> ParquetError {
    ParquetError::General("a column has another type than in version 1 of the archive".to_owned())
}
