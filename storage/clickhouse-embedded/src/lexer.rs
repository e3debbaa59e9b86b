//! Tokens of ClickHouse SQL: just enough to see words, quotes, comments and
//! nesting.
//!
//! Duty: never take a word inside of a text, a quoted name or a comment for a
//! keyword. It reads bytes, allocates nothing, and ends on any input.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword, a bare name or a number.
    Word,
    /// A text or a quoted name.
    Quoted,
    /// `(`, `[` or `{`.
    Open,
    /// Any other sign.
    Mark,
}

/// A token by its place; `depth` counts the brackets around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) depth: usize,
}

impl Token {
    pub(crate) fn is_word(&self, text: &[u8], word: &str) -> bool {
        self.kind == Kind::Word && text[self.start..self.end].eq_ignore_ascii_case(word.as_bytes())
    }

    pub(crate) fn is_mark(&self, text: &[u8], mark: u8) -> bool {
        self.kind == Kind::Mark && text[self.start] == mark
    }

    pub(crate) fn text(&self, text: &[u8]) -> String {
        String::from_utf8_lossy(&text[self.start..self.end]).into_owned()
    }
}

/// Walks over the tokens of a text.
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn past(&self, needle: &[u8], from: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        memchr::memmem::find(rest, needle).map_or(self.text.len(), |found| from + found + needle.len())
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            match rest {
                [first, ..] if first.is_ascii_whitespace() || *first == 0x0b => self.at += 1,
                [b'-', b'-', ..] | [b'#', b' ' | b'!', ..] => self.at = self.past(b"\n", self.at),
                [b'/', b'*', ..] => self.at = self.past(b"*/", self.at + 2),
                _ => return,
            }
        }
    }

    /// End of a quoted run; backslash and doubled quote both escape.
    fn quoted_end(&self, quote: u8) -> usize {
        let mut at = self.at + 1;
        while let Some(byte) = self.text.get(at) {
            if *byte == b'\\' {
                at += 2;
            } else if *byte == quote {
                if self.text.get(at + 1) != Some(&quote) {
                    return at + 1;
                }
                at += 2;
            } else {
                at += 1;
            }
        }
        self.text.len()
    }

    /// End of `$tag$ ... $tag$`, if one begins here.
    fn heredoc_end(&self) -> Option<usize> {
        let rest = &self.text[self.at..];
        let tag = 1 + rest[1..].iter().position(|byte| !is_word_byte(*byte))?;
        if rest[tag] != b'$' {
            return None;
        }
        let mark = &rest[..=tag];
        let found = memchr::memmem::find(&rest[mark.len()..], mark)?;
        Some(self.at + found + 2 * mark.len())
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let first = *self.text.get(self.at)?;
        let start = self.at;
        let mut depth = self.depth;
        let (kind, end) = match first {
            b'\'' | b'"' | b'`' => (Kind::Quoted, self.quoted_end(first)),
            b'$' => match self.heredoc_end() {
                Some(end) => (Kind::Quoted, end),
                None => (Kind::Mark, start + 1),
            },
            b'(' | b'[' | b'{' => {
                self.depth += 1;
                (Kind::Open, start + 1)
            }
            b')' | b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                depth = self.depth;
                (Kind::Mark, start + 1)
            }
            byte if is_word_byte(byte) => {
                let rest = &self.text[start..];
                let length = rest.iter().position(|byte| !is_word_byte(*byte)).unwrap_or(rest.len());
                (Kind::Word, start + length)
            }
            _ => (Kind::Mark, start + 1),
        };
        self.at = end.min(self.text.len());
        Some(Token { kind, start, end: self.at, depth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_hide_words() {
        let text = br#"SELECT 'it''s \' x', "a b", `c``d` /* x ( */ -- y
            $t$ ( $t$ (z)"#;
        let words: Vec<String> =
            Lexer::new(text).filter(|t| t.kind == Kind::Word).map(|t| t.text(text)).collect();
        assert_eq!(words, ["SELECT", "z"]);
    }

    #[test]
    fn any_bytes_come_to_an_end() {
        for text in [&b"'"[..], b"\\", b"'\\", b"$", b"$a", b"/*", b"--", b"((((", b"))))", b"\xff\xfe\x00"] {
            assert!(Lexer::new(text).count() <= text.len());
        }
    }
}
