//! A collector that is killed while it spools and drains.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fanal_ingest::spool::Spooled;
use fanal_service::health::Health;
use fanal_service::stop::Stop;
use fanal_storage::log::{AppendError, Appender, EventLog, Log, LogConfig};

use crate::inner::{Flaky, Mode, clock, last_places, lines, one, place_behind, settings, soon};

/// Set in the child: the folder of both logs, and the round.
const DIR: &str = "FANAL_TEST_SPOOL_DIR";
const ROUND: &str = "FANAL_TEST_SPOOL_ROUND";
const ROUNDS: usize = 6;

type Spool = Spooled<Flaky<Appender>>;

/// Both logs; the one behind is on disk as well, so that it outlives the kill.
fn open(dir: &Path) -> (Log, Flaky<Appender>, Spool, Stop) {
    let log = Log::open(&dir.join("log"), LogConfig::default()).unwrap();
    let behind = Flaky::new(log.appender());
    let (spool, drain) =
        Spooled::open(behind.clone(), settings(&dir.join("spool")), clock(), Health::new()).unwrap();
    let stop = Stop::new();
    tokio::spawn(drain.run(stop.clone()));
    (log, behind, spool, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_collector_acknowledged_arrives_in_order() {
    if let Ok(dir) = std::env::var(DIR) {
        return append_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut spooled) = (Vec::new(), HashMap::<String, Vec<String>>::new());
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "crash::what_a_killed_collector_acknowledged_arrives_in_order"])
            .env(DIR, dir.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut told = told.filter(|line| line.starts_with("ack "));
        let mut acks: Vec<_> = told.by_ref().take(300 + 170 * round).collect();
        // SIGKILL; what was on its way when it came was acknowledged as well.
        child.kill().unwrap();
        acks.extend(told);
        child.wait().unwrap();
        for ack in acks {
            let mut words = ack.split(' ').skip(1);
            // The last line may be cut off.
            let (Some(task), Some(name), Some(by)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            acknowledged.push(name.to_owned());
            if by == "spool" {
                spooled.entry(task.to_owned()).or_default().push(name.to_owned());
            }
        }
    }
    let (log, _, spool, stop) = open(dir.path());
    soon("the spool is drained", || spool.waiting() == 0).await;
    let (found, received) = lines(log.reader(0).unwrap());
    let last = last_places(&found);
    let lost: Vec<_> = acknowledged.iter().filter(|name| !last.contains_key(name.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    for (task, names) in &spooled {
        assert!(names.iter().map(|name| last[name.as_str()]).is_sorted(), "the order of task {task}");
    }
    assert_eq!(received, found.len() as u64);
    let by_spool: usize = spooled.values().map(Vec::len).sum();
    assert!(by_spool > 500 && by_spool < acknowledged.len(), "{by_spool} of {}", acknowledged.len());
    stop.stop();
}

async fn append_until_killed(dir: &Path) {
    let round = std::env::var(ROUND).unwrap();
    let (_log, behind, spool, _stop) = open(dir);
    for task in 0..4 {
        let (spool, round) = (spool.clone(), round.clone());
        tokio::spawn(async move {
            for n in 0.. {
                let name = format!("{round}-{task}-{n:06}");
                let place = spool.append(one(&name)).await.unwrap();
                let by = if place.partition == place_behind() { "log" } else { "spool" };
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {task} {name} {by} .").unwrap();
            }
        });
    }
    let away = AppendError::Unavailable("away".to_owned());
    for mode in
        [Mode::Takes, Mode::Refuses(away), Mode::Takes, Mode::Hangs, Mode::TakesSilently].iter().cycle()
    {
        behind.set(mode.clone());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
