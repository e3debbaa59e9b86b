//! What commands print: for people, or as JSON for machines.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the standard output of the commands")]

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Progress is rewritten no more often than this.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Where a command's result goes.
pub(crate) struct Output {
    is_json: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Whether machines read it.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints one result: `text` for people, `value` for machines.
    pub(crate) fn result(&self, text: &str, value: &impl Serialize) {
        if self.is_json {
            match serde_json::to_string(value) {
                Ok(json) => println!("{json}"),
                Err(error) => eprintln!("error: the result cannot be written as JSON: {error}"),
            }
        } else {
            println!("{text}");
        }
        let _ = std::io::stdout().flush();
    }

    /// Prints a line for people; machines do not see it.
    pub(crate) fn say(&self, text: &str) {
        if !self.is_json {
            println!("{text}");
            let _ = std::io::stdout().flush();
        }
    }

    /// Progress of long work, on a terminal only.
    pub(crate) fn progress(&self) -> Progress {
        let is_shown = !self.is_json && std::io::stderr().is_terminal();
        Progress { is_shown, printed: None }
    }
}

/// One line of progress that is written over itself.
pub(crate) struct Progress {
    is_shown: bool,
    printed: Option<Instant>,
}

impl Progress {
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let is_due = self.printed.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
        if self.is_shown && is_due {
            eprint!("\r\x1b[K{}", text());
            self.printed = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.printed.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// A table with its columns as wide as their longest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut lines = vec![line(header.to_vec()), rule.join("  ")];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = vec![vec!["a".to_owned(), "12".to_owned()], vec!["long".to_owned(), "3".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), "name  n\n----  --\na     12\nlong  3");
    }
}
