//! What the kernel accounts to processes: CPU time and memory, from `/proc`.
//!
//! Duty: read, subtract, add up. What must stay true: a process tree counts the children that have already ended and
//! were waited for, so that work done in a short-lived child is not lost.

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Ticks of the kernel's accounting per second, as `/proc` gives them. Fixed on Linux since 2.6 (`USER_HZ`), whatever
/// the kernel's own timer runs at.
const TICKS_PER_SECOND: f64 = 100.0;
/// Words of a title that are shown: `nginx: worker process`.
const TITLE_WORDS: usize = 3;
/// Processes of one tree; more is no tree that a bench started.
const TREE_MAX: usize = 4_096;

/// One process at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    pub pid: u32,
    /// The name and the first argument, which tells roles apart.
    pub name: String,
    /// User and system time of all threads; in a tree also that of ended children.
    pub cpu_s: f64,
    pub rss_bytes: u64,
    pub peak_rss_bytes: u64,
}

/// Why a process could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}; is the process still running, and yours?", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} has no {what}; this kernel's /proc is not understood", path.display())]
    Format { path: PathBuf, what: &'static str },
}

/// One process, without its children.
pub fn usage(pid: u32) -> Result<Usage, Error> {
    let stat = Stat::read(pid)?;
    describe(pid, stat.own)
}

/// A process and all that descend from it, parents first.
pub fn tree(root: u32) -> Result<Vec<Usage>, Error> {
    let stats = all();
    let mut pids = vec![root];
    let mut at = 0;
    while at < pids.len() && pids.len() < TREE_MAX {
        let parent = pids[at];
        pids.extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    let mut out = Vec::new();
    for pid in pids {
        let found = Stat::read(pid).and_then(|stat| describe(pid, stat.own + stat.ended_children));
        match found {
            Ok(usage) => out.push(usage),
            Err(error) if pid == root => return Err(error),
            // A child may end between the listing and the reading; its parent then has its time.
            Err(_) => {}
        }
    }
    Ok(out)
}

/// CPU seconds of a list.
pub fn cpu_s(list: &[Usage]) -> f64 {
    list.iter().map(|usage| usage.cpu_s).sum()
}

/// Leaves in `now` what was spent since `before`; a process that is new keeps all of its time.
pub fn subtract(now: &mut [Usage], before: &[Usage]) {
    for usage in now {
        if let Some(earlier) = before.iter().find(|earlier| earlier.pid == usage.pid) {
            usage.cpu_s -= earlier.cpu_s;
        }
    }
}

/// CPU seconds of the children of this process that have ended and were waited for.
pub fn ended_children_cpu_s() -> Result<f64, Error> {
    Ok(Stat::read(std::process::id())?.ended_children)
}

struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn read(pid: u32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let text = read(&path)?;
        // The name stands in parentheses and may hold anything, so count from the last one.
        let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize, what| {
            fields
                .get(at)
                .and_then(|field| field.parse::<u64>().ok())
                .ok_or_else(|| Error::Format { path: path.clone(), what })
        };
        #[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^52")]
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        Ok(Self {
            parent: u32::try_from(number(1, "parent")?).unwrap_or(0),
            own: seconds(number(11, "utime")? + number(12, "stime")?),
            ended_children: seconds(number(13, "cutime")? + number(14, "cstime")?),
        })
    }
}

fn all() -> BTreeMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid).ok()?)))
        .collect()
}

fn describe(pid: u32, cpu_s: f64) -> Result<Usage, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = read(&path)?;
    // A process that has ended but was not waited for has no memory lines.
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.map_or(0, |kib| kib * 1024)
    };
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Ok(Usage {
        pid,
        name: name(&command),
        cpu_s,
        rss_bytes: bytes("VmRSS:"),
        peak_rss_bytes: bytes("VmHWM:"),
    })
}

/// The program's name and its first argument; a process that has set a title of its own keeps that.
fn name(command: &[u8]) -> String {
    let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default();
    if program.contains(": ") {
        return program.split(' ').take(TITLE_WORDS).collect::<Vec<_>>().join(" ");
    }
    let file = Path::new(&*program).file_name().map(|file| file.to_string_lossy()).unwrap_or_default();
    format!("{file} {}", words.next().unwrap_or_default()).trim().to_owned()
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|source| Error::Read { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn burn(duration: Duration) {
        let started = Instant::now();
        let mut n = 1u64;
        while started.elapsed() < duration {
            n = std::hint::black_box(n.wrapping_mul(3));
        }
    }

    #[test]
    fn busy_threads_are_accounted_to_their_process() {
        let before = usage(std::process::id()).unwrap();
        std::thread::spawn(|| burn(Duration::from_millis(200))).join().unwrap();
        let after = usage(std::process::id()).unwrap();
        assert!(after.cpu_s - before.cpu_s >= 0.05, "{before:?} {after:?}");
        assert!(after.rss_bytes > 0 && after.peak_rss_bytes >= after.rss_bytes);
    }

    #[test]
    fn a_tree_holds_children() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let mut found = tree(std::process::id()).unwrap();
        // A process that has only begun has no name yet.
        for _ in 0..100 {
            if found.iter().all(|usage| !usage.name.is_empty()) {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(20));
            found = tree(std::process::id()).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found[0].pid, std::process::id());
        assert!(found.iter().any(|usage| usage.pid == child.id() && usage.name == "sleep 30"), "{found:?}");
    }

    #[test]
    fn names_tell_roles_apart() {
        assert_eq!(name(b"/usr/bin/fanal\0dev\0--data-dir\0/tmp/x\0"), "fanal dev");
        assert_eq!(name(b"nginx: master process nginx -c /tmp/nginx.conf\0"), "nginx: master process");
        assert_eq!(name(b""), "");
    }

    #[test]
    fn a_missing_process_is_an_error_with_its_path() {
        let error = usage(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/stat"), "{error}");
    }
}
