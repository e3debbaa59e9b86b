use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::log::{Batch, Clock, EventSource, LogKind, MemoryLog, Topic};
use fanal_model::{Beacon, DeadLetter, Source, record_key};

/// A log of `commits` commits, one every ten seconds, with a seal at the end.
fn log(commits: u64) -> MemoryLog {
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

async fn archive_all(log: &MemoryLog, dir: &LocalPath, rotation: Rotation, step: usize) -> Vec<FileInfo> {
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

/// Reads all rows and the footer, and says what it found.
const OTHER_READER: &str = r#"
import glob, json, sys
import duckdb, pyarrow.parquet as pq
root = sys.argv[1]
files = sorted(glob.glob(root + "/beacons/v1/0/*.parquet"))
rows = sum(pq.read_table(f).num_rows for f in files)
notes = [pq.ParquetFile(f).metadata.metadata for f in files]
archived = sum(r["archived"] for n in notes for r in json.loads(n[b"fanal.ledger"])["rows"])
first = int(notes[0][b"fanal.first_offset"])
table = "read_parquet('" + root + "/beacons/v1/*/*.parquet')"
duck = duckdb.sql("SELECT count(*), min(log_offset), max(epoch_ms(received_at_ms)), count(DISTINCT line), "
                  "string_agg(DISTINCT source, ',' ORDER BY source) FROM " + table).fetchall()[0]
dead = duckdb.sql("SELECT count(*), any_value(reason) FROM read_parquet('" + root + "/dead/v1/*/*.parquet')").fetchall()[0]
print(rows, archived, first, *duck, *dead)
"#;

#[tokio::test]
async fn other_readers_read_the_archive() {
    let python = LocalPath::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/venv-parquet/bin/python");
    if !python.exists() {
        eprintln!("not run: {} needs pyarrow and duckdb from PyPI", python.display());
        return;
    }
    let (log, dir) = (log(20), tempfile::tempdir().unwrap());
    archive_all(&log, dir.path(), Rotation::default(), 1 << 20).await;
    let output =
        std::process::Command::new(python).args(["-c", OTHER_READER]).arg(dir.path()).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last_ms = 1_700_000_000_000_u64 + 190_000;
    assert_eq!(
        said.trim(),
        format!("60 60 0 60 0 {last_ms} 60 http,nginx-log 20 missing_visitor"),
        "{failed}"
    );
}
