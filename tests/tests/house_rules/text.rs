//! Rules on all tracked text: no place of somebody's machine, no leftovers, no dead link.

use std::path::Path;

use crate::{Breach, judge, root, tracked};

#[test]
fn no_file_names_a_place_of_somebodys_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut breaches: Vec<Breach> = Vec::new();
    for (name, text) in tracked(|name| !name.ends_with(".lock") && name != "LICENSE") {
        for (at, line) in text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| names_place(line, place)) {
                breaches.push((format!("{name}:{}", at + 1), format!("{place} is a place of one machine")));
            }
        }
    }
    judge("machine paths", breaches);
}

/// Whether the line has the place as the start of a path, not inside of a URL's path.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && !"/._-}".contains(c))
    })
}

#[test]
fn no_file_holds_a_note_to_come_back_later() {
    let words = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")];
    let mut breaches: Vec<Breach> = Vec::new();
    let code = |name: &str| {
        [".rs", ".sh", ".sql", ".toml", ".md", ".proto"].iter().any(|end| name.ends_with(end))
            || name == "Makefile"
    };
    for (name, text) in tracked(code) {
        for (at, line) in text.lines().enumerate() {
            let has = |word: &&&str| line.split(|c: char| !c.is_alphanumeric()).any(|part| part == **word);
            if let Some(word) = words.iter().find(has) {
                breaches.push((format!("{name}:{}", at + 1), format!("{word}: do it now or file it")));
            }
        }
    }
    judge("leftovers", breaches);
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let mut breaches: Vec<Breach> = Vec::new();
    let mut seen = 0;
    for (name, text) in tracked(|name| name.ends_with(".md") && !name.contains("/captures/")) {
        let folder = root().join(Path::new(&name).parent().unwrap());
        for (at, target) in links(&text) {
            if target.contains("://") || target.starts_with('#') || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let file = target.split('#').next().unwrap_or_default();
            if !folder.join(file).exists() {
                breaches.push((format!("{name}:{at}"), format!("{target} does not exist")));
            }
        }
    }
    assert!(seen > 0, "no link found; the search is broken");
    judge("links", breaches);
}

/// Line and target of every `[text](target)` outside of code blocks.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (start, _) in line.match_indices("](") {
            let rest = &line[start + 2..];
            if let Some(end) = rest.find([')', ' ']) {
                found.push((at + 1, &rest[..end]));
            }
        }
    }
    found
}
