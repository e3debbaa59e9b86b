//! Every metric is described, and docs/metrics.md lists them all.
//!
//! Reads the sources, never a running program: a metric of a role that does not
//! run is listed as well. What must stay true: a call that is not understood
//! fails, so that no metric can be left out in silence.

mod page;
mod rules;
mod sources;
mod tokens;

use std::collections::BTreeSet;

use crate::{Breach, judge, root, tracked};

const PAGE: &str = "docs/metrics.md";

#[test]
fn every_metric_is_described_once_and_named_after_its_unit() {
    let sources = sources::program();
    let (uses, described) = (sources.uses.len(), sources.descriptions.len());
    assert!(uses > 50 && described > 40, "only {uses} uses of {described} metrics; the search is broken");
    judge("metrics", rules::breaches(&sources));
}

#[test]
fn the_page_of_metrics_lists_every_metric() {
    let path = root().join(PAGE);
    let text = std::fs::read_to_string(&path).unwrap();
    let (by_hand, by_machine) = text.split_once(page::MARK).expect("docs/metrics.md has the mark");
    let service = std::fs::read_to_string(root().join("service/src/metrics.rs")).unwrap();
    let buckets = page::buckets(&service).join(", ");
    let generated = format!(
        "\nBuckets of every histogram, in seconds: {buckets}.\n{}",
        page::tables(&sources::program())
    );
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "write") {
        // The page is whole at each moment: another test reads it meanwhile.
        let written = path.with_extension("md.tmp");
        std::fs::write(&written, format!("{by_hand}{}{generated}", page::MARK)).unwrap();
        std::fs::rename(&written, &path).unwrap();
        return;
    }
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) =
        (by_machine.lines().collect(), generated.lines().collect());
    let gone: Vec<_> = old.difference(&new).collect();
    let added: Vec<_> = new.difference(&old).collect();
    assert!(
        by_machine == generated,
        "{PAGE} is not what the sources say; rewrite it with GOLDEN=write\ngone: {gone:#?}\nadded: {added:#?}"
    );
}

#[test]
fn the_documentation_names_no_metric_that_is_not_there() {
    let sources = sources::program();
    let names: BTreeSet<&str> = sources.descriptions.iter().map(|it| it.name.as_str()).collect();
    let mut breaches: Vec<Breach> = Vec::new();
    let mut seen = 0;
    // What the changelog tells of the past stays as it is.
    for (file, text) in tracked(|name| name.ends_with(".md") && name != "CHANGELOG.md") {
        // The tables of the page itself are compared above.
        for word in page::named(text.split(page::MARK).next().unwrap_or_default()) {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            let known = names.contains(word.as_str()) || name.is_some_and(|name| names.contains(name));
            seen += usize::from(known);
            // Elsewhere columns and settings may begin alike.
            let meant = file == PAGE || word.ends_with("_total") || word.ends_with("_seconds");
            if meant && !known {
                breaches.push((file.clone(), format!("`{word}` is no metric of the program")));
            }
        }
    }
    assert!(seen > 20, "only {seen} metrics found in the documentation; the search is broken");
    judge("metrics in the documentation", breaches);
}

/// What the rules say of a crate `etl` with this source.
fn judged(source: &str) -> Vec<String> {
    let files = [
        ("etl/src/metrics.rs".to_owned(), source.to_owned()),
        ("etl/src/names.rs".to_owned(), "const ELSEWHERE: &str = \"etl_elsewhere_total\";".to_owned()),
        ("ingest/src/names.rs".to_owned(), "const FOREIGN: &str = \"etl_foreign_total\";".to_owned()),
    ];
    rules::breaches(&sources::scan(&files)).into_iter().map(|(_, what)| what).collect()
}

#[test]
fn what_is_described_and_bounded_is_accepted() {
    for source in [
        r#"describe_counter!("etl_rows_total", "Rows of tables."); counter!("etl_rows_total").increment(1);"#,
        "const ROWS: &'static str = \"etl_rows_total\";\n\
         metrics::describe_counter!(\n    ROWS,\n    \"Rows of \\\n     tables.\",\n);\nx(metrics::counter![self::ROWS]);",
        r#"describe_counter!(ELSEWHERE, "Rows of tables."); counter!(names::ELSEWHERE)"#,
        r#"describe_gauge!("etl_part_bytes", "Bytes of a part. By `part`: `a`, or `b` where it is. By `n`: a number.");
           gauge!("etl_part_bytes", "part" => "a", "n" => n.to_string()).set(f(1, 2));
           gauge!("etl_part_bytes", "n" => n, "part" => "b").set(2);"#,
        r#"fn f(counter: u64, gauge: X) { counter += 1; let a = counter as f64; }
           #[cfg(test)] mod tests { fn f() { counter!("x"); } } // gauge!("y")"#,
    ] {
        assert_eq!(judged(source), [] as [&str; 0], "{source}");
    }
}

#[test]
fn what_breaks_a_rule_or_is_not_understood_is_said() {
    let good = r#"describe_counter!("etl_a_total", "Rows of tables."); counter!("etl_a_total");"#;
    for (source, breach) in [
        (r#"counter!("etl_b_total");"#, "has no description"),
        (r#"describe_counter!("etl_b_total", "Rows of tables.");"#, "never counted"),
        (r#"describe_counter!("etl_a_total", "Rows of tables.");"#, "as well; keep one"),
        (r#"gauge!("etl_a_total");"#, "a gauge here, described as a counter"),
        (r#"counter!(format!("etl_{x}_total"));"#, "neither a text nor a constant"),
        (r#"counter!(concat!("etl", "_total"));"#, "neither a text nor a constant"),
        ("counter!($name);", "neither a text nor a constant"),
        ("counter!(name);", "`name` is no constant text of this crate"),
        ("counter!(FOREIGN);", "`FOREIGN` is no constant text of this crate"),
        (r#"const A: &str = "x"; fn f() { const A: &str = "y"; counter!(A); }"#, "several constants"),
        (r#"counter!("etl_a_total", &labels);"#, "write each label as"),
        (r#"counter!(target: "x", "etl_a_total");"#, "neither a text nor a constant"),
        (r#"counter!("etl_a_total", key => "v");"#, "`key` is no constant text"),
        ("use metrics::{counter as count};", "under another name"),
        ("metrics::with_recorder(|it| it);", "count with the macros"),
        (r#"describe_gauge!("etl_g", Unit::Bytes, "Rows of tables.");"#, "the unit is the end of the name"),
        (r#"counter!("etl_a_total", "part" => part);"#, "has the label `part`; say what bounds it"),
    ] {
        let said = judged(&format!("{good}\n{source}"));
        assert!(said.iter().any(|what| what.contains(breach)), "{source}: {said:?}");
    }
    for (name, kind, text, breach) in [
        ("etl_Rows_total", "counter", "Rows of tables.", "snake_case"),
        ("etl__rows_total", "counter", "Rows of tables.", "snake_case"),
        ("rows_total", "counter", "Rows of tables.", "begin with etl_"),
        ("etl_rows", "counter", "Rows of tables.", "end in `_total`"),
        ("etl_rows_total", "gauge", "Rows of tables.", "end in `_total`"),
        ("etl_rows", "histogram", "Rows of tables.", "ends in `_seconds`"),
        ("etl_lag_ms", "gauge", "Rows of tables.", "units are `_seconds`"),
        ("etl_bytes_read_total", "counter", "Rows of tables.", "`_bytes` stands at the end"),
        ("etl_rows_total", "counter", "Rows of tables", "full stop"),
        ("etl_rows_total", "counter", "Rows.", "say first what is measured"),
        ("etl_rows_total", "counter", "Rows of tables. By `x` and so on.", "name a label and its values"),
        ("etl_rows_total", "counter", "Rows of tables. By `x`: `y`.", "lacks the label `x`"),
    ] {
        let said = judged(&format!("describe_{kind}!(\"{name}\", \"{text}\"); {kind}!(\"{name}\");"));
        assert!(said.iter().any(|what| what.contains(breach)), "{name}: {said:?}");
    }
    let labelled = r#"describe_counter!("etl_a_total", "Rows of tables. By `part`: `a`, `b`.");"#;
    for (used, breach) in [
        (r#""part" => "c""#, "counted as `c`, which the description does not list"),
        (r#""part" => "a""#, "lists `b` for `part`, which is never counted"),
        (r#""part" => part, "site" => site"#, "has the label `site`"),
    ] {
        let said = judged(&format!("{labelled} counter!(\"etl_a_total\", {used});"));
        assert!(said.iter().any(|what| what.contains(breach)), "{used}: {said:?}");
    }
}
