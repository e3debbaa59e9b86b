//! Rules on crates: who may know whom, licences, sources.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::{Breach, judge, root};

const LIBRARIES: &[&str] = &["fanal-model", "fanal-parser", "fanal-storage", "fanal-service"];
/// What is kept on servers, in crates of their own: their clients are heavy to build.
const INGEST: &[&str] = &["fanal-model", "fanal-parser", "fanal-storage", "fanal-service", "fanal-kafka"];
const ETL: &[&str] =
    &["fanal-model", "fanal-parser", "fanal-storage", "fanal-service", "fanal-kafka", "fanal-profiles"];

/// Each crate with the crates of the project that it may depend on, for its
/// tests as well. A new arrow changes ARCHITECTURE.md in the same commit.
fn arrows() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("fanal-model", &[] as &[&str]),
        ("fanal-parser", &["fanal-model"]),
        ("fanal-clickhouse-embedded", &[]),
        ("fanal-storage", &["fanal-model", "fanal-clickhouse-embedded"]),
        ("fanal-kafka", &["fanal-model", "fanal-storage"]),
        ("fanal-hdfs", &["fanal-model", "fanal-storage"]),
        ("fanal-profiles", &["fanal-model"]),
        ("fanal-service", &["fanal-model"]),
        ("fanal-ingest", INGEST),
        ("fanal-etl", ETL),
        ("fanal-delivery", LIBRARIES),
        ("fanal-admin", LIBRARIES),
        (
            "fanal",
            &[
                "fanal-model",
                "fanal-parser",
                "fanal-storage",
                "fanal-clickhouse-embedded",
                "fanal-kafka",
                "fanal-hdfs",
                "fanal-profiles",
                "fanal-service",
                "fanal-ingest",
                "fanal-etl",
                "fanal-delivery",
                "fanal-admin",
            ],
        ),
        ("fanal-bench", &[]),
        ("fanal-tests", &[]),
    ])
}

fn metadata(arguments: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn crates_know_only_what_the_architecture_draws() {
    let arrows = arrows();
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().unwrap();
    let names: Vec<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let mut breaches: Vec<Breach> = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = arrows.get(name) else {
            breaches.push((name.to_owned(), "a new crate: say here what it may know".to_owned()));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if names.contains(&on) && !allowed.contains(&on) {
                breaches.push((name.to_owned(), format!("must not depend on {on}")));
            }
        }
    }
    judge("crate arrows", breaches);
}

#[test]
fn every_dependency_is_published_and_freely_licensed() {
    let allowed = allowed_licences();
    assert!(
        allowed.iter().any(|licence| licence == "Apache-2.0"),
        "deny.toml was not understood: {allowed:?}"
    );
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let mut breaches: Vec<Breach> = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let place = format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        let Some(source) = package["source"].as_str() else { continue };
        if !source.starts_with("registry+") || !source.contains("crates.io-index") {
            breaches.push((place.clone(), format!("comes from {source}; only crates.io can be built again")));
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !satisfied(licence, &allowed) {
            breaches.push((place, format!("licence {licence:?} is not in the list of deny.toml")));
        }
    }
    judge("licences", breaches);
}

/// The list of `[licenses] allow` in deny.toml.
fn allowed_licences() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with the allowed licences: `OR` is a
/// choice, `AND` binds stronger, `/` is an old way to write `OR`.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

fn any(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words, allowed);
        return words.next() == Some(")") && met;
    }
    let Some(mut licence) = words.next().map(str::to_owned) else { return false };
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence)
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (expression, met) in [
        ("MIT OR GPL-3.0", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Apache-2.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-3.0 OR MIT AND GPL-3.0", false),
        ("GPL-3.0", false),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), met, "{expression}");
    }
}
