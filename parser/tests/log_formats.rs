//! Formats of access logs: what a model of nginx writes comes back exactly, and on any
//! bytes the fast reader does what the plain one does.

#[path = "twin/log_format.rs"]
mod log_format;
#[path = "twin/nginx.rs"]
mod nginx;

use std::sync::atomic::{AtomicUsize, Ordering};

use fanal_parser::log_format::{LogFormat, Scratch};
use nginx::{Format, Request};
use proptest::prelude::*;
use proptest::sample::Index;

#[test]
fn the_manual_says_of_its_formats_what_is_true() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/log-format.md");
    let page = std::fs::read_to_string(page).unwrap();
    let directives = page.split("```").filter(|block| block.trim_start().starts_with("log_format"));
    let taken =
        directives.map(|text| LogFormat::compile(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    assert_eq!(taken.count(), 2, "formats that are shown");
    let refused = page.split("These are refused:").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let refused = refused.lines().skip(2).map(|row| {
        let format = row.split('`').nth(1).unwrap();
        assert!(LogFormat::compile(format).is_err(), "{format} is taken");
    });
    assert_eq!(refused.count(), 8, "formats that are refused");
    let line = page.lines().find(|line| line.starts_with("1793536819.123")).unwrap();
    assert_eq!(LogFormat::fanal().explain(line.as_bytes()).tracking_lines, Some(2));
}

/// A format that compiles, and requests that its nginx has seen.
fn compiled() -> impl Strategy<Value = (Format, LogFormat, Vec<Request>)> {
    let compiles = |(format, split): (Format, bool)| {
        LogFormat::compile(&format.directive(split)).ok().map(|compiled| (format, compiled))
    };
    let formats = (nginx::format(), any::<bool>()).prop_filter_map("is refused", compiles);
    formats.prop_flat_map(|(format, compiled)| {
        let is_recent = compiled.explanation().is_recent;
        let requests = prop_oneof![Just(true), Just(is_recent)].prop_flat_map({
            let format = format.clone();
            move |recent| prop::collection::vec(format.request(recent), 1..6)
        });
        (Just(format), Just(compiled), requests)
    })
}

/// The value that the log can tell: `-` is written for none as well.
fn told(format: &Format, name: &str, request: &Request) -> Vec<u8> {
    let value = request.get(name).cloned().unwrap_or_default();
    if format.escape == "default" && value == b"-" { Vec::new() } else { value }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 30_000, failure_persistence: None, max_global_rejects: 10_000_000, ..Default::default()
    })]

    #[test]
    fn what_nginx_wrote_by_a_format_that_compiles_comes_back_exactly((format, compiled, requests) in compiled()) {
        let explained = compiled.explanation();
        for request in requests {
            let line = format.line(&request);
            let (fields, misfit) = compiled.fields(&line);
            let shown = format!("{}\n{}\n{request:?}", format.directive(false), String::from_utf8_lossy(&line));
            prop_assert_eq!(misfit, None, "{}", shown);
            for field in &fields {
                let name = field.variable;
                prop_assert_eq!(field.decoded(), Some(told(&format, name, &request)), "{} {}", name, shown);
            }
            let mut scratch = Scratch::default();
            prop_assert_eq!(
                log_format::fast(&compiled, &line, &mut scratch), log_format::meaning(&explained, &line), "{}", shown
            );
        }
    }

    #[test]
    fn a_line_of_any_bytes_means_what_the_plain_reader_says(
        (format, compiled, requests) in compiled(),
        changes in prop::collection::vec((0_u8..5, any::<Index>(), any::<u8>()), 1..5),
    ) {
        let explained = compiled.explanation();
        let mut scratch = Scratch::default();
        for request in requests {
            let mut line = format.line(&request);
            for (kind, at, byte) in &changes {
                let place = at.index(line.len() + 1);
                match kind {
                    0 => line.truncate(place),
                    1 => line.insert(place, *byte),
                    2 if place < line.len() => drop(line.remove(place)),
                    3 if place < line.len() => line[place] = *byte,
                    _ => line.extend_from_within(place..),
                }
            }
            let (fast, plain) = (log_format::fast(&compiled, &line, &mut scratch), log_format::meaning(&explained, &line));
            prop_assert_eq!(fast, plain, "{}\n{}", format.directive(false), String::from_utf8_lossy(&line));
            let (fields, misfit) = compiled.fields(&line);
            let pairs = |field: &fanal_parser::log_format::Field<'_>| (field.variable.to_lowercase(), field.raw.to_vec());
            let fields: Vec<_> = fields.iter().map(pairs).collect();
            prop_assert_eq!(misfit.is_none().then_some(fields), log_format::values(&explained, &line));
        }
    }

    #[test]
    fn the_generated_formats_are_neither_all_refused_nor_all_taken(format in nginx::format()) {
        static SEEN: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
        let is_taken = LogFormat::compile(&format.directive(false)).is_ok();
        let count = SEEN[usize::from(is_taken)].fetch_add(1, Ordering::Relaxed) + 1;
        let other = SEEN[usize::from(!is_taken)].load(Ordering::Relaxed);
        prop_assert!(count + other < 5_000 || other > count / 20, "{} and {}", count, other);
    }
}
