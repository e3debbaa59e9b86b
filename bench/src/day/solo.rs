//! Visitors who are alone in their requests: browsers, and back-ends that flush one visitor at a time.
//!
//! Duty: visits of 1–20 events by construction. Each gap inside a visit is below the session timeout, each gap between
//! visits is at least the timeout; both boundaries are hit to the millisecond now and then.

use super::account::{Day, Sending};
use super::case::Case;
use super::model::{Defect, Form, Kind, Line, NO_VISIT, Naming, index};
use super::noise::{self, insert_bad_line};
use super::values::{draft, event_kind};
use super::{DEDUPE_HORIZON_MS, SESSION_TIMEOUT_MS, visitor};
use crate::random::Random;

/// Events of one visit at the most.
const VISIT_EVENTS_MAX: u32 = 20;
/// Visits of one visitor on the day at the most.
const VISITS_MAX: u32 = 6;
/// The rhythm of a page that stays open.
const HEARTBEAT_MS: u64 = 15_000;

/// The last request of events: where its own lines stand and when it was received.
#[derive(Clone, Copy)]
struct Last {
    at_ms: u64,
    form: Form,
    own: (u32, u16),
    has_bad_line: bool,
}

/// Plans a visitor with all its visits.
pub(super) fn plan(day: &mut Day, random: &mut Random) {
    let who = visitor::any(day, random);
    let mut at_ms = day.start_ms + start_offset(random);
    let visits = 1 + random.skewed(VISITS_MAX);
    let mut last = None;
    for visits_left in (0..visits).rev() {
        let ended = plan_visit(day, random, who, at_ms);
        last = Some(ended);
        let exact = random.chance(500);
        let gap = if exact { SESSION_TIMEOUT_MS } else { pause(random) };
        if visits_left == 0 || ended.at_ms + gap >= day.end_ms() {
            break;
        }
        if exact {
            day.cases.count(Case::GapExact);
        }
        heartbeats(day, random, who, ended.at_ms, gap);
        at_ms = ended.at_ms + gap;
    }
    if let Some(last) = last
        && !last.has_bad_line
        && random.chance(60)
    {
        repeat_past_horizon(day, random, last);
    }
}

/// Plans a visitor of whom only heartbeats are seen: no visit comes of it.
pub(super) fn plan_orphan(day: &mut Day, random: &mut Random) {
    let who = visitor::any(day, random);
    let at_ms = day.start_ms + start_offset(random);
    for n in 0..=u64::from(random.below(4)) {
        heartbeat(day, random, who, at_ms + n * HEARTBEAT_MS);
    }
    day.cases.count(Case::HeartbeatOrphan);
}

/// When a visitor first appears: mostly by day, and now and then shortly before midnight.
pub(super) fn start_offset(random: &mut Random) -> u64 {
    const HOUR_MS: u64 = 60 * 60 * 1000;
    if random.chance(100) {
        return random.between(24 * HOUR_MS - 20 * 60 * 1000, 24 * HOUR_MS - 1);
    }
    let weights = [2u32, 1, 1, 1, 1, 2, 3, 5, 7, 8, 9, 9, 10, 9, 9, 9, 9, 10, 11, 12, 12, 10, 7, 4];
    let mut rest = random.below(weights.iter().sum());
    let mut hour = 0;
    for weight in weights {
        if rest < weight {
            break;
        }
        rest -= weight;
        hour += 1;
    }
    hour * HOUR_MS + random.between(0, HOUR_MS - 1)
}

fn plan_visit(day: &mut Day, random: &mut Random, who: u32, start_ms: u64) -> Last {
    let visit = day.open_visit(who);
    let mut left = 1 + random.skewed(VISIT_EVENTS_MAX);
    let mut at_ms = start_ms;
    let mut previous: Option<(u32, u16)> = None;
    loop {
        let (lines, form) = body(day, random, who, visit, left);
        let good = lines.iter().filter(|line| line.defect == Defect::None).count();
        left = left.saturating_sub(index(good));
        let own = day.keep(&lines);
        let sending = Sending { at_ms, node: day.any_node(random), form, status: ok_status(random, form) };
        let (span, repeated) = regroup(day, random, form, previous, own);
        noise::maybe_failed_first(day, random, sending, span);
        let request = day.send(sending, span, repeated);
        noise::maybe_repeat(day, random, &request);
        noise::maybe_lost(day, random, &request);
        previous = matches!(form, Form::Script | Form::Python).then_some(own);
        if left == 0 {
            return Last { at_ms, form, own, has_bad_line: good < lines.len() };
        }
        let gap = step(day, random);
        if gap > HEARTBEAT_MS {
            heartbeats(day, random, who, at_ms, gap);
        }
        at_ms += gap;
    }
}

/// The lines of one request and how it is sent.
fn body(day: &mut Day, random: &mut Random, who: u32, visit: u32, left: u32) -> (Vec<Line>, Form) {
    if random.chance(2500) {
        let kind = event_kind(random);
        let form = if random.chance(1000) { Form::Gif } else { Form::Get };
        let mut line = draft(day, random, who, visit, kind, form);
        if day.visitors[who as usize].is_plain && random.chance(2000) {
            line.naming = Naming::Cookie;
        }
        return (vec![line], form);
    }
    let form = if random.chance(6000) { Form::Script } else { Form::Python };
    let count = left.min(1 + random.skewed(6));
    if (2..=3).contains(&count) && random.chance(200) {
        let kinds = [Kind::StaticDevice, Kind::StaticBrowser, Kind::StaticOs];
        day.cases.count(Case::OnlyStaticLines);
        let lines = kinds.iter().take(count as usize);
        return (lines.map(|kind| draft(day, random, who, visit, *kind, form)).collect(), form);
    }
    let mut lines: Vec<Line> = Vec::with_capacity(count as usize + 1);
    for _ in 0..count {
        let kind = event_kind(random);
        lines.push(draft(day, random, who, visit, kind, form));
    }
    if count > 1 && random.chance(4000) {
        // The browser SDK ends each body with the combined line, the back-end ones start with partial lines.
        day.cases.count(Case::StaticBesideOthers);
        let last = lines.len() - 1;
        if form == Form::Script {
            lines[last] = draft(day, random, who, visit, Kind::StaticCombined, form);
        } else {
            let kind =
                *random.pick(&[Kind::StaticDevice, Kind::StaticBrowser, Kind::StaticOs, Kind::StaticVisit]);
            lines[0] = draft(day, random, who, visit, kind, form);
        }
    }
    if random.chance(150) {
        insert_bad_line(day, random, &mut lines);
    }
    (lines, form)
}

/// Now and then a body starts with the lines of the one before it, because its answer was lost.
fn regroup(
    day: &mut Day,
    random: &mut Random,
    form: Form,
    previous: Option<(u32, u16)>,
    own: (u32, u16),
) -> ((u32, u16), u16) {
    if let Some((first, count)) = previous
        && form == Form::Python
        && first + u32::from(count) == own.0
        && random.chance(100)
    {
        day.cases.count(Case::Regrouped);
        return ((first, count + own.1), count);
    }
    (own, 0)
}

/// The gap to the next request of the same visit.
fn step(day: &mut Day, random: &mut Random) -> u64 {
    match random.below(1000) {
        0..=9 => {
            day.cases.count(Case::GapBelow);
            SESSION_TIMEOUT_MS - 1
        }
        10..=24 => {
            day.cases.count(Case::SameMillisecond);
            0
        }
        25..=49 => random.between(10 * 60 * 1000, SESSION_TIMEOUT_MS - 2),
        50..=499 => random.between(1, 5_000),
        _ => random.between(1_000, 90_000),
    }
}

/// The gap to the next visit.
fn pause(random: &mut Random) -> u64 {
    let hours = 1 + u64::from(random.skewed(10));
    random.between(SESSION_TIMEOUT_MS + 1, hours * 60 * 60 * 1000)
}

/// The answers that count; a pixel is never 204.
pub(super) fn ok_status(random: &mut Random, form: Form) -> u16 {
    match form {
        Form::Gif => 200,
        _ if random.chance(200) => *random.pick(&[200, 202]),
        _ => 204,
    }
}

/// Heartbeats of a page that stays open for a while after `at_ms`, all of them before the gap ends.
fn heartbeats(day: &mut Day, random: &mut Random, who: u32, at_ms: u64, gap: u64) {
    let boundary = gap == SESSION_TIMEOUT_MS || gap == SESSION_TIMEOUT_MS - 1;
    if !random.chance(if boundary { 6_000 } else { 900 }) {
        return;
    }
    let count = 1 + u64::from(random.below(4));
    for n in 1..=count {
        if n * HEARTBEAT_MS < gap {
            heartbeat(day, random, who, at_ms + n * HEARTBEAT_MS);
        }
    }
    if boundary {
        // One late in the gap: whoever lets heartbeats extend a visit joins two visits here.
        heartbeat(day, random, who, at_ms + gap - HEARTBEAT_MS);
        day.cases.count(Case::HeartbeatInGap);
    }
}

fn heartbeat(day: &mut Day, random: &mut Random, who: u32, at_ms: u64) {
    let form = if random.chance(1000) { Form::Get } else { Form::Script };
    let mut line = draft(day, random, who, NO_VISIT, Kind::StaticCombined, form);
    line.visit = NO_VISIT;
    let span = day.keep(&[line]);
    let sending = Sending { at_ms, node: day.any_node(random), form, status: 204 };
    let request = day.send(sending, span, 0);
    if noise::maybe_repeat(day, random, &request) {
        day.cases.count(Case::RepeatHeartbeat);
    }
}

/// The same lines once more, so late that their nonces are forgotten: new events, and a visit of their own.
fn repeat_past_horizon(day: &mut Day, random: &mut Random, last: Last) {
    let at_ms = last.at_ms + DEDUPE_HORIZON_MS + random.between(1_000, 10 * 60 * 1000);
    if at_ms >= day.end_ms() {
        return;
    }
    let range = last.own.0 as usize..last.own.0 as usize + usize::from(last.own.1);
    let mut lines = day.lines[range].to_vec();
    let visit = day.open_visit(lines[0].visitor);
    for line in &mut lines {
        line.visit = visit;
    }
    let span = day.keep(&lines);
    let sending =
        Sending { at_ms, node: day.any_node(random), form: last.form, status: ok_status(random, last.form) };
    day.send(sending, span, 0);
    day.cases.count(Case::RepeatPastHorizon);
}
