use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::log::{Batch, Chunk, Clock, EventSource, Family, LogKind, MemoryLog, Topic};
use fanal_model::{Beacon, DeadLetter, Source, record_key};

/// A log of `commits` commits, one every ten seconds, with a seal at the end.
pub(super) fn log(commits: u64) -> MemoryLog {
    let ticks = AtomicU64::new(0);
    let clock: Clock = Arc::new(move || 1_700_000_000_000 + 10_000 * ticks.fetch_add(1, Ordering::Relaxed));
    let log = MemoryLog::new(clock);
    for commit in 0..commits {
        let mut batch = Batch::new();
        let received_at_ms = 1_700_000_000_000 + commit * 10_000;
        for number in 0..3_u32 {
            let line = format!("eventType=activity&nonce={commit:08}{number:08}&x=\u{e9}");
            let beacon = Beacon {
                received_at_ms,
                site_code: if number == 0 { "other" } else { "shop" },
                visitor_code: "visitor",
                mapping_value: "",
                client_address: "203.0.113.0",
                user_agent: b"agent \xff",
                referer: b"https://x/",
                source: if number == 2 { Source::NginxLog } else { Source::Http },
                node: "node-1",
                line: line.as_bytes(),
                line_number: number,
                visitor_lines: 3,
                sdk_name: "PYTHON",
                sdk_version: "3.22.2",
                robot: [None, Some(""), Some("declared")][number as usize],
            };
            let mut key = Vec::new();
            record_key(&mut key, beacon.site_code, beacon.visitor());
            batch.push(Topic::Beacons, &key, |out| beacon.encode(out)).unwrap();
        }
        let letter = DeadLetter {
            received_at_ms,
            site_code: "shop",
            reason: "missing_visitor",
            rules_version: 1,
            source: Source::Http,
            node: "node-1",
            bytes: b"bad\0line",
        };
        batch.push(Topic::Dead, b"shop", |out| letter.encode(out)).unwrap();
        batch.receipt(received_at_ms - received_at_ms % 60_000, "shop", 3, 2, 1);
        batch.receipt(received_at_ms - received_at_ms % 60_000, "other", 1, 1, 0);
        log.append_now(&batch).unwrap();
    }
    log.seal().unwrap();
    log
}

pub(super) async fn archive_all(
    log: &MemoryLog,
    dir: &LocalPath,
    rotation: Rotation,
    step: usize,
) -> Vec<FileInfo> {
    let archive = Archive::local(dir).unwrap();
    let mut writer =
        ArchiveWriter::resume(archive.clone(), rotation, LogKind::Embedded, Partition::EMBEDDED, 0)
            .await
            .unwrap();
    let mut reader = log.reader(writer.next_offset()).unwrap();
    while let Some(chunk) = reader.try_next(step).unwrap() {
        writer.write(&chunk).await.unwrap();
    }
    assert_eq!(writer.durable_offset(), log.end_offset(), "the seal ends the last file");
    archive.list(Partition::EMBEDDED).await.unwrap()
}

fn contents(dir: &LocalPath) -> Vec<(String, Vec<u8>)> {
    fn walk(dir: &LocalPath, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push((
                    path.file_name().unwrap().to_str().unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                ));
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, &mut found);
    found.sort();
    found
}

#[tokio::test]
async fn what_was_archived_is_read_back_field_by_field() {
    let (log, dir) = (log(20), tempfile::tempdir().unwrap());
    let files = archive_all(&log, dir.path(), Rotation::default(), 1 << 20).await;
    assert!(files.len() > 2, "200 seconds are several files");
    let archive = Archive::local(dir.path()).unwrap();
    let chunk = log.reader(0).unwrap().try_next(usize::MAX).unwrap().unwrap();
    let mut wanted = chunk.records().filter(|r| r.topic == Topic::Beacons);
    let mut letters = chunk.records().filter(|r| r.topic == Topic::Dead);
    let (mut ledger, all) = (Ledger::default(), Filter::default());
    for file in &files {
        let opened = archive.open(file).await.unwrap();
        ledger.add(&opened.ledger().unwrap());
        assert_eq!(opened.footer("fanal.first_offset").unwrap(), file.first_offset.to_string());
        for rows in opened.groups(&all) {
            for row in rows.unwrap().beacons(&all) {
                let record = wanted.next().unwrap();
                assert_eq!((row.log_offset, row.append_time_ms), (record.offset, record.append_time_ms));
                assert_eq!(row.beacon, Beacon::decode(record.value).unwrap());
                assert!((file.min_received_ms..=file.max_received_ms).contains(&row.beacon.received_at_ms));
            }
        }
        let dead = archive.open_dead(file).await.unwrap();
        if let Some(dead) = dead {
            dead.for_each(|row| {
                let record = letters.next().unwrap();
                assert_eq!(
                    (row.log_offset, row.letter),
                    (record.offset, DeadLetter::decode(record.value).unwrap())
                );
            })
            .unwrap();
        }
    }
    assert!(wanted.next().is_none() && letters.next().is_none());
    let shop = ledger.counts.iter().filter(|(key, _)| key.site == "shop").map(|(_, counts)| counts);
    let sums = shop.fold((0, 0, 0, 0), |sum, c| {
        (sum.0 + c.received, sum.1 + c.accepted, sum.2 + c.rejected["missing_visitor"], sum.3 + c.archived)
    });
    assert_eq!(sums, (60, 40, 20, 40));
}

#[tokio::test]
async fn files_are_the_same_however_the_log_is_read() {
    let log = log(30);
    for rotation in [
        Rotation::default(),
        Rotation { records_max: 7, ..Rotation::default() },
        Rotation { bytes_max: 900, ..Rotation::default() },
    ] {
        let first = tempfile::tempdir().unwrap();
        let files = archive_all(&log, first.path(), rotation, 1).await;
        let second = tempfile::tempdir().unwrap();
        // Restarted after every chunk: only the names tell where to go on.
        loop {
            let archive = Archive::local(second.path()).unwrap();
            let mut writer =
                ArchiveWriter::resume(archive, rotation, LogKind::Embedded, Partition::EMBEDDED, 0)
                    .await
                    .unwrap();
            if writer.next_offset() == log.end_offset() {
                break;
            }
            let mut reader = log.reader(writer.next_offset()).unwrap();
            while let Some(chunk) = reader.try_next(1500).unwrap() {
                if !writer.write(&chunk).await.unwrap().is_empty() {
                    break;
                }
            }
        }
        assert!(files.len() > 3);
        assert_eq!(contents(first.path()), contents(second.path()), "{rotation:?}");
    }
}

#[tokio::test]
async fn a_crash_before_the_rename_leaves_no_trace() {
    let (log, dir) = (log(20), tempfile::tempdir().unwrap());
    let files = archive_all(&log, dir.path(), Rotation::default(), 1 << 20).await;
    let before = contents(dir.path());
    let last = dir.path().join(files.last().unwrap().path());
    std::fs::rename(&last, format!("{}#7", last.display())).unwrap();
    // Its dead letters were put before: they are left as they are.
    assert_eq!(
        Archive::local(dir.path()).unwrap().list(Partition::EMBEDDED).await.unwrap().len(),
        files.len() - 1
    );
    archive_all(&log, dir.path(), Rotation::default(), 1 << 20).await;
    assert_eq!(contents(dir.path()), before);
}

#[tokio::test]
async fn a_hole_or_an_overlap_is_named() {
    let (log, dir) = (log(20), tempfile::tempdir().unwrap());
    let files = archive_all(&log, dir.path(), Rotation::default(), 1 << 20).await;
    let archive = Archive::local(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join(files[1].path())).unwrap();
    let error = archive.list(Partition::EMBEDDED).await.unwrap_err().to_string();
    assert!(error.contains("a hole") && error.contains(&files[2].path()), "{error}");
    let wide = FileInfo { last_offset: files[2].first_offset + 1, ..files[1].clone() };
    std::fs::write(dir.path().join(wide.path()), b"").unwrap();
    let error = archive.list(Partition::EMBEDDED).await.unwrap_err().to_string();
    assert!(error.contains("an overlap"), "{error}");
}

#[tokio::test]
async fn only_wanted_beacons_are_read() {
    let (log, dir) = (log(20), tempfile::tempdir().unwrap());
    let files = archive_all(
        &log,
        dir.path(),
        Rotation { records_max: 1000, bucket_ms: 1 << 40, ..Rotation::default() },
        1 << 20,
    )
    .await;
    let archive = Archive::local(dir.path()).unwrap();
    let from = 1_700_000_000_000 + 50_000;
    let filter = Filter { site_code: Some("other".to_owned()), received_ms: Some((from, from + 30_000)) };
    let mut seen = Vec::new();
    for file in files.iter().filter(|f| f.overlaps(from, from + 30_000)) {
        let opened = archive.open(file).await.unwrap();
        for rows in opened.groups(&filter) {
            seen.extend(rows.unwrap().beacons(&filter).map(|r| r.beacon.received_at_ms));
        }
    }
    assert_eq!(seen, [from, from + 10_000, from + 20_000]);
}

/// The rows of a partition's dead letters: offset, site, reason, bytes.
async fn dead_rows(archive: &Archive, partition: Partition) -> Vec<(u64, String, String, Vec<u8>)> {
    let mut rows = Vec::new();
    for file in archive.list(partition).await.unwrap() {
        let Some(dead) = archive.open_dead(&file).await.unwrap() else { continue };
        dead.for_each(|row| {
            let letter = &row.letter;
            assert_eq!((letter.received_at_ms, letter.source), (row.append_time_ms, Source::Unspecified));
            let (site, reason) = (letter.site_code.to_owned(), letter.reason.to_owned());
            rows.push((row.log_offset, site, reason, letter.bytes.to_vec()));
        })
        .unwrap();
    }
    rows
}

fn beacon(site_code: &str, received_at_ms: u64) -> Vec<u8> {
    let mut value = Vec::new();
    Beacon { site_code, received_at_ms, visitor_code: "v", line: b"x", ..Beacon::default() }
        .encode(&mut value);
    value
}

const MINUTE: u64 = 1_700_000_040_000;

#[tokio::test]
async fn what_is_no_beacon_becomes_a_dead_letter_and_stops_nothing() {
    let partition = Partition::new(Family::Beacons, 3).unwrap();
    for kind in [LogKind::Kafka, LogKind::Embedded] {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::local(dir.path()).unwrap();
        let mut writer =
            ArchiveWriter::resume(archive.clone(), Rotation::default(), kind, partition, 0).await.unwrap();
        let mut chunk = Chunk::of(partition, 0);
        let records = [
            (Topic::Beacons, &b"shop\0v"[..], beacon("shop", MINUTE)),
            (Topic::Beacons, b"shop\0v", b"\xff not ours".to_vec()),
            (Topic::Foreign, b"shop\0v", beacon("shop", MINUTE)),
            (Topic::Beacons, b"no site\0v", beacon("no site", MINUTE)),
            (Topic::Beacons, b"\xff", beacon("shop", u64::MAX)),
            (Topic::Dead, b"shop", b"\xff".to_vec()),
            (Topic::Beacons, b"shop", Vec::new()),
            (Topic::Beacons, b"shop\0v", beacon("shop", MINUTE + 1)),
            (Topic::Seal, b"", Vec::new()),
        ];
        for (offset, (topic, key, value)) in (0..).zip(&records) {
            chunk.push(offset, *topic, MINUTE + 5, key, value);
        }
        let files = writer.write(&chunk).await.unwrap();
        assert_eq!(files.len(), 1);
        assert!(files[0].path().starts_with("beacons/v1/3/"), "{}", files[0].path());
        let of = |offset: usize, site: &str, reason: &str| {
            (offset as u64, site.to_owned(), reason.to_owned(), records[offset].2.clone())
        };
        let (unreadable, unknown) = ("unreadable_record", "unknown_version");
        assert_eq!(
            dead_rows(&archive, partition).await,
            [
                of(1, "shop", unreadable),
                of(2, "shop", unknown),
                of(3, "", unreadable),
                of(4, "", unreadable),
                of(5, "shop", unreadable),
                of(6, "shop", unreadable)
            ]
        );
        let opened = archive.open(&files[0]).await.unwrap();
        assert_eq!(opened.row_count(), 2);
        let sums = opened.ledger().unwrap().counts.values().fold((0, 0, 0), |sum, counts| {
            (sum.0 + counts.received, sum.1 + counts.accepted, sum.2 + counts.rejected.values().sum::<u64>())
        });
        // In the embedded log receipts say what was received; there are none here.
        assert_eq!(sums, if kind == LogKind::Kafka { (8, 2, 6) } else { (0, 2, 6) });
    }
}

#[tokio::test]
async fn gaps_between_kafka_records_leave_no_hole_between_files() {
    let partition = Partition::new(Family::Overflow, 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::local(dir.path()).unwrap();
    let resume = || ArchiveWriter::resume(archive.clone(), Rotation::default(), LogKind::Kafka, partition, 7);
    let mut writer = resume().await.unwrap();
    let mut chunk = Chunk::of(partition, 7);
    for (offset, minute) in [(9, 0), (12, 0), (20, 1), (21, 2), (30, 3)] {
        chunk.push(offset, Topic::Beacons, MINUTE + minute * 60_000, b"shop\0v", &beacon("shop", MINUTE));
    }
    chunk.skip_to(40);
    writer.write(&chunk).await.unwrap();
    assert_eq!((writer.durable_offset(), writer.next_offset()), (22, 31));
    let ranges: Vec<_> = archive.list(partition).await.unwrap();
    let ranges: Vec<_> = ranges.iter().map(|file| (file.first_offset, file.last_offset)).collect();
    assert_eq!(ranges, [(7, 12), (13, 20), (21, 21)]);
    let mut resumed = resume().await.unwrap();
    assert_eq!(resumed.next_offset(), 22);
    let mut rest = Chunk::of(partition, 22);
    rest.push(30, Topic::Beacons, MINUTE + 3 * 60_000, b"shop\0v", &beacon("shop", MINUTE));
    rest.push(32, Topic::Seal, MINUTE + 3 * 60_000, b"", b"");
    let last = resumed.write(&rest).await.unwrap();
    assert_eq!((last[0].first_offset, last[0].last_offset), (22, 32));
    let dead = Partition::new(Family::Dead, 0).unwrap();
    let mut writer =
        ArchiveWriter::resume(archive.clone(), Rotation::default(), LogKind::Kafka, dead, 0).await.unwrap();
    let mut letters = Chunk::of(dead, 0);
    letters.push(0, Topic::Dead, MINUTE, b"shop", b"");
    letters.push(1, Topic::Seal, MINUTE, b"", b"");
    writer.write(&letters).await.unwrap();
    assert_eq!(archive.partitions().await.unwrap(), [dead, partition]);
}
