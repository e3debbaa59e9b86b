//! Visitors whose lines share bodies: a back-end SDK that flushes all its visitors once a second.
//!
//! Duty: a timeline for the whole group; at each step some members add lines. By construction a group's visit is
//! shorter than the session timeout and the pauses between its visits are longer, so each member's visits are known
//! whatever steps it takes part in.

use super::account::{Day, Sending};
use super::case::Case;
use super::model::{Form, Kind, Line, NO_VISIT, index};
use super::noise::{self, insert_bad_line};
use super::solo::{ok_status, start_offset};
use super::values::{draft, event_kind};
use super::{SESSION_TIMEOUT_MS, visitor};
use crate::random::Random;

/// Steps times the longest gap stays below the session timeout.
const STEPS_MAX: u32 = 8;
const STEP_MS_MAX: u64 = 200_000;

/// Plans 2–6 visitors of one site who share a back-end.
pub(super) fn plan(day: &mut Day, random: &mut Random) {
    let first = visitor::any(day, random);
    let site = day.visitors[first as usize].site;
    let mut members = vec![first];
    for _ in 0..=random.below(5) {
        members.push(visitor::of_site(day, random, site));
    }
    let mut at_ms = day.start_ms + start_offset(random);
    for _ in 0..=random.below(3) {
        if at_ms >= day.end_ms() {
            break;
        }
        let mut visits = vec![NO_VISIT; members.len()];
        for _ in 0..2 + random.below(STEPS_MAX - 1) {
            step(day, random, &members, &mut visits, at_ms);
            at_ms += random.between(1, STEP_MS_MAX);
        }
        at_ms += random.between(SESSION_TIMEOUT_MS, 4 * 60 * 60 * 1000);
    }
}

fn step(day: &mut Day, random: &mut Random, members: &[u32], visits: &mut [u32], at_ms: u64) {
    let mut lines: Vec<Line> = Vec::new();
    let (mut present, mut beats) = (0, 0);
    for (who, visit) in members.iter().zip(visits.iter_mut()) {
        if random.chance(3000) {
            continue;
        }
        present += 1;
        if random.chance(600) {
            lines.push(draft(day, random, *who, NO_VISIT, Kind::StaticCombined, Form::Python));
            beats += 1;
            continue;
        }
        if *visit == NO_VISIT {
            *visit = day.open_visit(*who);
        }
        for _ in 0..=random.below(3) {
            let kind = event_kind(random);
            lines.push(draft(day, random, *who, *visit, kind, Form::Python));
        }
    }
    if lines.is_empty() {
        return;
    }
    if present > 1 {
        day.cases.count(Case::MixedBody);
        for _ in 0..beats {
            day.cases.count(Case::HeartbeatInMixedBody);
        }
    }
    share_a_nonce(day, random, &mut lines);
    shuffle(random, &mut lines);
    if beats == 0 && random.chance(300) {
        insert_bad_line(day, random, &mut lines);
    }
    let span = day.keep(&lines);
    let node = day.any_node(random);
    let sending = Sending { at_ms, node, form: Form::Python, status: ok_status(random, Form::Python) };
    noise::maybe_failed_first(day, random, sending, span);
    let request = day.send(sending, span, 0);
    noise::maybe_repeat(day, random, &request);
}

/// Two visitors may use one nonce: the key of a repeat holds the visitor.
fn share_a_nonce(day: &mut Day, random: &mut Random, lines: &mut [Line]) {
    let last = lines.len() - 1;
    if lines[0].visitor != lines[last].visitor && random.chance(500) {
        lines[last].nonce = lines[0].nonce;
        day.cases.count(Case::SharedNonce);
    }
}

fn shuffle(random: &mut Random, lines: &mut [Line]) {
    for at in (1..lines.len()).rev() {
        lines.swap(at, random.below(index(at + 1)) as usize);
    }
}
