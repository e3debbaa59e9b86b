//! `fanal parse`: how a log format is read, and what becomes of the lines of a log.
//!
//! Never stores anything and asks no installation: the sites of the lines are not looked up.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use anyhow::Context;
use clap::Args;
use fanal_ingest::import::Input;
use fanal_model::RejectReason;
use fanal_parser::body;
use fanal_parser::log_format::{ExplainedLine, Explanation, LogFormat, LogOutcome, Part, Scratch};
use serde_json::json;

use super::import::log_format;
use crate::exit::Ending;
use crate::output::{Output, table};

/// An import cuts longer lines as well.
const LINE_BYTES_MAX: usize = 24 << 20;
/// More of a value does not fit a line of a terminal.
const SHOWN_CHARS_MAX: usize = 72;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Format of the lines: a `log_format` of nginx.conf as it stands there, `fanal`, `combined` or `main`.
    #[arg(long, value_name = "FORMAT", default_value = "fanal")]
    log_format: String,
    /// Show the plan of the format and, for the first lines of FILE, what each field became.
    #[arg(long)]
    explain: bool,
    /// So many lines are explained; so many rejected ones are named without `--explain`.
    #[arg(long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// An access log: plain, .gz, .zst, or `-` for standard input.
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let format = log_format(&arguments.log_format)?;
    let content = arguments.file.as_deref().map(|file| {
        let content = Input::parse(file).content();
        content.with_context(|| format!("cannot read {file}; check the path and permissions"))
    });
    let mut lines = content.transpose()?.map(|content| Lines { content, line: Vec::new() });
    if arguments.explain {
        return explain(&format, arguments.lines, lines.as_mut(), output);
    }
    let Some(lines) = &mut lines else {
        let text = "name the log to read, or `-`; with --explain the plan of the format is shown without one";
        return Err(Ending::WrongUse(text.to_owned()).into());
    };
    count(&format, arguments.lines, lines, output)
}

/// The lines of a log, one at a time.
struct Lines {
    content: Box<dyn BufRead>,
    line: Vec<u8>,
}

impl Lines {
    /// The next line without its end; whether it was cut.
    fn next(&mut self) -> anyhow::Result<Option<(&[u8], bool)>> {
        self.line.clear();
        let mut limited = (&mut self.content).take(LINE_BYTES_MAX as u64);
        limited
            .read_until(b'\n', &mut self.line)
            .context("the log cannot be read further; is it damaged?")?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let is_cut = self.line.len() == LINE_BYTES_MAX && self.line.last() != Some(&b'\n');
        if is_cut {
            self.content.skip_until(b'\n').context("the log cannot be read further; is it damaged?")?;
        }
        Ok(Some((self.line.strip_suffix(b"\n").unwrap_or(&self.line), is_cut)))
    }
}

fn explain(
    format: &LogFormat,
    lines_max: usize,
    mut lines: Option<&mut Lines>,
    output: &Output,
) -> anyhow::Result<()> {
    let plan = format.explanation();
    let mut explained = Vec::new();
    while explained.len() < lines_max
        && let Some(lines) = &mut lines
        && let Some((line, _)) = lines.next()?
    {
        explained.push(format.explain(line));
    }
    let mut text = plan_text(&plan);
    for (number, line) in (1..).zip(&explained) {
        text += &format!("\n\n{}", line_text(number, line));
    }
    output.result(&text, &json!({ "format": plan, "lines": explained }));
    Ok(())
}

fn plan_text(plan: &Explanation) -> String {
    let parts = plan.parts.iter().map(|part| match part {
        Part::Literal { text } => {
            vec![shown(&format!("{text:?}")), String::new(), String::new(), String::new()]
        }
        Part::Variable { name, offset, used_for, search } => vec![
            format!("${name}"),
            offset.to_string(),
            search.map_or_else(|| "not searched".to_owned(), |search| search.to_string()),
            used_for.unwrap_or("-").to_owned(),
        ],
    });
    let uses = plan.uses.iter().map(|need| {
        let variable = need.variable.as_ref().map_or_else(|| "-".to_owned(), |name| format!("${name}"));
        vec![need.name.to_owned(), variable, need.meaning.to_owned()]
    });
    let parts = table(&["part", "byte", "value is found", "for"], &parts.collect::<Vec<_>>());
    let uses = table(&["need", "from", "meaning"], &uses.collect::<Vec<_>>());
    let mut text = format!("escape={}\n\n{parts}\n\n{uses}", plan.escape);
    for note in &plan.notes {
        text += &format!("\nnote: {note}");
    }
    text
}

fn line_text(number: usize, line: &ExplainedLine) -> String {
    let rows = line.fields.iter().map(|field| {
        let value = match &field.decoded {
            None => "broken escape".to_owned(),
            Some(value) if *value == field.raw => "as it stands".to_owned(),
            Some(value) if value.is_empty() => "none".to_owned(),
            Some(value) => shown(&value.escape_debug().to_string()),
        };
        let raw = shown(&field.raw.escape_debug().to_string());
        vec![format!("${}", field.variable), field.used_for.unwrap_or("-").to_owned(), raw, value]
    });
    let mut about = Vec::new();
    let mut add =
        |name: &str, value: Option<String>| about.extend(value.map(|value| format!("{name} {value}")));
    add("site", line.site_code.clone());
    add("at", line.received_at_ms.map(|ms| format!("{}.{:03}", ms / 1_000, ms % 1_000)));
    add("client address", line.client_address.clone());
    add("visitor of the cookie", line.cookie_visitor.clone());
    add("tracking lines", line.tracking_lines.map(|lines| lines.to_string()));
    about.extend(line.why.clone());
    let fields = table(&["field", "for", "in the line", "value"], &rows.collect::<Vec<_>>());
    let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
    format!("line {number}: {}{about}\n{fields}", line.outcome)
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What became of all lines.
#[derive(Default)]
struct Tally {
    lines: u64,
    requests: u64,
    tracking_lines: u64,
    ignored: BTreeMap<&'static str, u64>,
    rejected: BTreeMap<&'static str, u64>,
    /// The first rejected ones: number, reason, and why.
    examples: Vec<(u64, &'static str, Option<String>)>,
}

fn count(format: &LogFormat, examples_max: usize, lines: &mut Lines, output: &Output) -> anyhow::Result<()> {
    let (mut tally, mut scratch) = (Tally::default(), Scratch::default());
    while let Some((line, is_cut)) = lines.next()? {
        tally.lines += 1;
        if line.is_empty() {
            *tally.ignored.entry("empty_line").or_default() += 1;
            continue;
        }
        let outcome = match is_cut {
            true => Err(RejectReason::LineTooLong),
            false => match format.read(line) {
                Ok(read) => read.outcome(&mut scratch).map(|outcome| match outcome {
                    LogOutcome::Request(request) => Ok(request.body.map_or(1, body::count)),
                    LogOutcome::Ignored(reason) => Err(reason),
                }),
                Err(reason) => Err(reason),
            },
        };
        match outcome {
            Ok(Ok(tracking_lines)) => {
                tally.requests += 1;
                tally.tracking_lines += tracking_lines;
            }
            Ok(Err(reason)) => *tally.ignored.entry(reason.name()).or_default() += 1,
            Err(reason) => {
                *tally.rejected.entry(reason.name()).or_default() += 1;
                if tally.examples.len() < examples_max {
                    let why = if is_cut { None } else { format.explain(line).why };
                    tally.examples.push((tally.lines, reason.name(), why));
                }
            }
        }
    }
    show(&tally, output);
    Ok(())
}

fn show(tally: &Tally, output: &Output) {
    let mut rows = vec![
        vec!["lines".to_owned(), tally.lines.to_string()],
        vec!["requests".to_owned(), tally.requests.to_string()],
        vec!["tracking lines in them".to_owned(), tally.tracking_lines.to_string()],
    ];
    for (what, counts) in [("ignored", &tally.ignored), ("rejected", &tally.rejected)] {
        rows.extend(counts.iter().map(|(name, count)| vec![format!("{what}: {name}"), count.to_string()]));
    }
    let mut text = table(&["outcome", "count"], &rows);
    for (number, reason, why) in &tally.examples {
        text += &format!("\nline {number}: {reason}");
        text += &why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    }
    let examples: Vec<_> = tally
        .examples
        .iter()
        .map(|(number, reason, why)| json!({"line": number, "reason": reason, "why": why}))
        .collect();
    let value = json!({
        "lines": tally.lines, "requests": tally.requests, "tracking_lines": tally.tracking_lines,
        "ignored": tally.ignored, "rejected": tally.rejected, "examples": examples,
    });
    output.result(&text, &value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "1700000000.123\t203.0.113.7\tPOST\t/visit/events?siteCode=s\t204\t-\t-\t-\ta\\x0Ab\n";

    fn lines(text: &str) -> Lines {
        Lines { content: Box::new(std::io::Cursor::new(text.as_bytes().to_vec())), line: Vec::new() }
    }

    #[test]
    fn lines_come_with_and_without_an_end() {
        let mut lines = lines("a\n\nb");
        for expected in ["a", "", "b"] {
            assert_eq!(lines.next().unwrap(), Some((expected.as_bytes(), false)));
        }
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_line_without_bounds_is_cut_and_the_next_one_is_read() {
        let mut lines = lines(&format!("{}\nb\n", "a".repeat(LINE_BYTES_MAX + 3)));
        assert!(lines.next().unwrap().is_some_and(|(line, is_cut)| is_cut && line.len() == LINE_BYTES_MAX));
        assert_eq!(lines.next().unwrap(), Some((&b"b"[..], false)));
    }

    #[test]
    fn people_see_the_plan_and_what_a_line_became() {
        let format = LogFormat::fanal();
        let plan = plan_text(&format.explanation());
        assert!(plan.contains("$request_body"), "{plan}");
        assert!(plan.contains("to the end of the line, without a tab"), "{plan}");
        let line = line_text(1, &format.explain(LINE.trim_end().as_bytes()));
        assert!(
            line.starts_with("line 1: request (site s, at 1700000000.123, client address 203.0.113.7"),
            "{line}"
        );
        assert!(line.contains(r"a\\x0Ab"), "{line}");
        assert!(line.contains(r"a\nb"), "{line}");
    }
}
