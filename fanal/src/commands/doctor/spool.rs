//! The spool before Kafka: what waits in it, and how much room is left.
//!
//! Looks from beside, whether a process runs or not.

use std::path::Path;

use fanal_ingest::spool::{SpoolSettings, waiting};
use fanal_model::ByteSize;

use super::Finding;
use crate::config::Config;

const WHAT: &str = "spool";

pub(super) fn spool(config: &Config) -> Finding {
    match config.spool.resolve(&config.data_dir) {
        Ok(settings) => look(&settings),
        Err(problem) => Finding::bad(WHAT, problem.to_string()),
    }
}

fn look(settings: &SpoolSettings) -> Finding {
    // Before the first start there is no folder; its disk is that of the one above.
    let disk = settings.dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(disk) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => return Finding::bad(WHAT, format!("{}: {error}", disk.display())),
    };
    let waiting = match waiting(&settings.dir) {
        Ok(waiting) => waiting,
        Err(error) => {
            let dir = settings.dir.display();
            let text = format!("cannot look into {dir}: {error}; run this as its owner, and check the disk");
            return Finding::bad(WHAT, text);
        }
    };
    let used = bytes_of(&settings.dir.join("segments"));
    let text = format!(
        "{} records ({}) wait for Kafka; {} of {} used in {}, {} free on its disk",
        waiting.records,
        shown(waiting.bytes),
        shown(used),
        ByteSize(settings.bytes_max),
        settings.dir.display(),
        shown(free)
    );
    if waiting.is_damaged {
        let text =
            format!("{text}: damaged, more may wait; stop the collector, then run this with --repair-log");
        return Finding::bad(WHAT, text);
    }
    if free <= settings.free_bytes_min {
        let min = ByteSize(settings.free_bytes_min);
        return Finding::bad(
            WHAT,
            format!("{text}, below spool.free_bytes_min = {min}: it takes nothing; free space"),
        );
    }
    // The last file stays until the next one is begun.
    if used > settings.bytes_max / 2 {
        let text = format!("{text}: more than half is full of what Kafka did not confirm; see the brokers");
        return Finding::bad(WHAT, text);
    }
    if waiting.records > 0 {
        let text = format!(
            "{text}: what waits has no other copy; it drains while a collector runs and Kafka confirms"
        );
        return Finding::warning(WHAT, text);
    }
    Finding::good(WHAT, text)
}

/// Rounded up, so that little is never shown as nothing.
fn shown(bytes: u64) -> ByteSize {
    let unit = if bytes < 1 << 20 { 1 << 10 } else { 1 << 20 };
    ByteSize(bytes.div_ceil(unit) * unit)
}

fn bytes_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use fanal_ingest::spool::SpoolConfig;
    use fanal_storage::log::{Batch, Log, LogConfig, Topic};

    use super::*;

    #[tokio::test]
    async fn what_waits_in_the_spool_is_counted_and_warned_of_while_it_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            SpoolSettings { free_bytes_min: 0, ..SpoolConfig::default().resolve(folder.path()).unwrap() };
        let before = look(&settings);
        assert_eq!(before.verdict(), "good", "{before:?}");
        assert!(before.detail.starts_with("0 records (0B) wait for Kafka; 0B of 8GiB"), "{before:?}");
        let log = Log::open(&settings.dir, LogConfig { segment_bytes: 1, ..LogConfig::default() }).unwrap();
        for _ in 0..3 {
            let mut batch = Batch::new();
            batch.push(Topic::Beacons, b"k", |value| value.extend_from_slice(&[7; 400])).unwrap();
            batch.push(Topic::Beacons, b"k", |value| value.extend_from_slice(&[7; 400])).unwrap();
            log.appender().append(batch).await.unwrap();
        }
        let full = look(&settings);
        assert_eq!(full.verdict(), "WARN", "{full:?}");
        assert!(full.detail.starts_with("6 records (3KiB) wait for Kafka; 3KiB of 8GiB"), "{full:?}");
        log.positions().commit("drain", 3).unwrap();
        assert!(look(&settings).detail.starts_with("3 records (2KiB)"), "{:?}", look(&settings));
        log.positions().commit("drain", 6).unwrap();
        assert_eq!(look(&settings).verdict(), "good");
        log.positions().commit("drain", 0).unwrap();
        drop(log);
        let mut files: Vec<_> = std::fs::read_dir(settings.dir.join("segments"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.metadata().unwrap().len() > 0)
            .collect();
        files.sort();
        let last = files.last().unwrap();
        let mut bytes = std::fs::read(last).unwrap();
        bytes[0] ^= 1;
        std::fs::write(last, bytes).unwrap();
        let damaged = look(&settings);
        assert_eq!(damaged.verdict(), "BAD", "{damaged:?}");
        assert!(damaged.detail.contains("damaged"), "{damaged:?}");
    }
}
