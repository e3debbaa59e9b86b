//! Log messages are constant lower-case text; values are fields. A person and
//! a query can then look for one message, whatever it was about.

use crate::{Breach, judge, product_lines, rust, tracked};

const MACROS: &[&str] = &["error!(", "warn!(", "info!(", "debug!(", "trace!("];

#[test]
fn log_messages_are_constant_and_lower_case() {
    let mut breaches: Vec<Breach> = Vec::new();
    let mut seen = 0;
    for (name, text) in
        tracked(|name| rust(name) && !name.starts_with("bench/") && !name.starts_with("tests/"))
    {
        if !text.contains("tracing::") {
            continue;
        }
        let code: String = product_lines(&text).into_iter().flat_map(|(_, line)| [line, "\n"]).collect();
        for call in log_calls(&code) {
            seen += 1;
            if let Some(wrong) = wrong(call) {
                let shown: String = call.split_whitespace().collect::<Vec<_>>().join(" ");
                breaches.push((name.clone(), format!("{wrong}: {shown}")));
            }
        }
    }
    assert!(seen > 20, "only {seen} log calls found; the search is broken");
    judge("log messages", breaches);
}

/// What stands between the parentheses of each log macro.
fn log_calls(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for name in MACROS {
        for (at, _) in code.match_indices(name) {
            if code[..at].ends_with("tracing::") || code[..at].ends_with([' ', '\n', '{']) {
                found.push(arguments(&code[at + name.len()..]));
            }
        }
    }
    found
}

/// Up to the parenthesis that closes the call; text in quotes counts for nothing.
fn arguments(code: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, c) in code.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return &code[..at],
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    code
}

/// What is wrong with a call's message, if anything.
fn wrong(call: &str) -> Option<&'static str> {
    let Some(message) = message(call) else { return Some("no constant message") };
    if message.contains('{') {
        return Some("the message holds a value; make it a field");
    }
    let first = message.chars().next()?;
    (!first.is_lowercase() && !first.is_ascii_digit()).then_some("the message starts with a capital")
}

/// The argument that is a text in quotes and nothing else.
fn message(call: &str) -> Option<&str> {
    let (mut depth, mut quoted, mut escaped, mut start) = (0_usize, false, false, 0);
    let mut parts = Vec::new();
    for (at, c) in call.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(call[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(call[start..].trim());
    parts.iter().find_map(|part| part.strip_prefix('"')?.strip_suffix('"'))
}

#[test]
fn the_message_is_found_among_fields() {
    assert_eq!(message(r#"path = %x.join(", "), count, "segment removed""#), Some("segment removed"));
    assert_eq!(message(r#"target: "a", "started""#), Some("started"));
    assert!(wrong(r#"a = 1, "Started""#).is_some());
    assert!(wrong(r#""started {x}""#).is_some());
    assert!(wrong("a = 1").is_some());
    assert!(wrong(r#"?error, "started""#).is_none());
}
