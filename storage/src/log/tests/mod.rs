//! What the log promises, checked on real files.

mod append;
mod damage;
mod faults;
mod twin;

use super::*;

/// Small segments, so that every test crosses several.
fn small() -> LogConfig {
    LogConfig { segment_bytes: 400, ..LogConfig::default() }
}

fn batch(values: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for value in values {
        batch.push(Topic::Beacons, b"site\0v", |v| v.extend_from_slice(value.as_bytes())).unwrap();
    }
    batch
}

/// Offset and value of every record from `from` on that can be read now.
fn read_from(log: &Log, from: u64) -> Result<Vec<(u64, Topic, String)>, ReadError> {
    let mut reader = log.reader(from)?;
    let mut seen = Vec::new();
    while let Some(chunk) = reader.try_next(100)? {
        seen.extend(
            chunk.records().map(|r| (r.offset, r.topic, String::from_utf8_lossy(r.value).into_owned())),
        );
    }
    Ok(seen)
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_dir(&path, &target) } else { assert!(std::fs::copy(&path, &target).is_ok()) }
    }
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let segments = segments_dir(dir);
    segment::list(&segments).unwrap().iter().map(|base| segments.join(format!("{base:020}.log"))).collect()
}
