//! `docs/data-model.md` says of every column what the schema says of it, and the
//! rows that the program writes have exactly the columns of their tables.
//!
//! The tables between the markers of the page are made from the comments of
//! `storage/sql`: `GOLDEN=write cargo test -p fanal-storage --test data_model`.
#![allow(clippy::unwrap_used, reason = "a test states what must hold by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clickhouse::Row;
use fanal_storage::clickhouse::{ArchiveCountRow, EventRow, LinkRow, OutcomeRow, VisitRow};

#[derive(Debug, PartialEq)]
struct Column {
    name: String,
    kind: String,
    meaning: String,
    /// Whether an insert gives its value: it is neither computed nor has a default.
    is_written: bool,
}

#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<Column>,
}

/// A view, and the names that it shows, where they are not those of a table.
#[derive(Debug)]
struct View {
    name: String,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    /// All columns of a table but these.
    AllBut {
        table: String,
        hidden: Vec<String>,
    },
    Named(Vec<String>),
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The statements of all migrations, without their comments.
fn statements() -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("storage/sql"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        // The program's own notes; no row of the pipeline goes there.
        .filter(|path| path.file_name().is_some_and(|name| name != "base.sql"))
        .collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
        found.extend(code.join("\n").split(";\n").map(|s| s.trim().trim_end_matches(';').to_owned()));
    }
    found.retain(|statement| !statement.is_empty());
    found
}

fn table(statement: &str) -> Option<Table> {
    let rest = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
    let (name, rest) = rest.split_once("\n(\n").unwrap();
    let (body, _) = rest.split_once("\n)\n").unwrap();
    let columns =
        body.lines().map(str::trim).filter(|line| !line.starts_with("INDEX ")).map(column).collect();
    Some(Table { name: name.to_owned(), columns })
}

/// The tables as all statements leave them.
fn tables(statements: &[String]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for statement in statements {
        if let Some(created) = table(statement) {
            tables.push(created);
        } else if let Some((name, after, added)) = added_column(statement) {
            let table = tables.iter_mut().find(|table| table.name == name).unwrap();
            let at = table.columns.iter().position(|column| column.name == after).unwrap();
            table.columns.insert(at + 1, added);
        } else {
            let is_setting =
                statement.starts_with("ALTER TABLE ") && statement.contains("\n    MODIFY SETTING ");
            assert!(
                is_setting || view(statement).is_some(),
                "a statement that this test cannot read: {statement}"
            );
        }
    }
    tables
}

/// The table, the column before the new one, the new one.
fn added_column(statement: &str) -> Option<(&str, &str, Column)> {
    let (name, rest) =
        statement.strip_prefix("ALTER TABLE ")?.split_once("\n    ADD COLUMN IF NOT EXISTS ")?;
    let (line, after) = rest.rsplit_once(" AFTER ").unwrap();
    Some((name, after, column(line)))
}

fn views(statements: &[String]) -> Vec<View> {
    statements.iter().filter_map(|statement| view(statement)).collect()
}

fn column(line: &str) -> Column {
    let (name, rest) = line.split_once(' ').unwrap();
    let (before, after) = rest.split_once(" COMMENT '").unwrap_or_else(|| panic!("no comment: {line}"));
    let kind = [" DEFAULT ", " MATERIALIZED ", " CODEC("]
        .iter()
        .filter_map(|word| before.find(word))
        .min()
        .map_or(before, |at| &before[..at]);
    let (meaning, _) = after.split_once('\'').unwrap();
    let is_written = !before.contains(" DEFAULT ") && !before.contains(" MATERIALIZED ");
    Column { name: name.to_owned(), kind: kind.to_owned(), meaning: meaning.to_owned(), is_written }
}

fn view(statement: &str) -> Option<View> {
    let rest = statement.strip_prefix("CREATE OR REPLACE VIEW ")?;
    let (name, query) = rest.split_once(" AS\nSELECT ").unwrap();
    let (list, from) = query.split_once("\nFROM").unwrap();
    let shown = match list.strip_prefix("* EXCEPT (") {
        Some(rest) => {
            let (hidden, more) = rest.split_once(')').unwrap();
            let table = from.split_whitespace().next().unwrap().to_owned();
            // `*` leaves computed columns out, so the view names them.
            assert!(more.starts_with(", "), "{name}: {more}");
            Shown::AllBut { table, hidden: hidden.split(", ").map(str::to_owned).collect() }
        }
        None => Shown::Named(list.split(", ").map(shown_name).collect()),
    };
    Some(View { name: name.to_owned(), shown })
}

/// `max(linked_at) AS last_linked_at` shows `last_linked_at`.
fn shown_name(item: &str) -> String {
    item.rsplit_once(" AS ").map_or(item, |(_, name)| name).to_owned()
}

/// The columns that the page shows under `name`.
fn rows<'c>(columns: impl Iterator<Item = &'c Column>) -> String {
    let mut text = "| column | type | meaning |\n|---|---|---|\n".to_owned();
    for column in columns {
        text.push_str(&format!("| `{}` | `{}` | {} |\n", column.name, column.kind, column.meaning));
    }
    text
}

/// What must stand between the markers: name of the table or view, text.
fn expected() -> Vec<(String, String)> {
    let statements = statements();
    let tables = tables(&statements);
    let views = views(&statements);
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut partly_shown = Vec::new();
    for view in &views {
        let Shown::AllBut { table: of, hidden } = &view.shown else { continue };
        let table = tables.iter().find(|table| table.name == *of).unwrap();
        let is_hidden = |column: &&Column| hidden.contains(&column.name);
        texts.push((view.name.clone(), rows(table.columns.iter().filter(|c| !is_hidden(c)))));
        texts.push((table.name.clone(), rows(table.columns.iter().filter(is_hidden))));
        partly_shown.push(of);
    }
    for table in tables.iter().filter(|table| !partly_shown.contains(&&table.name)) {
        texts.push((table.name.clone(), rows(table.columns.iter())));
    }
    texts
}

fn markers(name: &str) -> (String, String) {
    (format!("<!-- columns of {name}, from storage/sql -->\n"), format!("<!-- end of {name} -->"))
}

/// The page with `text` between the markers of `name`.
fn replaced(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = markers(name);
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("the page has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("the page has no {end}"));
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn the_page_shows_every_column_as_the_schema_describes_it() {
    let path = root().join("docs/data-model.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let right = expected().iter().fold(page.clone(), |page, (name, text)| replaced(&page, name, text));
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &right).unwrap();
    } else {
        assert!(page == right, "docs/data-model.md is not up to date; run this test with GOLDEN=write");
    }
}

#[test]
fn a_view_of_its_own_shape_is_on_the_page_with_exactly_its_columns() {
    let page = std::fs::read_to_string(root().join("docs/data-model.md")).unwrap();
    let mut seen = 0;
    for view in views(&statements()) {
        let Shown::Named(names) = view.shown else { continue };
        let (_, section) = page.split_once(&format!("\n## `{}`", view.name)).unwrap();
        let listed: Vec<&str> = section
            .lines()
            .skip_while(|line| !line.starts_with("| column"))
            .skip(2)
            .map_while(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        assert_eq!(listed, names, "{}", view.name);
        seen += 1;
    }
    assert!(seen > 0, "no such view found; the search is broken");
}

/// The names under which an insert gives a column: one for each part of a nested one.
fn inserted(column: &Column) -> Vec<String> {
    let Some(parts) = column.kind.strip_prefix("Nested(") else { return vec![column.name.clone()] };
    let mut names = Vec::new();
    let mut depth = 0;
    for part in parts.split_inclusive(['(', ')', ',']) {
        // A comma inside of a type, as in `Decimal(18, 4)`, begins no part.
        if depth == 0 && part.trim_start().starts_with(|c: char| c.is_ascii_lowercase()) {
            names.push(format!("{}.{}", column.name, part.split_whitespace().next().unwrap()));
        }
        depth += i32::from(part.ends_with('(')) - i32::from(part.ends_with(')'));
    }
    names
}

#[test]
fn rows_are_written_with_exactly_the_columns_of_their_table() {
    let tables = tables(&statements());
    let written: [(&str, &[&str]); 5] = [
        ("event_rows", EventRow::COLUMN_NAMES),
        ("visit_rows", VisitRow::COLUMN_NAMES),
        ("outcome_rows", OutcomeRow::COLUMN_NAMES),
        ("archive_file_counts", ArchiveCountRow::COLUMN_NAMES),
        ("visitor_link_rows", LinkRow::COLUMN_NAMES),
    ];
    assert_eq!(written.len(), tables.len(), "a table without a row, or a row without a table");
    for (name, columns) in written {
        let table = tables.iter().find(|table| table.name == name).unwrap();
        let of_table: BTreeSet<String> =
            table.columns.iter().filter(|column| column.is_written).flat_map(inserted).collect();
        let of_row: BTreeSet<String> = columns.iter().map(|&column| column.to_owned()).collect();
        assert_eq!(of_row, of_table, "{name}");
    }
}
