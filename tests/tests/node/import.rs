//! A generated day of access logs becomes exactly the visits that the generator
//! planned, whatever happens on the way: import, repeat, kill, rebuild, lost tables.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fanal_tests::{Dev, Folder, Start, eventually, fanal, fanal_bench, finish, run, run_ok};
use serde_json::Value;

/// One program run, imports and rebuilds included.
const LIMIT: Duration = Duration::from_secs(120);
const EVENTS: &str = "100000";
const DAY: &str = "2026-10-01";

/// The logs of a day and what is true about them.
struct Day {
    folder: PathBuf,
    logs: Vec<PathBuf>,
    sites: Vec<String>,
}

fn generate(folder: PathBuf) -> Day {
    let mut command = Command::new(fanal_bench());
    command.arg("day").arg("--out").arg(&folder).args(["--events", EVENTS, "--sites", "3", "--nodes", "3"]);
    command.args(["--seed", "7", "--date", DAY, "--no-bad-nonces"]);
    run_ok(&mut command, LIMIT);
    let truth: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("truth.json")).unwrap()).unwrap();
    let sites = truth["sites"].as_object().unwrap().keys().cloned().collect();
    let mut logs: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    assert!(logs.len() >= 3, "{logs:?}");
    Day { folder, logs, sites }
}

fn create_sites(dev: &Dev, day: &Day) {
    for site in &day.sites {
        dev.create_site(site);
    }
}

/// `fanal import` of every file under the name of the node that wrote it.
fn import_commands(data: &Path, day: &Day) -> Vec<Command> {
    day.logs
        .iter()
        .map(|log| {
            let name = log.file_stem().unwrap().to_str().unwrap();
            let node = name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
            let mut command = Command::new(fanal());
            command.arg("import").arg("--json").arg("--data-dir").arg(data).args(["--node", &node]).arg(log);
            command
        })
        .collect()
}

/// Lines that the imports accepted and lines that were there already.
fn import(data: &Path, day: &Day) -> (u64, u64) {
    let mut sums = (0, 0);
    for mut command in import_commands(data, day) {
        let said = run_ok(&mut command, LIMIT);
        let report: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error} in {said}"));
        sums.0 += report["accepted"].as_u64().unwrap();
        sums.1 += report["already_imported"].as_u64().unwrap();
    }
    sums
}

/// Waits until the tables hold the truth of the day, row by row.
fn settles(dev: &Dev, day: &Day) {
    let url = format!("http://{}", dev.address("clickhouse"));
    let end = Instant::now() + LIMIT;
    loop {
        let mut command = Command::new(fanal_bench());
        command.args(["truth", "--clickhouse", &url, "--dir"]).arg(&day.folder);
        let compared = run(&mut command, LIMIT);
        if compared.code == 0 {
            return;
        }
        let log = dev.output();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        assert!(
            Instant::now() < end,
            "not the true visits within {LIMIT:?}\n{}{}\n{}",
            compared.stdout,
            compared.stderr,
            tail.join("\n")
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Every visit with every column but the time of loading, in one order.
fn visits(dev: &Dev) -> String {
    dev.query("SELECT * EXCEPT (loaded_at) FROM visits ORDER BY ALL")
}

/// `fanal rebuild` of all days that the logs touch.
fn rebuild(data: &Path, more: &[&str]) -> Value {
    let mut command = Command::new(fanal());
    command.args(["rebuild", "--json", "--all", "--from", "2026-09-30", "--to", "2026-10-02", "--data-dir"]);
    let said = run_ok(command.arg(data).args(more), LIMIT);
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

fn assert_nothing_differs(report: &Value) {
    for table in ["events", "visits"] {
        for change in ["added", "changed", "gone"] {
            assert_eq!(report[table][change], 0, "{table} {change}: {report}");
        }
    }
    assert!(report["visits"]["same"].as_u64().unwrap() > 1000, "{report}");
}

#[test]
fn a_generated_day_imports_to_the_true_visits() {
    let folder = Folder::new("import");
    let day = generate(folder.join("day"));
    let data = folder.join("data");
    let start = Start::new(&data);
    let dev = start.dev();
    create_sites(&dev, &day);

    let (accepted, already) = import(&data, &day);
    assert!(accepted >= 100_000 && already == 0, "{accepted} accepted, {already} already imported");
    settles(&dev, &day);
    let (again, _) = import(&data, &day);
    assert_eq!(again, 0, "the second import of the same files added lines");
    settles(&dev, &day);

    let streamed = visits(&dev);
    assert_nothing_differs(&rebuild(&data, &["--dry-run"]));
    rebuild(&data, &[]);
    settles(&dev, &day);
    assert!(visits(&dev) == streamed, "the rebuild changed visits");
    run_ok(Command::new(fanal()).args(["reconcile", "--data-dir"]).arg(&data), LIMIT);

    // The tables are gone; the archive has everything.
    assert_eq!(dev.stop(), 0);
    std::fs::remove_dir_all(data.join("clickhouse")).unwrap();
    let dev = start.dev();
    rebuild(&data, &[]);
    settles(&dev, &day);
    assert!(visits(&dev) == streamed, "visits rebuilt from the archive differ from those streamed");
    run_ok(Command::new(fanal()).args(["reconcile", "--data-dir"]).arg(&data), LIMIT);
    assert_eq!(dev.stop(), 0);
}

#[test]
fn an_import_killed_in_the_middle_and_run_again_is_exact() {
    let folder = Folder::new("import-killed");
    let day = generate(folder.join("day"));
    let data = folder.join("data");
    let start = Start::new(&data);
    let dev = start.dev();
    create_sites(&dev, &day);
    assert_eq!(dev.stop(), 0);

    // Not running: the import opens the event log by itself, and is killed while it writes.
    let mut killed = 0;
    for mut command in import_commands(&data, &day) {
        let before = log_bytes(&data);
        let mut import = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ended = eventually(LIMIT, "the import writes", || {
            let ended = import.try_wait().unwrap().is_some();
            (ended || log_bytes(&data) > before + (512 << 10)).then_some(ended)
        });
        if !ended {
            killed += 1;
            let group = rustix::process::Pid::from_child(&import);
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        }
        finish(import, "the import", LIMIT);
    }
    assert!(killed > 0, "no import was caught in the middle");
    let (accepted, already) = import(&data, &day);
    assert!(accepted > 0 && already > 0, "{accepted} accepted, {already} already imported after the kill");

    let dev = start.dev();
    settles(&dev, &day);
    run_ok(Command::new(fanal()).args(["reconcile", "--data-dir"]).arg(&data), LIMIT);
    assert_eq!(dev.stop(), 0);
}

/// Bytes of the event log.
fn log_bytes(data: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(data.join("log/segments")) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.len()).sum()
}
