//! What a record aims at, and whether it was reached.
//!
//! Duty: read goals, put each beside the medians of one record. What must stay true: a goal that nothing was measured
//! for is shown as such, never as met; a ratio is only made of medians of one record.

use crate::record::{Run, SUBJECT, median, short};
use std::fmt::Write;

/// Columns of a goal's line, separated by tabs.
const COLUMNS: usize = 6;
/// In the column of the rival where a figure is judged by itself.
const ALONE: &str = "-";

/// One line of a goals file: case, unit, rival, sign, bound, and the case that it stands beside. The sign is `<=` or
/// `>=` for the median, `all<=` for every single run.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    case: String,
    unit: String,
    /// What the subject's figure is divided by: another program of the case, or the subject in the case of `base`.
    rival: Option<String>,
    sign: Sign,
    bound: f64,
    base: Option<String>,
}

/// How a figure is held against the bound.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sign {
    AtMost,
    AtLeast,
    AllAtMost,
}

/// A line that is no goal.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {line} is no goal; write case, unit, rival or -, <= or >= or all<=, a number, and another case or -, with tabs between"
)]
pub struct Error {
    line: usize,
}

/// Reads goals; empty lines and those that start with # are passed over.
pub fn goals(text: &str) -> Result<Vec<Goal>, Error> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| goal(line).ok_or(Error { line: at + 1 })).collect()
}

fn goal(line: &str) -> Option<Goal> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [case, unit, rival, sign, bound, base] = <[&str; COLUMNS]>::try_from(columns).ok()?;
    let named = |text: &str| (text != ALONE).then(|| text.to_owned());
    let sign = match sign {
        "<=" => Sign::AtMost,
        ">=" => Sign::AtLeast,
        // A ratio has no single runs.
        "all<=" if rival == ALONE && base == ALONE => Sign::AllAtMost,
        _ => return None,
    };
    let bound = bound.parse().ok()?;
    Some(Goal {
        case: case.to_owned(),
        unit: unit.to_owned(),
        rival: named(rival),
        sign,
        bound,
        base: named(base),
    })
}

/// A table in Markdown, one row per goal.
pub fn table(goals: &[Goal], runs: &[Run]) -> String {
    let of = |case: &str, program: &str, unit: &str| {
        let matching =
            runs.iter().filter(|run| run.bench == case && run.program == program && run.unit == unit);
        let mut values: Vec<f64> = matching.map(|run| run.value).collect();
        (!values.is_empty()).then(|| (median(&mut values), values))
    };
    let mut out = format!(
        "| case | figure | {SUBJECT} (runs) | beside | its figure (runs) | ratio | goal | met |\n|---|---|---|---|---|---|---|---|\n"
    );
    for goal in goals {
        let ours = of(&goal.case, SUBJECT, &goal.unit);
        let case = goal.base.as_ref().unwrap_or(&goal.case);
        let program = goal.rival.as_deref().or(goal.base.as_ref().map(|_| SUBJECT));
        let theirs = program.and_then(|program| of(case, program, &goal.unit));
        let ratio = ours.as_ref().zip(theirs.as_ref()).map(|((ours, _), (theirs, _))| ours / theirs);
        let judged = if program.is_some() { ratio } else { ours.as_ref().map(|(ours, _)| *ours) };
        let met = judged.map_or("not measured", |judged| {
            let worst = ours.as_ref().and_then(|(_, all)| all.last().copied()).unwrap_or(judged);
            let met = match goal.sign {
                Sign::AtMost => judged <= goal.bound,
                Sign::AtLeast => judged >= goal.bound,
                Sign::AllAtMost => worst <= goal.bound,
            };
            if met { "yes" } else { "NO" }
        });
        let figure = |found: &Option<(f64, Vec<f64>)>| {
            found.as_ref().map_or_else(String::new, |(value, all)| {
                format!("{} ({}–{}, {})", short(*value), short(all[0]), short(all[all.len() - 1]), all.len())
            })
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} {} | {met} |",
            goal.case,
            goal.unit,
            figure(&ours),
            goal.rival.as_deref().or(goal.base.as_deref()).unwrap_or_default(),
            figure(&theirs),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            match goal.sign {
                Sign::AtMost => "≤",
                Sign::AtLeast => "≥",
                Sign::AllAtMost => "each ≤",
            },
            goal.bound,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::runs;

    fn measured() -> Vec<Run> {
        let line = |bench: &str, program: &str, value: f64| {
            format!("{{\"bench\":\"{bench}\",\"program\":\"{program}\",\"unit\":\"µs\",\"value\":{value}}}\n")
        };
        let text = [
            line("a", "fanal", 8.0),
            line("a", "nginx", 10.0),
            line("b", "fanal", 4.0),
            line("b", "fanal", 4.0),
            line("b", "fanal", 9.0),
        ]
        .concat();
        runs(&text).unwrap()
    }

    #[test]
    fn goals_are_judged_by_ratio_by_value_and_by_another_case() {
        // Two runs of b took 4, the third 9.
        let text = "# comment\n\na\tµs\tnginx\t<=\t0.8\t-\na\tµs\tnginx\t<=\t0.7\t-\na\tµs\t-\t<=\t8\t-\na\tµs\t-\t>=\t1.8\tb\nb\tµs\t-\t<=\t5\t-\nb\tµs\t-\tall<=\t5\t-\n";
        let out = table(&goals(text).unwrap(), &measured());
        let met: Vec<&str> = out.lines().skip(2).filter_map(|line| line.rsplit(" | ").next()).collect();
        assert_eq!(met, ["yes |", "NO |", "yes |", "yes |", "yes |", "NO |"], "{out}");
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let out = table(&goals("c\tµs\tnginx\t<=\t9\t-\na\tµs\tvector\t<=\t9\t-").unwrap(), &measured());
        assert_eq!(out.matches("not measured").count(), 2, "{out}");
    }

    #[test]
    fn a_line_that_is_no_goal_is_named() {
        for bad in ["a b", "a\tµs\t-\t<\t1\t-", "a\tµs\t-\t<=\tfast\t-"] {
            assert!(
                goals(&format!("#\n{bad}")).unwrap_err().to_string().starts_with("line 2 is no goal"),
                "{bad}"
            );
        }
    }
}
