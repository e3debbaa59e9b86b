//! The project's habits that no compiler checks, each with its reason beside it.
//!
//! Reads the tracked files only: never builds, starts or changes anything.
//! What must stay true: an exception is listed here with a reason, and an
//! exception that nothing needs any more fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

mod crates;
mod logs;
mod metrics;
mod source;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A breach: where, and what is wrong.
pub(crate) type Breach = (String, String);

/// Rule, file and reason of every exception.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "function length",
        "model/tests/sdk_configuration.rs",
        "a table of cases, one a line: split, it would have to be read in two places",
    ),
    (
        "unsafe code",
        "storage/clickhouse-embedded/src/process.rs",
        "prctl and getppid tie the engine's process to its parent; libc has no safe form",
    ),
    ("unsafe code", "parser/tests/allocation.rs", "an allocator that counts is unsafe by its trait"),
    (
        "ignored tests",
        "storage/clickhouse-embedded/tests/embedded/served.rs",
        "the process that other tests start; it is no test of its own",
    ),
];

/// Fails with all breaches of a rule that no exception covers.
pub(crate) fn judge(rule: &str, breaches: Vec<Breach>) {
    let excepted = |place: &str| {
        EXCEPTIONS.iter().any(|(of, file, _)| *of == rule && place.split(':').next() == Some(file))
    };
    let unused: Vec<_> = EXCEPTIONS
        .iter()
        .filter(|(of, file, _)| {
            *of == rule && !breaches.iter().any(|(place, _)| place.split(':').next() == Some(file))
        })
        .collect();
    assert!(unused.is_empty(), "these exceptions of {rule:?} are needed no more: {unused:?}");
    let open: Vec<String> = breaches
        .iter()
        .filter(|(place, _)| !excepted(place))
        .map(|(place, what)| format!("  {place}: {what}"))
        .collect();
    assert!(open.is_empty(), "{rule}\n{}", open.join("\n"));
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Tracked files below the root that are there, with their text; files that are no text are left out.
pub(crate) fn tracked(wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git lists the tracked files; install git and run the tests in a clone");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<_> = names
        .split_terminator('\0')
        .filter(|name| wanted(name))
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)))
        .collect();
    assert!(!files.is_empty(), "no tracked file matches; the rule checks nothing");
    files
}

pub(crate) fn rust(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "rs")
}

/// Whether a Rust file is a test as a whole.
pub(crate) fn is_test(name: &str) -> bool {
    name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("/tests.rs")
}

/// Lines of a Rust file that end up in the program: numbered from 1, without
/// comments and without the test module at the end.
pub(crate) fn product_lines(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let end = (0..lines.len())
        .find(|&at| {
            lines[at].trim() == "#[cfg(test)]"
                && lines.get(at + 1).is_some_and(|next| next.contains("mod ") && next.ends_with('{'))
        })
        .unwrap_or(lines.len());
    lines[..end]
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line.split(" // ").next().unwrap_or(line)))
        .collect()
}
