use super::*;

/// A log of several segments, closed.
async fn written(dir: &Path, commits: u32) -> Vec<(u64, Topic, String)> {
    let log = Log::open(dir, small()).unwrap();
    for n in 0..commits {
        let mut batch = batch(&[&format!("first-{n}"), &format!("second-{n}"), &format!("third-{n}")]);
        batch.receipt(u64::from(n) * 60_000, "site", 3, 3, 0);
        log.appender().append(batch).await.unwrap();
    }
    read_from(&log, 0).unwrap()
}

#[tokio::test]
async fn a_torn_tail_of_any_length_is_cut_to_the_last_whole_commit() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::default();
    let log = Log::open(dir.path(), config.clone()).unwrap();
    log.appender().append(batch(&["a", "b"])).await.unwrap();
    let file = segment_files(dir.path()).remove(0);
    let whole = std::fs::metadata(&file).unwrap().len();
    log.appender().append(batch(&["c", "d", "e"])).await.unwrap();
    drop(log);
    let bytes = std::fs::read(&file).unwrap();
    for len in 0..=bytes.len() {
        std::fs::write(&file, &bytes[..len]).unwrap();
        let log = Log::open(dir.path(), config.clone()).unwrap();
        let wanted = match len as u64 {
            n if n < whole => 0,
            n if n < bytes.len() as u64 => 2,
            _ => 5,
        };
        assert_eq!(log.end_offset(), wanted, "cut at {len}");
        log.appender().append(batch(&["next"])).await.unwrap();
        let last = read_from(&log, 0).unwrap().pop().unwrap();
        assert_eq!((last.0, &*last.2), (wanted, "next"), "cut at {len}");
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_an_error_that_names_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 4).await;
    let files = segment_files(dir.path());
    assert!(files.len() > 1);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        for at in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut bad = bytes.clone();
                bad[at] ^= bit;
                std::fs::write(file, &bad).unwrap();
                let Err(error) = Log::open(dir.path(), small()) else {
                    panic!("byte {at} of {}", file.display())
                };
                let text = error.to_string();
                assert!(
                    matches!(error, OpenError::Damaged(_)) && text.contains("--repair-log"),
                    "{at}: {text}"
                );
            }
        }
        std::fs::write(file, &bytes).unwrap();
    }
    assert!(Log::open(dir.path(), small()).is_ok());
}

#[tokio::test]
async fn damage_in_a_segment_that_nobody_checked_is_found_by_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let all = written(dir.path(), 20).await;
    let log = Log::open(dir.path(), small()).unwrap();
    log.positions().commit("etl", log.end_offset()).unwrap();
    drop(log);
    let file = segment_files(dir.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    assert_eq!(log.end_offset(), all.len() as u64);
    assert!(matches!(read_from(&log, 0), Err(ReadError::Damaged(_))));
}

#[tokio::test]
async fn a_missing_segment_and_a_lost_end_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20).await;
    let files = segment_files(dir.path());
    let log = Log::open(dir.path(), small()).unwrap();
    let end = log.end_offset();
    log.positions().commit("behind", 0).unwrap();
    drop(log);
    let aside = dir.path().join("aside");
    std::fs::rename(&files[1], &aside).unwrap();
    assert!(matches!(Log::open(dir.path(), small()), Err(OpenError::Hole { .. })));
    std::fs::rename(&aside, &files[1]).unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    log.positions().commit("etl", end).unwrap();
    drop(log);
    std::fs::remove_file(files.last().unwrap()).unwrap();
    let error = Log::open(dir.path(), small()).err().unwrap();
    assert!(matches!(error, OpenError::BehindConsumer { .. }), "{error}");
    let report = repair(dir.path()).unwrap();
    assert!(report.lost_records() > 0);
    let log = Log::open(dir.path(), small()).unwrap();
    assert_eq!(log.end_offset(), end, "offsets that were given are never given again");
}

#[tokio::test]
async fn repair_keeps_every_whole_record_at_its_offset_and_marks_the_others() {
    let origin = tempfile::tempdir().unwrap();
    let all = written(origin.path(), 4).await;
    let count = segment_files(origin.path()).len();
    for segment in 0..count {
        let len = std::fs::metadata(&segment_files(origin.path())[segment]).unwrap().len();
        for at in 0..usize::try_from(len).unwrap() {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(origin.path(), dir.path());
            let file = segment_files(dir.path()).remove(segment);
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[at] ^= 0x55;
            std::fs::write(&file, &bytes).unwrap();
            let report = repair(dir.path()).unwrap();
            assert_eq!(report.regions.len(), 1, "byte {at}");
            assert!(report.lost_records() <= 1, "one byte costs one record: {at} {report:?}");
            let region = &report.regions[0];
            let saved = std::fs::read(region.quarantine.as_ref().unwrap()).unwrap();
            let start = usize::try_from(region.position).unwrap();
            assert_eq!(saved, bytes[start..start + saved.len()]);
            let log = Log::open(dir.path(), small()).unwrap();
            let found = read_from(&log, 0).unwrap();
            assert_eq!(found.len(), all.len(), "offsets stay dense: {at}");
            for (found, wanted) in found.iter().zip(&all) {
                let lost = found.1 == Topic::Lost && found.0 == wanted.0;
                assert!(found == wanted || lost, "byte {at}: {found:?} {wanted:?}");
            }
            let lost = found.iter().filter(|r| r.1 == Topic::Lost).count();
            assert_eq!(lost as u64, report.lost_records());
        }
    }
}

#[tokio::test]
async fn repair_of_zeros_over_many_commits_says_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    for n in 0..50 {
        log.appender().append(batch(&[&format!("value-{n}")])).await.unwrap();
    }
    drop(log);
    let file = segment_files(dir.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let third = bytes.len() / 3;
    bytes[third..2 * third].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    let report = repair(dir.path()).unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    let found = read_from(&log, 0).unwrap();
    assert_eq!(found.len(), 50);
    let lost = found.iter().filter(|r| r.1 == Topic::Lost).count() as u64;
    assert_eq!(lost, report.lost_records());
    assert!((14..=20).contains(&lost), "{lost}");
    assert!(found.iter().filter(|r| r.1 != Topic::Lost).all(|r| r.2 == format!("value-{}", r.0)));
}

#[tokio::test]
async fn repair_of_a_whole_log_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = written(dir.path(), 10).await;
    let before: Vec<_> = segment_files(dir.path()).iter().map(|f| std::fs::read(f).unwrap()).collect();
    assert_eq!(repair(dir.path()).unwrap().regions, []);
    let after: Vec<_> = segment_files(dir.path()).iter().map(|f| std::fs::read(f).unwrap()).collect();
    assert_eq!(before, after);
    assert_eq!(read_from(&Log::open(dir.path(), small()).unwrap(), 0).unwrap(), all);
}
