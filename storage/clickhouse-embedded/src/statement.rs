//! The outline of a statement: is it an insert with data, which output format
//! does it name, where does its data begin.
//!
//! Duty: find clauses by tokens. It never judges whether the SQL is right; the
//! engine's parser does. What must stay true: bytes after the start of an
//! insert's data are never looked at as SQL.

use crate::lexer::{Kind, Lexer, Token};

/// What a request asks for, as far as the front must know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outline {
    /// No token at all.
    Empty,
    /// An insert that takes its rows from data after the statement.
    InsertData(InsertData),
    /// Anything else.
    Other(Other),
}

/// An insert with data: `text[..head_end]` plus `settings` is the statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InsertData {
    pub(crate) head_end: usize,
    /// A SETTINGS clause that stood after FORMAT and belongs into the head.
    pub(crate) settings: Option<(usize, usize)>,
    /// `None` when the statement names no format.
    pub(crate) format: Option<String>,
    pub(crate) data_start: usize,
    /// Rows from a file named in the statement, which only a local client can read.
    pub(crate) from_file: bool,
}

/// A statement that is not an insert with data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Other {
    /// First word, upper case; `(` counts as a word.
    pub(crate) first: String,
    /// Only one word, so possibly a command of the local client ("exit").
    pub(crate) single_word: bool,
    /// Output format named by the statement.
    pub(crate) format: Option<String>,
    /// Where a clause that stands before FORMAT can be put.
    pub(crate) before_format: usize,
    /// `INTO OUTFILE`, which a server refuses.
    pub(crate) into_outfile: bool,
    /// Totals, extremes or a setting that wraps the rows: the answer is not
    /// rows alone, so pieces of it cannot be joined.
    pub(crate) more_than_rows: bool,
    /// `INSERT ... SELECT ... FROM input(...)`.
    pub(crate) input_function: bool,
    /// An insert that holds a select.
    pub(crate) insert_select: bool,
}

impl Other {
    /// Whether the engine can hand out the answer piece by piece.
    pub(crate) fn is_select(&self) -> bool {
        matches!(self.first.as_str(), "SELECT" | "WITH" | "(" | "FROM") && !self.insert_select
    }
}

/// Reads the outline of the text; what follows an insert's head is not read.
pub(crate) fn outline(text: &[u8]) -> Outline {
    let mut lexer = Lexer::new(text).peekable();
    let Some(first) = lexer.peek().copied() else { return Outline::Empty };
    if first.is_word(text, "INSERT") {
        if let Some(insert) = insert_data(text) {
            return Outline::InsertData(insert);
        }
        return Outline::Other(Other { insert_select: true, ..other(text, first) });
    }
    Outline::Other(other(text, first))
}

/// `None` when the insert takes its rows from a select.
fn insert_data(text: &[u8]) -> Option<InsertData> {
    let mut lexer = Lexer::new(text).peekable();
    let mut end = 0;
    let mut from_file = false;
    while let Some(token) = lexer.next() {
        if token.kind == Kind::Open && token.depth == 0 {
            let next = lexer.peek();
            if next.is_some_and(|next| next.is_word(text, "SELECT") || next.is_word(text, "WITH")) {
                return None;
            }
        }
        if token.depth == 0 && token.kind == Kind::Word {
            if token.is_word(text, "SELECT") || token.is_word(text, "WITH") {
                return None;
            }
            from_file |= token.is_word(text, "INFILE");
            if token.is_word(text, "VALUES") {
                return Some(InsertData {
                    head_end: token.start,
                    settings: None,
                    format: Some("Values".to_owned()),
                    data_start: token.end,
                    from_file,
                });
            }
            if token.is_word(text, "FORMAT")
                && let Some(name) = lexer.peek().copied().filter(|next| next.kind == Kind::Word)
            {
                return Some(formatted(text, token.start, name, from_file));
            }
        }
        end = token.end;
    }
    // A trailing semicolon is no part of the head.
    let head_end = text[..end].strip_suffix(b";").map_or(end, <[u8]>::len);
    Some(InsertData { head_end, settings: None, format: None, data_start: text.len(), from_file })
}

fn formatted(text: &[u8], head_end: usize, name: Token, from_file: bool) -> InsertData {
    let settings = settings_after(text, name.end);
    let mut data_start = settings.map_or(name.end, |(_, end)| end);
    while matches!(text.get(data_start), Some(b' ' | b'\t' | b'\r' | b'\x0c' | b';')) {
        data_start += 1;
    }
    if text.get(data_start) == Some(&b'\n') {
        data_start += 1;
    }
    InsertData { head_end, settings, format: Some(name.text(text)), data_start, from_file }
}

/// Span of `SETTINGS name = value, ...` that follows the format's name.
fn settings_after(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut lexer = Lexer::new(&text[from..]);
    let tail = &text[from..];
    let first = lexer.next().filter(|token| token.is_word(tail, "SETTINGS"))?;
    let mut end = None;
    loop {
        lexer.next().filter(|token| token.kind == Kind::Word)?;
        lexer.next().filter(|token| token.is_mark(tail, b'='))?;
        let mut value = lexer.next()?;
        if value.is_mark(tail, b'-') {
            value = lexer.next()?;
        }
        end = Some(value.end).or(end);
        let mut ahead = Lexer::new(&tail[value.end..]);
        if !ahead.next().is_some_and(|next| next.is_mark(&tail[value.end..], b',')) {
            return end.map(|end| (from + first.start, from + end));
        }
        lexer.next();
    }
}

fn other(text: &[u8], first: Token) -> Other {
    let tokens: Vec<Token> = Lexer::new(text).collect();
    let mut found = Other { first: first.text(text).to_ascii_uppercase(), ..Other::default() };
    let meaningful = tokens.iter().rev().find(|token| !token.is_mark(text, b';'));
    found.before_format = meaningful.map_or(0, |token| token.end);
    found.single_word = first.kind == Kind::Word && meaningful.is_none_or(|last| last.start == first.start);
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1);
        if token.kind != Kind::Word {
            continue;
        }
        if ["TOTALS", "EXTREMES", "OUTPUT_FORMAT_JSON_ARRAY_OF_ROWS"].iter().any(|w| token.is_word(text, w)) {
            found.more_than_rows = true;
        }
        if token.is_word(text, "INPUT") && next.is_some_and(|next| next.kind == Kind::Open) {
            found.input_function = true;
        }
        if token.depth == 0
            && token.is_word(text, "INTO")
            && next.is_some_and(|next| next.is_word(text, "OUTFILE"))
        {
            found.into_outfile = true;
        }
        if token.depth == 0 && token.is_word(text, "INSERT") {
            found.insert_select = true;
        }
        if token.depth == 0 && token.is_word(text, "FORMAT") {
            let after = tokens.get(index + 2);
            let ends = after.is_none_or(|after| {
                after.is_mark(text, b';')
                    || after.is_word(text, "SETTINGS")
                    || after.is_word(text, "INTO")
                    || after.is_word(text, "PARALLEL")
            });
            if ends && let Some(name) = next.filter(|next| next.kind == Kind::Word) {
                found.format = Some(name.text(text));
                found.before_format = token.start;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(text: &str) -> (String, Option<String>, String) {
        match outline(text.as_bytes()) {
            Outline::InsertData(found) => {
                let settings = found.settings.map_or("", |(start, end)| &text[start..end]);
                let head = format!("{}{settings}", &text[..found.head_end]);
                (head, found.format, text[found.data_start..].to_owned())
            }
            unexpected => panic!("{text}: {unexpected:?}"),
        }
    }

    fn query(text: &str) -> Other {
        match outline(text.as_bytes()) {
            Outline::Other(found) => found,
            unexpected => panic!("{text}: {unexpected:?}"),
        }
    }

    #[test]
    fn insert_is_split_before_its_data() {
        let cases = [
            ("INSERT INTO t VALUES (1)", "INSERT INTO t ", Some("Values"), " (1)"),
            ("INSERT INTO t (a, format) FORMAT CSV\n\n1", "INSERT INTO t (a, format) ", Some("CSV"), "\n1"),
            ("insert into t format RowBinary", "insert into t ", Some("RowBinary"), ""),
            ("INSERT INTO t FORMAT TSV  \n x", "INSERT INTO t ", Some("TSV"), " x"),
            ("/* FORMAT X */ INSERT INTO t", "/* FORMAT X */ INSERT INTO t", None, ""),
            (
                "INSERT INTO t FORMAT CSV SETTINGS a = 1, b='x'\n5",
                "INSERT INTO t SETTINGS a = 1, b='x'",
                Some("CSV"),
                "5",
            ),
            ("INSERT INTO `FORMAT CSV` FORMAT TSV\n1", "INSERT INTO `FORMAT CSV` ", Some("TSV"), "1"),
        ];
        for (text, head, format, data) in cases {
            assert_eq!(insert(text), (head.to_owned(), format.map(str::to_owned), data.to_owned()), "{text}");
        }
    }

    #[test]
    fn insert_from_a_select_is_no_insert_with_data() {
        for text in
            ["INSERT INTO t SELECT 1", "INSERT INTO t (a) WITH 1 AS x SELECT x", "INSERT INTO t (SELECT 1)"]
        {
            assert!(query(text).insert_select, "{text}");
        }
        assert!(query("INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV 1").input_function);
    }

    #[test]
    fn output_format_is_found_at_the_end_only() {
        assert_eq!(query("SELECT 1 FORMAT JSON").format.as_deref(), Some("JSON"));
        assert_eq!(query("SELECT 1 FORMAT JSON SETTINGS a=1;").format.as_deref(), Some("JSON"));
        assert_eq!(query("SELECT format FROM t").format, None);
        assert_eq!(query("SELECT 'x FORMAT JSON'").format, None);
        assert_eq!(query("SELECT 1 -- FORMAT JSON").format, None);
        assert_eq!(query("SELECT (SELECT 1 FORMAT JSON)").format, None);
    }

    #[test]
    fn outfile_and_totals_are_seen() {
        assert!(query("SELECT 1 INTO OUTFILE 'x'").into_outfile);
        assert!(!query("SELECT 'INTO OUTFILE'").into_outfile);
        assert!(query("SELECT k FROM t GROUP BY k WITH TOTALS").more_than_rows);
        assert!(query("exit").single_word);
        assert!(query("exit;").single_word);
        assert_eq!(outline(b" -- nothing\n"), Outline::Empty);
    }
}
