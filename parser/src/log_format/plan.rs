//! A format into the steps that find its values in a line.
//!
//! Every step ends a value at a byte that the value cannot hold, at a width, or at the
//! end of the line; one value between two such places may hold anything, and is what
//! the values behind it, read backwards, leave. Whatever cannot be found so is refused.
//!
//! Never sees a line. What must stay true: for every line that nginx writes by the
//! format, the steps give the values back exactly.

use super::bytes::ByteSet;
use super::directive::{Directive, Piece};
use super::error::{Ambiguity, FormatError, FormatFault, Place};
use super::escape::Escape;
use super::shape::{Shape, Slot};
use super::variable::{Role, Variable};

/// How the end of a value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    /// At this byte, which is all of the separator.
    Column(u8),
    /// At the first such byte, which stands in the separator behind `before` others.
    Byte { byte: u8, before: usize },
    /// At the first `"` that no backslash escapes, behind `before` bytes of the separator.
    Quote { before: usize },
    /// After so many bytes.
    Width(usize),
    /// At the end of the line, less the last literal. `never` stands in no value.
    Tail { never: Option<u8> },
    /// Where the values behind it begin: up to step `last`, which ends as `anchor` says,
    /// they are found backwards.
    Open { last: usize, anchor: Anchor },
    /// Belongs to an open one before it; its beginning is found from its end.
    Backwards(Back),
}

/// The end of the last value that is found backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Byte { byte: u8, before: usize },
    Quote { before: usize },
    Tail,
}

/// How the beginning of a value is found from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    Width(usize),
    /// Behind the last such byte, and `after` more of the separator before the value.
    Byte {
        byte: u8,
        after: usize,
    },
    Quote {
        after: usize,
    },
}

/// One variable and the literal behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) find: Find,
    pub(super) literal: Box<[u8]>,
    pub(super) slot: Slot,
}

/// A variable of the format, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) offset: usize,
    pub(super) variable: Variable,
}

/// What is done with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) escape: Escape,
    pub(super) prefix: Box<[u8]>,
    /// Of the variables up to the last one that is needed.
    pub(super) steps: Vec<Step>,
    /// The last step must end the line: nothing is behind it in the format.
    pub(super) is_whole: bool,
    pub(super) shape: Shape,
    /// All variables of the format, with the literals behind them.
    pub(super) variables: Vec<(Named, Box<[u8]>)>,
    /// URIs and hosts are taken to hold no blank, as since nginx 1.21.1.
    pub(super) is_recent: bool,
}

/// A variable with all that its end depends on.
struct Field<'a> {
    named: &'a Named,
    literal: &'a [u8],
    text: ByteSet,
}

impl Plan {
    pub(super) fn compile(source: &str, directive: &Directive) -> Result<Self, FormatError> {
        let (prefix, variables) = fold(&directive.pieces);
        let escape = directive.escape;
        if escape == Escape::None
            && let Some((named, _)) = variables.iter().find(|(named, _)| named.variable.bytes.has(b'\n'))
        {
            let fault = FormatFault::BreaksLines { variable: named.name.clone() };
            return Err(FormatError { place: Place::at(source, named.offset), fault });
        }
        let roles: Vec<Option<Role>> = variables.iter().map(|(named, _)| named.variable.role).collect();
        let (shape, slots) =
            Shape::of(&roles, escape).map_err(|fault| FormatError { place: Place::WHOLE, fault })?;
        let needed = slots.iter().rposition(|slot| *slot != Slot::Unneeded).unwrap_or(0);
        let found = |is_recent: bool| {
            let fields = fields(&variables, escape, is_recent);
            finds(&fields, needed, escape)
                .map_err(|(offset, fault)| FormatError { place: Place::at(source, offset), fault })
        };
        // What holds for all versions is better; what holds for today's is enough.
        let (finds, is_recent) = match found(false) {
            Ok(finds) => (finds, false),
            Err(_) => (found(true)?, true),
        };
        let steps = finds.into_iter().zip(&variables).zip(&slots).map(|((find, (_, literal)), slot)| Step {
            find,
            literal: literal.clone(),
            slot: *slot,
        });
        let steps: Vec<Step> = steps.collect();
        Ok(Self {
            escape,
            prefix,
            is_whole: steps.len() == variables.len(),
            steps,
            shape,
            variables,
            is_recent,
        })
    }
}

/// Each variable with the literal behind it.
type Variables = Vec<(Named, Box<[u8]>)>;

/// The literal at the beginning, and the variables. What is commonly written as
/// `$uri$is_args$args` is one value here: its parts cannot be told apart, and need not.
fn fold(pieces: &[Piece]) -> (Box<[u8]>, Variables) {
    let mut prefix = Box::default();
    let mut variables: Variables = Vec::new();
    let mut rest = pieces;
    while let Some(piece) = rest.first() {
        let (name, variable, taken, offset) = match piece {
            Piece::Literal { bytes } => {
                *variables.last_mut().map_or(&mut prefix, |(_, literal)| literal) = bytes.clone().into();
                rest = &rest[1..];
                continue;
            }
            Piece::Variable { name, offset } => match folded(rest) {
                Some((name, variable, taken)) => (name, variable, taken, *offset),
                None => (name.clone(), Variable::named(name), 1, *offset),
            },
        };
        variables.push((Named { name, offset, variable }, Box::default()));
        rest = &rest[taken..];
    }
    // A carriage return at the end belongs to the end of the line, which lines come without.
    if let Some((_, literal)) = variables.last_mut()
        && let Some(text) = literal.strip_suffix(b"\r")
    {
        *literal = text.into();
    }
    (prefix, variables)
}

/// The variables that `pieces` begin with, if they are read as one; their name and number.
fn folded(pieces: &[Piece]) -> Option<(String, Variable, usize)> {
    let names = pieces.iter().map_while(|piece| match piece {
        Piece::Variable { name, .. } => Some(name.as_str()),
        Piece::Literal { .. } => None,
    });
    let names: Vec<&str> = names.take(3).collect();
    let role = |name: &str| Variable::named(name).role;
    let marks = |name: &str| name.eq_ignore_ascii_case("is_args");
    let (variable, taken) = match names[..] {
        [path, mark, query]
            if role(path) == Some(Role::Path) && marks(mark) && role(query) == Some(Role::Query) =>
        {
            (Variable::TARGET, 3)
        }
        [mark, query, ..] if marks(mark) && role(query) == Some(Role::Query) => (Variable::MARKED_QUERY, 2),
        _ => return None,
    };
    Some((names[..taken].join("$"), variable, taken))
}

fn fields(variables: &Variables, escape: Escape, is_recent: bool) -> Vec<Field<'_>> {
    let text = |variable: &Variable| {
        let raw = if is_recent { variable.bytes_now } else { variable.bytes };
        let absent = if variable.may_be_absent { ByteSet::of(escape.absent()) } else { ByteSet::NONE };
        escape.text_of(raw).and(absent)
    };
    variables.iter().map(|(named, literal)| Field { named, literal, text: text(&named.variable) }).collect()
}

type Fault = (usize, FormatFault);

/// How each value up to the last needed one is found.
fn finds(fields: &[Field<'_>], needed: usize, escape: Escape) -> Result<Vec<Find>, Fault> {
    let mut finds: Vec<Find> = Vec::new();
    while finds.len() <= needed {
        let at = finds.len();
        let field = &fields[at];
        let is_last = at + 1 == fields.len();
        if let Some(width) = field.named.variable.width {
            finds.push(Find::Width(width));
        } else if let Some(anchor) = anchor(&fields[at..=at], escape) {
            finds.push(match anchor {
                Anchor::Byte { byte, before: 0 } if field.literal.len() == 1 => Find::Column(byte),
                Anchor::Byte { byte, before } => Find::Byte { byte, before },
                Anchor::Quote { before } => Find::Quote { before },
                Anchor::Tail => Find::Tail { never: None },
            });
        } else if is_last {
            finds.push(Find::Tail { never: never(&finds, field.text) });
        } else {
            open(fields, &mut finds, escape)?;
        }
    }
    Ok(finds)
}

/// A separator of the columns before, if the last value cannot hold it: a line of
/// more columns is of another format.
fn never(finds: &[Find], text: ByteSet) -> Option<u8> {
    finds.iter().rev().find_map(|find| match find {
        Find::Column(byte) | Find::Byte { byte, .. } if !text.has(*byte) => Some(*byte),
        _ => None,
    })
}

/// The byte at which the last of `fields` ends, if nothing before it can hold that:
/// no value, no literal, and not what stands before it in its own literal.
fn anchor(fields: &[Field<'_>], escape: Escape) -> Option<Anchor> {
    let (last, before_last) = fields.split_last()?;
    let mut met = fields.iter().fold(ByteSet::NONE, |met, field| met.and(field.text));
    for field in before_last {
        met = met.and(ByteSet::of(field.literal));
    }
    let literals = before_last.iter().fold(ByteSet::NONE, |set, field| set.and(ByteSet::of(field.literal)));
    let hides_quotes = escape == Escape::Json && !literals.meets(ByteSet::of(b"\"\\"));
    for (before, &byte) in last.literal.iter().enumerate() {
        if !met.has(byte) {
            return Some(Anchor::Byte { byte, before });
        }
        // In JSON a value has `"` only behind a backslash.
        if hides_quotes && byte == b'"' && !last.literal[..before].contains(&b'\\') {
            return Some(Anchor::Quote { before });
        }
        met = met.and(ByteSet::of(&[byte]));
    }
    None
}

/// Adds the next value, which may hold its separator, and those behind it that are
/// found backwards from a place that is certain.
fn open(fields: &[Field<'_>], finds: &mut Vec<Find>, escape: Escape) -> Result<(), Fault> {
    let first = finds.len();
    let mut backs = Vec::new();
    for last in first + 1..fields.len() {
        let Some(back) = back(&fields[first..=last], escape) else {
            return Err(ambiguous(fields, first, last, escape));
        };
        backs.push(Find::Backwards(back));
        let certain = anchor(&fields[first..=last], escape);
        let is_end = last + 1 == fields.len();
        if let Some(anchor) = certain.or(is_end.then_some(Anchor::Tail)) {
            finds.push(Find::Open { last, anchor });
            finds.append(&mut backs);
            return Ok(());
        }
    }
    Err(ambiguous(fields, first, fields.len() - 1, escape))
}

/// How the beginning of the last of `fields` is found from its end.
fn back(fields: &[Field<'_>], escape: Escape) -> Option<Back> {
    let [ahead @ .., before, field] = fields else { return None };
    let literal = before.literal;
    // Only in values may a backslash stand before a `"`, or nobody knows what it escapes.
    let hides_quotes =
        escape == Escape::Json && !ahead.iter().chain([before]).any(|field| field.literal.contains(&b'\\'));
    if let Some(width) = field.named.variable.width {
        return Some(Back::Width(width));
    }
    for (after, &byte) in literal.iter().rev().enumerate() {
        if !field.text.has(byte) {
            return Some(Back::Byte { byte, after });
        }
        if hides_quotes && byte == b'"' {
            return Some(Back::Quote { after });
        }
    }
    None
}

/// Value `first` has no certain end, and value `failed` behind it none to find it by.
fn ambiguous(fields: &[Field<'_>], first: usize, failed: usize, escape: Escape) -> Fault {
    let name = |at: usize| fields[at].named.name.clone();
    for before in [first, failed.saturating_sub(1)] {
        if before < failed && fields[before].literal.is_empty() {
            let fault = FormatFault::SideBySide { before: name(before), behind: name(before + 1) };
            return (fields[before + 1].named.offset, fault);
        }
    }
    let ambiguity = Ambiguity {
        variable: name(first),
        separator: String::from_utf8_lossy(fields[first].literal).into_owned(),
        escape,
        other: (failed > first + 1).then(|| name(failed)),
    };
    (fields[first].named.offset, FormatFault::Ambiguous(ambiguity))
}
