//! Records of what was measured.
//!
//! Duty: name the machine; turn single runs into medians and ratios. What must stay true: a ratio is only made of runs
//! of one record, and a median is shown with its lowest and highest run.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The program that the others are compared with.
pub const SUBJECT: &str = "fanal";

/// One measurement, one line of `runs.jsonl`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Run {
    pub bench: String,
    pub program: String,
    pub unit: String,
    pub value: f64,
}

/// A line that is no measurement.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is no measurement: {source}; each line has bench, program, unit and value")]
pub struct Error {
    line: usize,
    source: serde_json::Error,
}

/// Where the runs were made.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    pub system: String,
}

impl Machine {
    /// This machine; what cannot be read is empty.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str, separator: char| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(separator))
                .map_or_else(String::new, |(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal", ':');
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            cpu: after(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: kib * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: after(&read("/etc/os-release"), "PRETTY_NAME", '='),
        }
    }
}

/// Reads `runs.jsonl`.
pub fn runs(text: &str) -> Result<Vec<Run>, Error> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| serde_json::from_str(line).map_err(|source| Error { line: at + 1, source }))
        .collect()
}

/// A table in Markdown: medians, and of each rival the ratio rival : subject.
pub fn summary(machine: &Machine, runs: &[Run]) -> String {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<f64>> = BTreeMap::new();
    for run in runs {
        groups.entry((&run.bench, &run.unit, &run.program)).or_default().push(run.value);
    }
    let mut out = format!(
        "{}, {} cores, {:.1} GB, kernel {}, {}\n\n| bench | program | median | unit | lowest – highest | runs | ratio to {SUBJECT} |\n|---|---|---|---|---|---|---|\n",
        machine.cpu,
        machine.cores,
        gigabytes(machine.memory_bytes),
        machine.kernel,
        machine.system
    );
    let medians: BTreeMap<_, f64> = groups.iter_mut().map(|(key, values)| (*key, median(values))).collect();
    for ((bench, unit, program), values) in &groups {
        let value = medians[&(*bench, *unit, *program)];
        let subject = medians.get(&(*bench, *unit, SUBJECT)).filter(|_| *program != SUBJECT);
        let ratio = subject
            .filter(|subject| **subject > 0.0)
            .map_or_else(String::new, |subject| format!("{:.2}", value / subject));
        // The values are sorted by now; writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {bench} | {program} | {} | {unit} | {} – {} | {} | {ratio} |",
            short(value),
            short(values[0]),
            short(values[values.len() - 1]),
            values.len()
        );
    }
    out
}

/// The median; sorts the values.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory stays below 2^52 bytes")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str, value: f64) -> String {
        format!(
            "{{\"bench\":\"get-64\",\"program\":\"{program}\",\"unit\":\"µs\",\"value\":{value},\"more\":1}}\n"
        )
    }

    #[test]
    fn the_summary_shows_medians_and_ratios() {
        let text = [
            run("fanal", 10.0),
            run("nginx", 6.0),
            run("fanal", 30.0),
            run("fanal", 12.0),
            run("nginx", 12.0),
        ];
        let table = summary(&Machine::here(), &runs(&text.concat()).unwrap());
        assert!(table.contains("| get-64 | fanal | 12.00 | µs | 10.00 – 30.00 | 3 |  |"), "{table}");
        assert!(table.contains("| get-64 | nginx | 9.00 | µs | 6.00 – 12.00 | 2 | 0.75 |"), "{table}");
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = runs(&format!("{}\nnonsense\n", run("fanal", 1.0))).unwrap_err().to_string();
        assert!(error.starts_with("line 3 is no measurement"), "{error}");
    }

    #[test]
    fn the_machine_has_a_name() {
        let machine = Machine::here();
        assert!(!machine.kernel.is_empty() && machine.cores > 0 && machine.memory_bytes > 0, "{machine:?}");
    }
}
