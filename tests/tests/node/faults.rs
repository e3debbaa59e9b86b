//! Damage and shortage: each ends in a healed start or a clear error, never in
//! a hang and never in silent loss.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fanal_tests::{Dev, Folder, Start, eventually, fanal, run, within};

const SITE: &str = "faults0001";
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends one event per request, numbered from `first`; the nonces that were acknowledged.
fn send(dev: &Dev, first: u32, count: u32) -> Vec<String> {
    (first..first + count)
        .filter_map(|number| {
            let nonce = format!("{number:016X}");
            let line = format!(
                "eventType=page&href=https%3A%2F%2Fa.test%2F{number}&nonce={nonce}&visitorCode=v{number}"
            );
            (dev.track(SITE, &line).status == 204).then_some(nonce)
        })
        .collect()
}

/// Waits until exactly these nonces are in `events`, each once.
fn holds(dev: &Dev, nonces: &[String]) {
    let mut sorted = nonces.to_vec();
    sorted.sort();
    within(PATIENCE, &sorted.join("\n"), || dev.query("SELECT nonce FROM events ORDER BY nonce"));
}

/// The segment that is written to.
fn last_segment(data: &Path) -> PathBuf {
    let entries = std::fs::read_dir(data.join("log/segments")).unwrap();
    entries.map(|entry| entry.unwrap().path()).max().unwrap()
}

fn reconciled(data: &Path) {
    let output = run(Command::new(fanal()).args(["reconcile", "--data-dir"]).arg(data), PATIENCE);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
}

#[test]
fn a_torn_tail_is_cut_and_nothing_acknowledged_is_lost() {
    let folder = Folder::new("torn");
    let start = Start::new(&folder.join("data"));
    let mut dev = start.dev();
    dev.create_site(SITE);
    let mut acknowledged = Vec::new();
    // A crash cuts a commit in its header, right after it, or in its records.
    for (round, length) in [(0, 17), (1, 40), (2, 100)] {
        acknowledged.extend(send(&dev, round * 100, 10));
        dev.kill();
        let segment = last_segment(dev.folder());
        let torn = &unfinished_commit(next_offset(&std::fs::read(&segment).unwrap()))[..length];
        OpenOptions::new().append(true).open(&segment).unwrap().write_all(torn).unwrap();
        dev = start.dev();
    }
    acknowledged.extend(send(&dev, 900, 5));
    assert_eq!(acknowledged.len(), 35);
    holds(&dev, &acknowledged);
    reconciled(dev.folder());
}

/// Offset of the next record, read as `docs/event-log.md` describes the bytes.
fn next_offset(segment: &[u8]) -> u64 {
    let (mut at, mut next) = (0, 0);
    while let Some(header) = segment.get(at..at + 40) {
        assert_eq!(&header[..4], b"FNLC", "byte {at}");
        let number = |from: usize| u64::from(u32::from_le_bytes(header[from..from + 4].try_into().unwrap()));
        next = u64::from_le_bytes(header[8..16].try_into().unwrap()) + number(16);
        at += 40 + usize::try_from(number(20)).unwrap();
    }
    next
}

/// A commit whose header is right and whose 1000 bytes of records are not there.
fn unfinished_commit(offset: u64) -> Vec<u8> {
    let mut commit = b"FNLC".to_vec();
    commit.extend([1, 0, 0, 0]);
    commit.extend(offset.to_le_bytes());
    commit.extend(1_u32.to_le_bytes());
    commit.extend(1000_u32.to_le_bytes());
    // Far ahead: append times never go back.
    commit.extend(4_000_000_000_000_u64.to_le_bytes());
    commit.extend(crc32(&[7; 1000]).to_le_bytes());
    commit.extend(crc32(&commit).to_le_bytes());
    commit.extend([7; 100]);
    commit
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn a_flipped_byte_stops_the_start_and_a_repair_saves_every_whole_record() {
    let folder = Folder::new("flipped");
    let start = Start::new(&folder.join("data"));
    let mut dev = start.dev();
    dev.create_site(SITE);
    assert_eq!(send(&dev, 0, 40).len(), 40);
    dev.kill();
    let segment = last_segment(dev.folder());
    // In the middle of the line of one event: one record is damaged, its neighbours are whole.
    let bytes = std::fs::read(&segment).unwrap();
    let wanted = format!("nonce={:016X}", 20);
    let at = bytes.windows(wanted.len()).position(|window| window == wanted.as_bytes()).unwrap() + 8;
    let mut file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[bytes[at] ^ 0x40]).unwrap();
    drop(file);

    let failure = start.must_fail();
    assert_eq!(failure.code, 1, "{}", failure.output);
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(failure.output.contains(name), "the error does not name {name}\n{}", failure.output);
    assert!(failure.output.contains("--repair-log"), "the error names no remedy\n{}", failure.output);

    let repair =
        run(Command::new(fanal()).args(["doctor", "--repair-log", "--data-dir"]).arg(dev.folder()), PATIENCE);
    assert_eq!(repair.code, 0, "{}{}", repair.stdout, repair.stderr);
    assert!(std::fs::read_dir(dev.folder().join("log/quarantine")).unwrap().next().is_some());
    let dev = start.dev();
    let at_least: Vec<String> = (0..40).filter(|n| *n != 20).map(|n| format!("{n:016X}")).collect();
    let stored = || {
        let rows = dev.query("SELECT nonce FROM events");
        at_least.iter().filter(|nonce| rows.contains(nonce.as_str())).count()
    };
    within(PATIENCE, &39, stored);
    assert_eq!(send(&dev, 100, 1).len(), 1);
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let folder = Folder::new("second");
    let start = Start::new(&folder.join("data"));
    let dev = start.dev();
    dev.create_site(SITE);
    // The folder is what to say, even where the ports are taken by the same process.
    for second in [Start::new(dev.folder()), start] {
        let failure = second.must_fail();
        assert_eq!(failure.code, 1, "{}", failure.output);
        let named = format!("the data folder {} is in use by process {};", dev.folder().display(), dev.pid());
        assert!(failure.output.contains(&named), "no `{named}` in\n{}", failure.output);
    }
    // The first one has not noticed.
    holds(&dev, &send(&dev, 0, 3));
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    for (listener, names) in [
        ("http", "--http"),
        ("https", "--https"),
        ("sse", "--sse"),
        ("admin", "--admin"),
        ("clickhouse", "--clickhouse"),
    ] {
        let folder = Folder::new("port");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let failure = Start::new(&folder.join("data")).address(listener, &address).must_fail();
        assert_eq!(failure.code, 1, "{}", failure.output);
        for word in [names, &address] {
            assert!(failure.output.contains(word), "{listener}: no {word} in\n{}", failure.output);
        }
    }
}

#[test]
fn a_missing_engine_is_named_with_the_way_to_get_it() {
    let folder = Folder::new("engine");
    let start = Start::new(&folder.join("data")).environment("FANAL_LIBCHDB", "/nonexistent/libchdb.so");
    let failure = start.must_fail();
    assert_eq!(failure.code, 1, "{}", failure.output);
    for word in ["/nonexistent/libchdb.so", "FANAL_LIBCHDB", "make run"] {
        assert!(failure.output.contains(word), "no {word} in\n{}", failure.output);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = Folder::new("file");
    let data = folder.join("data");
    std::fs::write(&data, "a file where the folder should be").unwrap();
    let failure = Start::new(&data).must_fail();
    assert_eq!(failure.code, 1, "{}", failure.output);
    assert!(failure.output.contains(data.to_str().unwrap()), "{}", failure.output);
}

#[test]
fn the_engine_killed_alone_costs_no_event() {
    let folder = Folder::new("engine-killed");
    let dev = Start::new(&folder.join("data")).dev();
    dev.create_site(SITE);
    let mut acknowledged = send(&dev, 0, 5);
    holds(&dev, &acknowledged);
    let children = children(dev.pid());
    assert!(!children.is_empty(), "the engine is no child process");
    for child in children {
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    }
    // Collecting goes on without the engine, which is started again.
    acknowledged.extend(send(&dev, 100, 5));
    assert_eq!(acknowledged.len(), 10, "the collector needs no tables");
    eventually(PATIENCE, "the engine answers again", || {
        let url = format!("http://{}/?query=SELECT+1", dev.address("clickhouse"));
        (fanal_tests::Call::new("GET", &url).send().status == 200).then_some(())
    });
    holds(&dev, &acknowledged);
    reconciled(dev.folder());
}

/// Child processes of all threads of a process.
fn children(pid: u32) -> Vec<rustix::process::Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|pids| pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>())
        .filter_map(rustix::process::Pid::from_raw)
        .collect()
}

/// Size of the small disk: the engine's own files take some 20 MiB of it.
const DISK: &str = "size=160m";

#[test]
fn a_full_disk_answers_503_and_heals_with_space() {
    if !fanal_tests::isolated("faults::a_full_disk_answers_503_and_heals_with_space") {
        return;
    }
    let folder = Folder::new("full");
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&data).status().unwrap();
    assert!(mounted.success(), "cannot mount a small disk; run this test as root");
    let dev = Start::new(&data).dev();
    dev.create_site(SITE);
    let mut acknowledged = send(&dev, 0, 10);
    assert_eq!(acknowledged.len(), 10);
    holds(&dev, &acknowledged);

    let filler = data.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 64 << 10]).is_ok() {}
    while file.write_all(&[1; 64]).is_ok() {}
    // Lines longer than what may be left of a page.
    let padding = "x".repeat(20 << 10);
    let mut number = 1000;
    let refused = eventually(PATIENCE, "an answer 503", || {
        number += 1;
        let nonce = format!("{number:016X}");
        let line = format!("eventType=page&href={padding}&nonce={nonce}&visitorCode=v{number}");
        let answer = dev.track(SITE, &line);
        match answer.status {
            204 => {
                acknowledged.push(nonce);
                None
            }
            503 => Some(answer),
            status => panic!("{status}: {}", answer.text()),
        }
    });
    assert!(refused.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    let ready = dev.admin("GET", "/health/ready").send();
    assert_eq!(ready.status, 503, "{}", ready.text());
    // A short line may still fit; whatever is acknowledged counts.
    acknowledged.extend(send(&dev, 2000, 3));

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let healed = eventually(PATIENCE, "an acknowledgement with space", || send(&dev, 3000, 1).pop());
    acknowledged.push(healed);
    acknowledged.extend(send(&dev, 3001, 10));
    let stored = |nonces: &[String]| {
        let rows = dev.query("SELECT nonce FROM events");
        nonces.iter().filter(|nonce| rows.contains(nonce.as_str())).count()
    };
    within(PATIENCE, &acknowledged.len(), || stored(&acknowledged));
    assert_eq!(dev.query("SELECT nonce FROM events GROUP BY nonce HAVING count() > 1"), "");
    within(PATIENCE, &200, || dev.admin("GET", "/health/ready").send().status);
    reconciled(&data);
    drop(dev);
    let _ = Command::new("umount").arg(&data).status();
}
