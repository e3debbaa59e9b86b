//! `fanal parse`: what an operator sees of a log format and of a log, without any data folder.

use std::process::Command;
use std::time::Duration;

use fanal_tests::{Folder, fanal, run};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const LOG: &str = concat!(
    r#"203.0.113.9 - - [14/Nov/2023:22:13:20 +0000] "GET /visit/events?siteCode=shop&eventType=activity&visitorCode=a HTTP/1.1" 204 0 "-" "A \x22B\x22""#,
    "\n",
    r#"203.0.113.9 - - [14/Nov/2023:22:13:21 +0000] "POST /visit/events?siteCode=shop HTTP/1.1" 204 0 "-" "A""#,
    "\n",
    r#"203.0.113.9 - - [14/Nov/2023:22:13:22 +0000] "GET / HTTP/1.1" 200 612 "-" "A""#,
    "\n\nnot a line of nginx\n",
);

fn parse(words: &[&str]) -> String {
    let output = run(Command::new(fanal()).arg("parse").args(words), LIMIT);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    output.stdout
}

#[test]
fn a_format_is_explained_with_what_became_of_each_field() {
    let folder = Folder::new("parse");
    let file = folder.join("access.log");
    std::fs::write(&file, LOG).unwrap();
    let file = file.to_str().unwrap();
    let words = ["--explain", "--log-format", "combined", "--lines", "2", file];
    let text = parse(&words);
    for part in [
        "what the next value leaves, backwards from the first `\"`",
        "without `$request_body`: every POST is rejected",
        "line 1: request (site shop, at 1700000000.000, client address 203.0.113.9",
        "A \"B\"",
        "line 2: malformed_log_line (at 1700000001.000, a POST whose body is not in the log",
    ] {
        assert!(text.contains(&part.escape_debug().to_string()) || text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("line 3"), "{text}");
    let json: Value = serde_json::from_str(&parse(&[&words[..], &["--json"]].concat())).unwrap();
    assert_eq!(json["format"]["escape"], "default");
    assert_eq!(json["lines"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["lines"][0]["fields"][7]["decoded"], "A \"B\"");
    assert_eq!(json["lines"][1]["outcome"], "malformed_log_line");
    assert!(parse(&["--explain"]).contains("$request_body"), "without a log the plan alone");
}

#[test]
fn a_whole_log_is_counted_by_how_its_lines_would_end() {
    let folder = Folder::new("parse-count");
    let file = folder.join("access.log");
    std::fs::write(&file, LOG).unwrap();
    let json = parse(&["--json", "--log-format", "combined", file.to_str().unwrap()]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["lines"], &json["requests"], &json["tracking_lines"]),
        (&5.into(), &1.into(), &1.into())
    );
    assert_eq!(json["ignored"]["not_tracking"], 1);
    assert_eq!(json["ignored"]["empty_line"], 1);
    assert_eq!(json["rejected"]["malformed_log_line"], 2);
    assert_eq!(json["examples"][1]["line"], 5);
}
