//! The part of docs/metrics.md that is written by machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::rules::{CRATES, Sentence};
use super::sources::{Description, Sources};
use super::tokens::{Token, product_tokens};

/// What stands before it is written by hand.
pub(super) const MARK: &str = "<!-- From here on written by a test: \
    GOLDEN=write cargo test --release --workspace --test house_rules metrics -->\n";

/// The tables, one per crate.
pub(super) fn tables(sources: &Sources) -> String {
    let mut page = String::new();
    for (folder, _, processes) in CRATES {
        let of_crate = sources.descriptions.iter().filter(|description| description.folder == *folder);
        let sorted: BTreeMap<&str, &Description> =
            of_crate.map(|description| (description.name.as_str(), description)).collect();
        writeln!(page, "\n## `{folder}`\n\n{processes}.\n").unwrap();
        page += "| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n";
        for description in sorted.values() {
            page += &row(description);
        }
    }
    page
}

fn row(description: &Description) -> String {
    let Description { name, kind, text, .. } = description;
    let (meaning, labels) = match Sentence::of(text) {
        Ok(sentence) => {
            let label = |(label, values): &(&str, &str)| format!("`{label}`: {values}");
            let labels: Vec<String> = sentence.labels.iter().map(label).collect();
            (sentence.meaning.to_owned(), labels.join("; "))
        }
        Err(_) => (text.clone(), String::new()),
    };
    let quantity = name.strip_suffix("_total").unwrap_or(name);
    let unit = ["seconds", "bytes"].into_iter().find(|unit| quantity.ends_with(unit)).unwrap_or("number");
    let cells = [&format!("`{name}`"), kind.name(), unit, &labels, &meaning];
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The bounds of all histograms, as the service's source has them.
pub(super) fn buckets(source: &str) -> Vec<String> {
    let tokens: Vec<Token> = product_tokens(source).into_iter().map(|(_, token)| token).collect();
    let name = Token::Word("SECONDS_BUCKETS".to_owned());
    let at = tokens.iter().position(|token| *token == name).expect("service/src/metrics.rs has the buckets");
    let values = tokens[at..].iter().skip_while(|token| **token != Token::Sign('=')).skip(2);
    let mut found = Vec::new();
    for token in values.take_while(|token| **token != Token::Sign(']')) {
        match token {
            Token::Number(bound) => found.push(bound.trim_end_matches(".0").to_owned()),
            Token::Sign(',') => {}
            other => panic!("{other:?} is no bound; write each as a plain number"),
        }
    }
    assert!(!found.is_empty(), "no bucket found in service/src/metrics.rs");
    found
}

/// Metrics that a page names in backticks: with labels and in queries, too.
pub(super) fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        for span in line.split('`').skip(1).step_by(2) {
            for word in span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let mut beginnings = CRATES.iter().flat_map(|(_, beginnings, _)| *beginnings);
                if beginnings.any(|beginning| word.starts_with(beginning)) {
                    found.insert(word.to_owned());
                }
            }
        }
    }
    found
}
