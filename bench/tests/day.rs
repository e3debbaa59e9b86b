//! The written day, read again by a reader that knows only the documented formats and rules.

#![expect(clippy::unwrap_used, reason = "a test states its invariants by panicking")]

mod reader;

use fanal_bench::day::{Options, Truth, generate};
use std::collections::BTreeMap;
use std::path::Path;

fn options(out: &Path, seed: u64) -> Options {
    Options {
        out: out.to_path_buf(),
        events: 20_000,
        sites: 3,
        nodes: 3,
        seed,
        start_ms: 1_790_812_800_000, // 2026-10-01
        bad_nonces: true,
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn day(seed: u64) -> (BTreeMap<String, Vec<u8>>, Truth) {
    let folder = tempfile::tempdir().unwrap();
    let truth = generate(&options(folder.path(), seed)).unwrap();
    (files(folder.path()), truth)
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let (first, second) = (day(42).0, day(42).0);
    assert!(first.len() > 5, "{:?}", first.keys());
    assert_eq!(first, second);
}

#[test]
fn another_seed_writes_another_day() {
    let (first, second) = (day(42).0, day(43).0);
    assert_ne!(first["visits.tsv"], second["visits.tsv"]);
    assert_ne!(first["node-1-2026-10-01.log"], second["node-1-2026-10-01.log"]);
}

#[test]
fn the_written_logs_hold_exactly_the_true_visits() {
    for seed in [1, 2, 3] {
        let (files, truth) = day(seed);
        let read =
            reader::read(files.iter().filter(|(name, _)| name.ends_with(".log")).map(|(_, bytes)| bytes));
        let expected = String::from_utf8(files["visits.tsv"].clone()).unwrap();
        for (row, (found, wanted)) in read.visits_tsv.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, wanted, "seed {seed}, row {row}");
        }
        assert_eq!(read.visits_tsv.lines().count(), expected.lines().count(), "seed {seed}");
        assert_eq!(read.log_lines, truth.log_lines, "seed {seed}: log lines");
        assert_eq!(read.garbage, truth.garbage, "seed {seed}: garbage");
        assert_eq!(read.accepted, truth.lines_accepted, "seed {seed}: accepted");
        assert_eq!(read.rejected, truth.lines_rejected, "seed {seed}: rejected");
        assert_eq!(read.distinct, truth.events_distinct, "seed {seed}: distinct");
        assert_eq!(read.heartbeats, truth.heartbeats, "seed {seed}: heartbeats");
    }
}

#[test]
fn the_sums_of_the_sites_are_those_of_the_visits() {
    let (files, truth) = day(8);
    let tsv = String::from_utf8(files["visits.tsv"].clone()).unwrap();
    let mut visits: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut events, mut page_views) = (0, 0);
    for row in tsv.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        *visits.entry(fields[0]).or_default() += 1;
        events += fields[4].parse::<u64>().unwrap();
        page_views += fields[5].parse::<u64>().unwrap();
    }
    assert_eq!(events, truth.events_distinct - truth.heartbeats);
    assert_eq!(page_views, truth.sites.values().map(|site| site.page_views).sum::<u64>());
    for (code, site) in &truth.sites {
        assert_eq!(visits[code.as_str()], site.visits);
    }
}

#[test]
fn logs_are_nearly_but_not_quite_in_the_order_of_time() {
    let (files, _) = day(4);
    let times: Vec<&[u8]> = files["node-1-2026-10-01.log"]
        .split(|byte| *byte == b'\n')
        .map(|line| &line[..line.len().min(14)])
        .filter(|time| time.starts_with(b"17908"))
        .collect();
    let backwards = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(backwards > 0 && backwards < times.len() / 20, "{backwards} of {}", times.len());
}
