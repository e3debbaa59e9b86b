//! Every call of a metrics macro in the crates: what it names, and with which labels.
//!
//! Never guesses: a call that it cannot understand is a breach. What must stay
//! true: a name is a text, or a constant whose text stands in the same crate.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Placed, Token, product_tokens};
use crate::{Breach, is_test, rust, tracked};

/// Ways to count that would not be seen here.
const BYPASSES: &[&str] = &["register_counter", "register_gauge", "register_histogram", "with_recorder"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Counter, Self::Gauge, Self::Histogram];

    /// The macro, and the type on the page.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    /// What a macro of that name counts, and whether it describes.
    fn of(word: &str) -> Option<(Self, bool)> {
        let described = word.strip_prefix("describe_");
        let name = described.unwrap_or(word);
        Self::ALL.into_iter().find(|kind| kind.name() == name).map(|kind| (kind, described.is_some()))
    }
}

#[derive(Debug)]
pub(super) struct Description {
    /// File and line.
    pub(super) place: String,
    /// The crate's folder.
    pub(super) folder: String,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct Use {
    pub(super) place: String,
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Each label with its value where that is a text.
    pub(super) labels: BTreeMap<String, Option<String>>,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) descriptions: Vec<Description>,
    pub(super) uses: Vec<Use>,
    pub(super) breaches: Vec<Breach>,
}

/// All crates of the program.
pub(super) fn program() -> Sources {
    scan(&tracked(|name| {
        let apart = name.starts_with("tests/") || name.starts_with("bench/");
        rust(name) && folder(name).is_some() && !apart && !is_test(name)
    }))
}

/// The crate's folder, of a file that belongs to a program or library.
fn folder(name: &str) -> Option<&str> {
    name.split_once("/src/").map(|(folder, _)| folder)
}

/// Reads files, each with its name from the root of the checkout.
pub(super) fn scan(files: &[(String, String)]) -> Sources {
    let files: Vec<File> = files
        .iter()
        .map(|(name, text)| File { name, folder: folder(name).unwrap_or(""), tokens: product_tokens(text) })
        .collect();
    let mut sources = Sources::default();
    for file in &files {
        // What is in the file itself is meant first, then what is elsewhere in the crate.
        let crates = files.iter().filter(|other| other.folder == file.folder);
        let names = [constants([file]), constants(crates)];
        Scan { file, names: &names, sources: &mut sources }.run();
    }
    sources
}

struct File<'f> {
    name: &'f str,
    folder: &'f str,
    tokens: Vec<Placed>,
}

/// Constants that are texts: several values where several constants have the name.
type Constants = BTreeMap<String, BTreeSet<String>>;

fn constants<'f>(files: impl IntoIterator<Item = &'f File<'f>>) -> Constants {
    let mut found = Constants::new();
    for file in files {
        for (at, (_, token)) in file.tokens.iter().enumerate() {
            if *token != Token::Word("const".to_owned()) {
                continue;
            }
            let after: Vec<&Token> = file.tokens[at + 1..].iter().take(6).map(|(_, token)| token).collect();
            if let [
                Token::Word(name),
                Token::Sign(':'),
                Token::Sign('&'),
                Token::Word(_),
                Token::Sign('='),
                Token::Text(text),
            ] = after[..]
            {
                found.entry(name.clone()).or_default().insert(text.clone());
            }
        }
    }
    found
}

struct Scan<'s> {
    file: &'s File<'s>,
    names: &'s [Constants; 2],
    sources: &'s mut Sources,
}

impl Scan<'_> {
    fn run(&mut self) {
        let tokens = &self.file.tokens;
        for (at, (line, token)) in tokens.iter().enumerate() {
            let Token::Word(word) = token else { continue };
            let place = format!("{}:{line}", self.file.name);
            if BYPASSES.contains(&word.as_str()) {
                self.wrong(&place, format!("{word}: count with the macros, which the catalogue reads"));
            }
            let Some((kind, describes)) = Kind::of(word) else { continue };
            let next = |n: usize| tokens.get(at + n).map(|(_, token)| token);
            if next(1) == Some(&Token::Word("as".to_owned())) && self.file.imports(at) {
                self.wrong(&place, format!("{word} under another name is not found here"));
            }
            if next(1) != Some(&Token::Sign('!')) || !matches!(next(2), Some(Token::Sign('(' | '[' | '{'))) {
                continue;
            }
            let arguments = arguments(&tokens[at + 3..]);
            let read = match describes {
                true => self.description(&place, kind, &arguments),
                false => self.count(&place, kind, &arguments),
            };
            if let Err(what) = read {
                self.wrong(&place, format!("{word}!: {what}"));
            }
        }
    }

    fn wrong(&mut self, place: &str, what: String) {
        self.sources.breaches.push((place.to_owned(), what));
    }

    fn description(&mut self, place: &str, kind: Kind, arguments: &[Vec<Token>]) -> Result<(), String> {
        let [name, text] = arguments else {
            return Err("write a name and a sentence; the unit is the end of the name".to_owned());
        };
        let (name, text) = (self.text(name)?, self.text(text)?);
        let (place, folder) = (place.to_owned(), self.file.folder.to_owned());
        self.sources.descriptions.push(Description { place, folder, kind, name, text });
        Ok(())
    }

    fn count(&mut self, place: &str, kind: Kind, arguments: &[Vec<Token>]) -> Result<(), String> {
        let (name, labels) = arguments.split_first().ok_or("it has no name")?;
        let name = self.text(name)?;
        let mut named = BTreeMap::new();
        for label in labels {
            let arrow = [Token::Sign('='), Token::Sign('>')];
            let at = label.windows(2).position(|pair| pair == arrow);
            let at = at.ok_or("write each label as `\"name\" => value`, with the value in a variable")?;
            let value = match &label[at + 2..] {
                [] => return Err("a label has no value".to_owned()),
                [Token::Text(value)] => Some(value.clone()),
                _ => None,
            };
            named.insert(self.text(&label[..at])?, value);
        }
        self.sources.uses.push(Use { place: place.to_owned(), kind, name, labels: named });
        Ok(())
    }

    /// The text of an argument: written there, or in a constant of this crate.
    fn text(&self, argument: &[Token]) -> Result<String, String> {
        let path = |token: &Token| matches!(token, Token::Word(_) | Token::Sign(':'));
        let word = match argument {
            [Token::Text(text)] => return Ok(text.clone()),
            [before @ .., Token::Word(word)] if before.iter().all(path) => word,
            _ => return Err("a name that is neither a text nor a constant cannot be listed".to_owned()),
        };
        let Some(values) = self.names.iter().find_map(|constants| constants.get(word)) else {
            return Err(format!("`{word}` is no constant text of this crate, so it cannot be listed"));
        };
        match values.iter().collect::<Vec<_>>()[..] {
            [value] => Ok(value.clone()),
            _ => Err(format!("several constants are named `{word}`; give them names of their own")),
        }
    }
}

impl File<'_> {
    /// Whether a token stands in a `use`.
    fn imports(&self, at: usize) -> bool {
        let before = self.tokens[..at].iter().rev().map(|(_, token)| token);
        before
            .take_while(|token| **token != Token::Sign(';'))
            .any(|token| *token == Token::Word("use".to_owned()))
    }
}

/// The arguments of a call, from behind its opening parenthesis.
fn arguments(tokens: &[Placed]) -> Vec<Vec<Token>> {
    let (mut depth, mut found) = (0_usize, vec![Vec::new()]);
    for (_, token) in tokens {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') if depth == 0 => break,
            Token::Sign(')' | ']' | '}') => depth -= 1,
            Token::Sign(',') if depth == 0 => {
                found.push(Vec::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().unwrap().push(token.clone());
    }
    // A comma may stand at the end.
    found.pop_if(|last| last.is_empty());
    found
}
