//! A plan over a line: where each value stands.
//!
//! Never decodes, never allocates. What must stay true: it does what
//! `parser/tests/twin/log_format.rs` does byte by byte, on any bytes.

use super::plan::{Anchor, Back, Find, Plan, Step};
use super::shape::Slot;

/// The step at which a line turned out to be of another format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misfit(pub(super) usize);

impl Plan {
    /// Gives each value with the number of its step. Those of steps that are found
    /// backwards come from the last to the first.
    #[inline]
    pub(super) fn locate<'a>(
        &self,
        line: &'a [u8],
        mut found: impl FnMut(usize, Slot, &'a [u8]),
    ) -> Result<(), Misfit> {
        let mut rest = after(line, &self.prefix).ok_or(Misfit(0))?;
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            if let Find::Column(byte) = step.find {
                let end = memchr::memchr(byte, rest).ok_or(Misfit(at))?;
                found(at, step.slot, &rest[..end]);
                rest = &rest[end + 1..];
                at += 1;
                continue;
            }
            if let Find::Open { last, anchor } = step.find {
                rest = self.backwards(at, last, anchor, rest, &mut found)?;
                at = last + 1;
                continue;
            }
            let end = step.end(rest).ok_or(Misfit(at))?;
            let (value, behind) = rest.split_at_checked(end).ok_or(Misfit(at))?;
            rest = after(behind, &step.literal).ok_or(Misfit(at))?;
            found(at, step.slot, value);
            at += 1;
        }
        if self.is_whole && !rest.is_empty() {
            return Err(Misfit(self.steps.len() - 1));
        }
        Ok(())
    }

    /// The values of steps `first` to `last`; gives what stands behind them.
    fn backwards<'a>(
        &self,
        first: usize,
        last: usize,
        anchor: Anchor,
        text: &'a [u8],
        found: &mut impl FnMut(usize, Slot, &'a [u8]),
    ) -> Result<&'a [u8], Misfit> {
        let literal = &*self.steps[last].literal;
        let end = match anchor {
            Anchor::Byte { byte, before } => memchr::memchr(byte, text).and_then(|at| at.checked_sub(before)),
            Anchor::Quote { before } => first_quote(text).and_then(|at| at.checked_sub(before)),
            Anchor::Tail => text.len().checked_sub(literal.len()),
        };
        let end = end.ok_or(Misfit(first))?;
        let rest = text[end..].strip_prefix(literal).ok_or(Misfit(last))?;
        let mut text = &text[..end];
        for at in (first + 1..=last).rev() {
            let (step, before) = (&self.steps[at], &self.steps[at - 1]);
            let Find::Backwards(back) = step.find else { return Err(Misfit(at)) };
            let begin = match back {
                Back::Width(width) => text.len().checked_sub(width),
                Back::Byte { byte, after } => memchr::memrchr(byte, text).map(|found| found + 1 + after),
                Back::Quote { after } => last_quote(text).map(|found| found + 1 + after),
            };
            let (ahead, value) = begin.and_then(|begin| text.split_at_checked(begin)).ok_or(Misfit(at))?;
            text = ahead.strip_suffix(&*before.literal).ok_or(Misfit(at - 1))?;
            found(at, step.slot, value);
        }
        found(first, self.steps[first].slot, text);
        Ok(rest)
    }
}

impl Step {
    /// Where the value ends that `text` begins with.
    fn end(&self, text: &[u8]) -> Option<usize> {
        match self.find {
            Find::Byte { byte, before } => memchr::memchr(byte, text)?.checked_sub(before),
            Find::Quote { before } => first_quote(text)?.checked_sub(before),
            Find::Width(width) => Some(width),
            Find::Tail { never } => {
                let end = text.len().checked_sub(self.literal.len())?;
                let holds = |byte| memchr::memchr(byte, &text[..end]).is_some();
                (!never.is_some_and(holds)).then_some(end)
            }
            Find::Column(_) | Find::Open { .. } | Find::Backwards(_) => None,
        }
    }
}

/// What stands behind `literal`. Most are too short to be worth a call.
#[inline]
fn after<'a>(text: &'a [u8], literal: &[u8]) -> Option<&'a [u8]> {
    const SHORT: usize = 8;
    let (head, rest) = text.split_at_checked(literal.len())?;
    let is_same = match literal.len() <= SHORT {
        true => head.iter().zip(literal).all(|(a, b)| a == b),
        false => head == literal,
    };
    is_same.then_some(rest)
}

/// The first `"` behind an even number of backslashes.
fn first_quote(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'"', text).find(|at| !is_escaped(&text[..*at]))
}

/// The last `"` behind an even number of backslashes.
fn last_quote(text: &[u8]) -> Option<usize> {
    memchr::memrchr_iter(b'"', text).find(|at| !is_escaped(&text[..*at]))
}

fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}
