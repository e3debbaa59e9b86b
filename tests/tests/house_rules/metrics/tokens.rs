//! Rust source as words and signs, as far as finding calls of macros needs it.
//!
//! Never builds a tree. What must stay true: what stands in a comment or in a
//! text never looks like code, and each token knows its line.

use std::iter::Peekable;
use std::str::Chars;

/// One token of Rust; comments and lifetimes are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// The value of a text, without quotes and escapes.
    Text(String),
    Number(String),
    Character,
    Sign(char),
}

/// Line, counted from 1, and token.
pub(super) type Placed = (usize, Token);

/// The tokens of a file that end up in the program: items that only tests have are left out.
pub(super) fn product_tokens(source: &str) -> Vec<Placed> {
    without_tests(&tokens(source))
}

fn without_tests(all: &[Placed]) -> Vec<Placed> {
    let only_for_tests: Vec<Token> = tokens("#[cfg(test)]").into_iter().map(|(_, token)| token).collect();
    let mut kept = Vec::with_capacity(all.len());
    let mut at = 0;
    while at < all.len() {
        let here = &all[at..];
        if here.len() >= only_for_tests.len()
            && here.iter().zip(&only_for_tests).all(|((_, found), wanted)| found == wanted)
        {
            at += only_for_tests.len() + item_length(&here[only_for_tests.len()..]);
        } else {
            kept.push(all[at].clone());
            at += 1;
        }
    }
    kept
}

/// Tokens of an item: up to the `;` or the closing brace that ends it.
fn item_length(tokens: &[Placed]) -> usize {
    let mut depth = 0_usize;
    for (at, (_, token)) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(closing @ (')' | ']' | '}')) => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *closing == '}' {
                    return at + 1;
                }
            }
            Token::Sign(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

pub(super) fn tokens(source: &str) -> Vec<Placed> {
    let mut reader = Reader { rest: source.chars().peekable(), line: 1 };
    let mut found = Vec::new();
    while let Some(first) = reader.next() {
        let line = reader.line;
        let token = match first {
            '/' if reader.rest.peek() == Some(&'/') => {
                reader.take_while(|c| c != '\n');
                continue;
            }
            '/' if reader.rest.peek() == Some(&'*') => {
                reader.skip_comment();
                continue;
            }
            '"' => Token::Text(reader.text()),
            '\'' => match reader.quote() {
                Some(token) => token,
                None => continue,
            },
            c if c.is_whitespace() => continue,
            c if c.is_ascii_digit() => Token::Number(reader.number(c)),
            c if c == '_' || c.is_alphabetic() => reader.word(c),
            c => Token::Sign(c),
        };
        found.push((line, token));
    }
    found
}

struct Reader<'s> {
    rest: Peekable<Chars<'s>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while self.rest.peek().is_some_and(|c| wanted(*c)) {
            taken.extend(self.next());
        }
        taken
    }

    /// Comments may stand in comments.
    fn skip_comment(&mut self) {
        let (mut depth, mut before) = (0_usize, '/');
        while let Some(c) = self.next() {
            match (before, c) {
                ('/', '*') => (depth, before) = (depth + 1, ' '),
                ('*', '/') if depth == 1 => return,
                ('*', '/') => (depth, before) = (depth - 1, ' '),
                _ => before = c,
            }
        }
    }

    fn number(&mut self, first: char) -> String {
        let mut number = String::from(first);
        number += &self.take_while(|c| c == '_' || c.is_alphanumeric());
        let mut ahead = self.rest.clone();
        // `1..2` is a range.
        if ahead.next() == Some('.') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
            number.extend(self.next());
            number += &self.take_while(|c| c == '_' || c.is_alphanumeric());
        }
        number
    }

    fn word(&mut self, first: char) -> Token {
        let word = format!("{first}{}", self.take_while(|c| c == '_' || c.is_alphanumeric()));
        if !matches!(word.as_str(), "r" | "br" | "cr") {
            return Token::Word(word);
        }
        let hashes = self.rest.clone().take_while(|c| *c == '#').count();
        if self.rest.clone().nth(hashes) != Some('"') {
            return Token::Word(word);
        }
        for _ in 0..=hashes {
            self.next();
        }
        let (end, mut text) = (format!("\"{}", "#".repeat(hashes)), String::new());
        while let Some(c) = self.next() {
            text.push(c);
            if let Some(whole) = text.strip_suffix(&end) {
                return Token::Text(whole.to_owned());
            }
        }
        Token::Text(text)
    }

    /// The rest of a text in quotes.
    fn text(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => break,
                '\\' => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    // The text goes on at the next line's first word.
                    Some('\n') => drop(self.take_while(char::is_whitespace)),
                    Some(c) => text.push(c),
                    None => {}
                },
                c => text.push(c),
            }
        }
        text
    }

    /// What follows `'`: a character, or a lifetime.
    fn quote(&mut self) -> Option<Token> {
        let mut ahead = self.rest.clone();
        let (first, second) = (ahead.next(), ahead.next());
        if first == Some('\\') {
            self.next();
            self.next();
            self.take_while(|c| c != '\'');
            self.next();
            return Some(Token::Character);
        }
        if second == Some('\'') {
            self.next();
            self.next();
            return Some(Token::Character);
        }
        self.take_while(|c| c == '_' || c.is_alphanumeric());
        None
    }
}

#[test]
fn comments_texts_and_characters_are_no_code() {
    let source = r##"
        // counter!("a")
        /* counter!("b") /* "c" */ */
        let x: &'static str = r#"a "quoted" one"#; '"'; '\''; '\u{7f}'; 0.25; 1..2;
        "two \
         lines""##;
    let found: Vec<Token> = tokens(source).into_iter().map(|(_, token)| token).collect();
    let word = |word: &str| Token::Word(word.to_owned());
    let text = |text: &str| Token::Text(text.to_owned());
    let number = |number: &str| Token::Number(number.to_owned());
    let expected = [
        &[word("let"), word("x"), Token::Sign(':'), Token::Sign('&'), word("str"), Token::Sign('=')]
            as &[_],
        &[text("a \"quoted\" one"), Token::Sign(';'), Token::Character, Token::Sign(';')],
        &[Token::Character, Token::Sign(';'), Token::Character, Token::Sign(';'), number("0.25")],
        &[Token::Sign(';'), number("1"), Token::Sign('.'), Token::Sign('.'), number("2"), Token::Sign(';')],
        &[text("two lines")],
    ];
    assert_eq!(found, expected.concat());
    assert_eq!(tokens("a\n\"b\nc\"\nd").iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 4]);
}

#[test]
fn items_of_tests_are_left_out() {
    let source = "fn a() {}\n#[cfg(test)]\n#[expect(x)]\nmod tests { fn b() { c(); } }\n#[cfg(test)] use d;\nfn e() {}";
    let words: Vec<String> = product_tokens(source)
        .into_iter()
        .filter_map(|(_, token)| match token {
            Token::Word(word) if word != "fn" => Some(word),
            _ => None,
        })
        .collect();
    assert_eq!(words, ["a", "e"]);
}
