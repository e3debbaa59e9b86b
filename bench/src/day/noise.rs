//! What else stands in logs: repeats, failures, bad lines, other paths, garbage.
//!
//! Duty: plan it so that the truth stays known: a repeat adds no event, a failed request adds nothing, a bad line costs
//! none of its neighbours.

use super::account::{Day, Sending};
use super::case::Case;
use super::model::{Defect, Form, GARBAGE, Garbage, Kind, Line, NO_VISIT, Request, index};
use super::values::{draft, event_kind, spoil};
use super::visitor;
use crate::random::{Random, low32};

const BAD_STATUS: [u16; 9] = [400, 401, 403, 404, 413, 429, 499, 500, 503];
const MINUTE_MS: u64 = 60 * 1000;

/// The body's first attempt failed 5 s before; nothing of it counts.
pub(super) fn maybe_failed_first(day: &mut Day, random: &mut Random, sending: Sending, span: (u32, u16)) {
    if random.chance(30) && sending.at_ms >= day.start_ms + 5_000 {
        day.cases.count(Case::FailedFirst);
        let node = day.any_node(random);
        let status = *random.pick(&[499, 500, 503]);
        day.send(Sending { at_ms: sending.at_ms - 5_000, node, status, ..sending }, span, 0);
    }
}

/// The client sends the very same again; true where it does.
pub(super) fn maybe_repeat(day: &mut Day, random: &mut Random, first: &Request) -> bool {
    let late = first.repeated == 0 && random.chance(5);
    if !late && !random.chance(70) {
        return false;
    }
    let after = if late {
        day.cases.count(Case::RepeatLate);
        random.between(31 * MINUTE_MS, 119 * MINUTE_MS)
    } else if first.form == Form::Script {
        5_000
    } else {
        random.between(1_000, 20_000)
    };
    let node = if random.chance(5000) { first.node } else { day.any_node(random) };
    day.cases.count(if node == first.node { Case::RepeatSameNode } else { Case::RepeatOtherNode });
    let sending = Sending { at_ms: first.at_ms + after, node, form: first.form, status: first.status };
    day.send(sending, (first.first_line, first.line_count), first.line_count);
    true
}

/// A request of the same visitor that failed and was given up: its lines are never events.
pub(super) fn maybe_lost(day: &mut Day, random: &mut Random, beside: &Request) {
    if !random.chance(40) {
        return;
    }
    let who = day.lines[beside.first_line as usize].visitor;
    let kind = event_kind(random);
    let line = draft(day, random, who, NO_VISIT, kind, Form::Get);
    let span = day.keep(&[line]);
    let (node, status) = (day.any_node(random), *random.pick(&BAD_STATUS));
    let form = if random.chance(5000) { Form::Get } else { Form::Script };
    day.send(Sending { at_ms: beside.at_ms + random.between(1, MINUTE_MS), node, form, status }, span, 0);
    day.cases.count(Case::Lost);
}

/// Puts one bad line somewhere into a body.
pub(super) fn insert_bad_line(day: &mut Day, random: &mut Random, lines: &mut Vec<Line>) {
    let who = lines[0].visitor;
    let kind = event_kind(random);
    let mut bad = draft(day, random, who, NO_VISIT, kind, Form::Get);
    let defect = match *random.pick(&[
        Defect::NoEventType,
        Defect::NoVisitor,
        Defect::EmptyVisitor,
        Defect::BadNonce,
        Defect::Junk,
    ]) {
        Defect::BadNonce if !day.bad_nonces => Defect::Junk,
        other => other,
    };
    spoil(day, &mut bad, defect);
    let at = random.below(index(lines.len()) + 1) as usize;
    lines.insert(at, bad);
}

/// Plans one thing at any time of the day that is no tracking at all, or bad as a whole.
pub(super) fn plan(day: &mut Day, random: &mut Random) {
    let at_ms = random.between(day.start_ms, day.end_ms() - 1);
    let node = day.any_node(random);
    match random.below(100) {
        0..=39 => {
            // In turn, so that each kind is there even in a short day.
            let turn = day.totals.garbage % GARBAGE.len() as u64;
            let garbage = GARBAGE[low32(turn) as usize];
            let count = index(day.requests.len());
            // A huge line is dear; a few are enough.
            let spare = garbage == Garbage::Huge && count > 50_000 && !random.chance(200);
            let garbage = if spare { Garbage::Binary } else { garbage };
            day.cases.count(Case::of_garbage(garbage));
            day.send(Sending { at_ms, node, form: Form::Garbage(garbage), status: 0 }, (0, 0), 0);
        }
        40..=69 => {
            day.cases.count(Case::OtherPath);
            let status = *random.pick(&[200, 204, 304, 404]);
            lineless(day, random, Sending { at_ms, node, form: Form::OtherPath, status });
        }
        70..=84 => {
            day.cases.count(Case::Preflight);
            lineless(day, random, Sending { at_ms, node, form: Form::Preflight, status: 204 });
        }
        85..=92 => {
            day.cases.count(Case::BodyNotLogged);
            lineless(day, random, Sending { at_ms, node, form: Form::BodyNotLogged, status: 204 });
        }
        _ => {
            day.cases.count(Case::NoSite);
            let who = visitor::any(day, random);
            let line = draft(day, random, who, NO_VISIT, Kind::Page, Form::Get);
            let span = day.keep(&[line]);
            day.send(Sending { at_ms, node, form: Form::NoSite, status: 204 }, span, 0);
        }
    }
}

/// A request without lines; its site is that of any visitor so far.
fn lineless(day: &mut Day, random: &mut Random, sending: Sending) {
    let at = random.below(low32(day.lines.len() as u64));
    day.send(sending, (at, 0), 0);
}
