//! Files of earlier versions, which have fewer columns.

use std::sync::Arc;

use bytes::Bytes;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::columns::{ColumnsReader, Values, properties, write_group};
use super::tests::{archive_all, log};
use super::*;

/// As it was before `robot` was added.
const BEFORE_ROBOT: &str = "message beacons {
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
}";

/// The file as a version that knew no robots would have written it.
fn without_robot(file: Vec<u8>) -> Vec<u8> {
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let schema = Arc::new(parse_message_type(BEFORE_ROBOT).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties()).unwrap();
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number).unwrap();
        let mut read = ColumnsReader::new(&*group).unwrap();
        let columns: Vec<Values> = (0..16)
            .map(|column| match column {
                0..3 => Values::U64(read.u64().unwrap().into_iter().map(u64::cast_signed).collect()),
                12 | 13 => Values::U32(read.u32().unwrap().into_iter().map(u32::cast_signed).collect()),
                _ => Values::Bytes(read.bytes().unwrap()),
            })
            .collect();
        write_group(writer.next_row_group().unwrap(), &columns).unwrap();
    }
    for note in reader.metadata().file_metadata().key_value_metadata().unwrap() {
        writer.append_key_value_metadata(note.clone());
    }
    writer.into_inner().unwrap()
}

/// Offset, line and robot of every beacon.
async fn rows(archive: &Archive) -> Vec<(u64, Vec<u8>, Option<String>)> {
    let (mut rows, all) = (Vec::new(), Filter::default());
    for file in archive.list(Partition::EMBEDDED).await.unwrap() {
        for group in archive.open(&file).await.unwrap().groups(&all) {
            for row in group.unwrap().beacons(&all) {
                let robot = row.beacon.robot.map(str::to_owned);
                rows.push((row.log_offset, row.beacon.line.to_vec(), robot));
            }
        }
    }
    rows
}

#[tokio::test]
async fn files_from_before_a_column_was_added_are_read_and_merged_and_say_nothing_in_it() {
    let (log, dir) = (log(20), tempfile::tempdir().unwrap());
    let files = archive_all(&log, dir.path(), Rotation::default(), 1 << 20).await;
    let archive = Archive::local(dir.path()).unwrap();
    let written = rows(&archive).await;
    let earlier = &files[..2];
    for file in earlier {
        let path = dir.path().join(file.path());
        let bytes = without_robot(std::fs::read(&path).unwrap());
        std::fs::write(&path, bytes).unwrap();
    }
    let last_earlier = earlier[1].last_offset;
    let wanted: Vec<_> = written
        .into_iter()
        .map(|(offset, line, robot)| (offset, line, robot.filter(|_| offset > last_earlier)))
        .collect();
    let count = |robot: Option<&str>| wanted.iter().filter(|row| row.2.as_deref() == robot).count();
    assert!(count(None) > count(Some("")), "earlier files and a third of the others");
    assert!(count(Some("")) > 0 && count(Some("")) == count(Some("declared")));
    assert_eq!(rows(&archive).await, wanted);

    let policy = Compaction { target_bytes: 1 << 30, files_min: 2, after_day_ms: 0 };
    let compacted =
        archive.compact(Partition::EMBEDDED, &policy, u64::MAX / 2, u64::MAX, || true).await.unwrap();
    assert_eq!((compacted.merged.len(), compacted.removed), (1, files.len() as u64));
    assert_eq!(rows(&archive).await, wanted);
}
