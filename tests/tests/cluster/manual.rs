//! The files that the manual shows for several machines are configurations that pass the check.

use fanal_tests::{Folder, checkout, fanal, run};
use std::process::Command;

use crate::support::LIMIT;

/// The block of TOML behind a comment such as `<!-- etl node -->`.
fn block(page: &str, name: &str) -> String {
    let (_, rest) =
        page.split_once(&format!("<!-- {name} -->\n```toml\n")).unwrap_or_else(|| panic!("no {name}"));
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_files_for_several_machines_are_accepted() {
    let folder = Folder::new("manual");
    let page = std::fs::read_to_string(checkout().join("docs/operations.md")).unwrap();
    for node in ["ingest node", "etl node", "admin node"] {
        let file = folder.join("fanal.toml");
        std::fs::write(&file, format!("{}\n{}", block(&page, "every node"), block(&page, node))).unwrap();
        let output = run(Command::new(fanal()).args(["config", "check"]).arg(&file), LIMIT);
        assert_eq!(output.code, 0, "{node}: {}{}", output.stdout, output.stderr);
    }
}
