//! Rules on Rust source: sizes, banned calls, purity, unsafe code.

use crate::{Breach, is_test, judge, product_lines, rust, tracked};

/// More than this is more than one subject.
const FILE_LINES_MAX: usize = 400;
/// More than this does not fit on a screen.
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    let long = tracked(rust)
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| (name, format!("{lines} lines, {FILE_LINES_MAX} allowed; split it by subject")))
        .collect();
    judge("file length", long);
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut long: Vec<Breach> = Vec::new();
    let mut seen = 0;
    for (name, text) in tracked(rust) {
        for (line, function, length) in functions(&text) {
            seen += 1;
            if length > FUNCTION_LINES_MAX {
                let what = format!("{function} has {length} lines, {FUNCTION_LINES_MAX} allowed");
                long.push((format!("{name}:{line}"), what));
            }
        }
    }
    assert!(seen > 500, "only {seen} functions found; the counter is broken");
    judge("function length", long);
}

/// First line, name and number of lines of every function with a body. Counts
/// on rustfmt: the closing brace stands alone, as deep as the first line.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let Some(opening) =
            (at..lines.len()).find(|&i| ["{", "}", ";"].iter().any(|end| lines[i].ends_with(end)))
        else {
            continue;
        };
        if !lines[opening].ends_with('{') {
            continue;
        }
        let closing = format!("{indent}}}");
        if let Some(end) = (opening + 1..lines.len()).find(|&i| lines[i] == closing) {
            found.push((at + 1, name.to_owned(), end - at + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix("fn ") {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
            return (end > 0).then_some(&after[..end]);
        }
        let word = rest.split(' ').next()?;
        let modifier = word.starts_with("pub")
            || ["async", "const", "unsafe", "extern", "crate)", "super)", "\"C\""].contains(&word);
        if !modifier {
            return None;
        }
        rest = rest[word.len()..].trim_start();
    }
}

/// Calls that are wrong in the named places, each with its reason.
struct Ban {
    words: &'static [&'static str],
    reason: &'static str,
    applies: fn(&str) -> bool,
}

const BANS: &[Ban] = &[
    Ban {
        words: &["println!(", "eprintln!(", "print!(", "eprint!("],
        reason: "standard output belongs to the commands of fanal and bench; use tracing",
        applies: |name| !name.starts_with("fanal/") && !name.starts_with("bench/") && !is_example(name),
    },
    Ban {
        words: &["process::exit(", "process::abort("],
        reason: "only main ends the process, after draining; return an error",
        applies: |name| !name.starts_with("fanal/") && !is_example(name),
    },
    Ban {
        words: &["thread::sleep(", "thread::park("],
        reason: "it stops every request on this runtime; use tokio::time::sleep",
        applies: |name| ASYNC_CRATES.iter().any(|folder| name.starts_with(folder)),
    },
    Ban {
        words: &["todo!(", "unimplemented!(", "dbg!("],
        reason: "unfinished code does not land",
        applies: |_| true,
    },
    Ban {
        words: &["mod utils", "mod util", "mod common", "mod helpers", "mod misc"],
        reason: "name the subject; such modules collect everything",
        applies: |_| true,
    },
];

/// Crates whose code runs on an async runtime.
const ASYNC_CRATES: &[&str] =
    &["service/src/", "ingest/src/", "delivery/src/", "admin/src/", "etl/src/", "fanal/src/"];

fn is_example(name: &str) -> bool {
    name.contains("/examples/")
}

#[test]
fn banned_calls_are_not_made() {
    let mut breaches: Vec<Breach> = Vec::new();
    for (name, text) in tracked(|name| rust(name) && !is_test(name)) {
        for (line, code) in product_lines(&text) {
            for ban in BANS.iter().filter(|ban| (ban.applies)(&name)) {
                if let Some(word) = ban.words.iter().find(|word| calls(code, word)) {
                    breaches.push((format!("{name}:{line}"), format!("{word}: {}", ban.reason)));
                }
            }
        }
    }
    judge("banned calls", breaches);
}

/// Whether the word stands in the code as a word of its own.
fn calls(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let starts = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let ends =
            word.ends_with(['(', '!', ':', ' ']) || after.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        starts && ends
    })
}

#[test]
fn no_test_is_switched_off() {
    let word = concat!("#[ig", "nore");
    let mut breaches: Vec<Breach> = Vec::new();
    for (name, text) in tracked(rust) {
        for (at, _) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with(word)) {
            let what = "a test that does not run proves nothing; repair or remove it";
            breaches.push((format!("{name}:{}", at + 1), what.to_owned()));
        }
    }
    judge("ignored tests", breaches);
}

/// What a pure crate never names: files, sockets, clock, threads, runtime.
/// (`std::net::IpAddr` is a plain value.)
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "SystemTime",
    "Instant::now",
    "fs::",
    "File::open",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
];

#[test]
fn model_and_parser_do_no_input_output_and_read_no_clock() {
    let mut breaches: Vec<Breach> = Vec::new();
    for (name, text) in
        tracked(|name| rust(name) && (name.starts_with("model/src/") || name.starts_with("parser/src/")))
    {
        for (line, code) in product_lines(&text) {
            if let Some(word) = IMPURE.iter().find(|word| calls(code, word)) {
                breaches.push((format!("{name}:{line}"), format!("{word}: pass the value in from outside")));
            }
        }
    }
    judge("pure crates", breaches);
}

#[test]
fn unsafe_code_stays_at_the_foreign_interface() {
    let keyword = concat!("uns", "afe");
    let forms = [" {", " fn ", " impl ", " extern "].map(|after| format!("{keyword}{after}"));
    let mut breaches: Vec<Breach> = Vec::new();
    // An allocator that counts is a program for people, not a part of the product.
    let counts = |name: &str| name.ends_with("examples/count_allocations.rs");
    let is_foreign = |name: &str| name.starts_with("storage/clickhouse-embedded/src/ffi");
    for (name, text) in tracked(|name| rust(name) && !is_foreign(name) && !counts(name)) {
        for (line, code) in product_lines(&text) {
            if forms.iter().any(|form| calls(code, form)) {
                let what = "only storage/clickhouse-embedded/src/ffi speaks to a foreign library";
                breaches.push((format!("{name}:{line}"), what.to_owned()));
            }
        }
    }
    judge("unsafe code", breaches);
}

#[test]
fn the_counter_finds_long_functions() {
    let body = "        step();\n".repeat(70);
    let text = format!(
        "impl A {{\n    pub(crate) async fn long(\n        &self,\n    ) -> bool {{\n{body}    }}\n\n    fn short(&self) {{}}\n}}\n"
    );
    let found = functions(&text);
    assert_eq!(found, [(2, "long".to_owned(), 74)]);
}
