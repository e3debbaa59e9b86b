//! `docs/outcomes.md` lists exactly the reasons that there are.
//!
//! `GOLDEN=write cargo test -p fanal-parser --test outcomes` rewrites the page.

use std::path::Path;

use fanal_model::RejectReason;

fn page() -> String {
    let mut page = String::from(
        "# Outcomes\n\n\
         Every tracking line ends in exactly one of these. The names stand in the dead letters, in `ledger` and in the\n\
         metrics, and do not change. This page is written by a test of the parser; see [protocol.md](protocol.md) for the rules.\n\n\
         | outcome | meaning and remedy |\n|---|---|\n\
         | `accepted` | The line is durable in the event log. |\n",
    );
    for reason in RejectReason::ALL {
        page += &format!("| `{}` | {} |\n", reason.name(), reason.explanation());
    }
    page
}

#[test]
fn the_page_of_outcomes_lists_every_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/outcomes.md");
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "write") {
        std::fs::write(&path, page()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, page(), "rewrite docs/outcomes.md with GOLDEN=write");
}
