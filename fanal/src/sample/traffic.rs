//! Visitors of the sample shop: the lines that a back-end SDK would send.
//!
//! What must stay true: lines are a function of the seed and of the round, so that what
//! two runs make of them can be compared.

use std::fmt::Write;

use http::Method;

use crate::client;

pub(super) const EXPERIMENT: u32 = 1001;
const VARIATIONS: [u32; 2] = [0, 2001];
const GOAL: u32 = 1;
const VISITORS: u64 = 400;
/// SDKs gather the lines of a second; here of so many visitors.
const VISITORS_PER_REQUEST: u64 = 20;

/// Which traffic: the same for the same numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) seed: u32,
    /// How many times this seed was sent here before.
    pub(super) round: u64,
}

/// What was sent and acknowledged.
pub(super) struct Sent {
    pub(super) visitors: u64,
    pub(super) events: u64,
    pub(super) requests: u64,
}

impl Draw {
    /// How all visitor codes of a seed begin.
    pub(super) fn prefix_of(seed: u32) -> String {
        format!("{seed:08x}")
    }

    /// How the visitor codes of this round begin.
    pub(super) fn prefix(self) -> String {
        format!("{}{:04x}", Self::prefix_of(self.seed), self.round)
    }

    fn dice(self) -> Dice {
        Dice((u64::from(self.seed) << 32) ^ self.round)
    }

    /// The bodies of all requests, with the number of their lines.
    fn bodies(self) -> Vec<(String, u64)> {
        let (mut dice, prefix) = (self.dice(), self.prefix());
        let of_request = |first: u64| {
            let (mut body, mut events) = (String::new(), 0);
            for visitor in first..first + VISITORS_PER_REQUEST {
                events += visit(&mut body, &mut dice, &format!("{prefix}{visitor:04x}"));
            }
            body.truncate(body.trim_end().len());
            (body, events)
        };
        (0..VISITORS / VISITORS_PER_REQUEST).map(|n| n * VISITORS_PER_REQUEST).map(of_request).collect()
    }
}

/// A small generator (SplitMix64): neighbouring seeds give traffic that has nothing in common.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % n
    }
}

pub(super) async fn send(http: &str, site: &str, draw: Draw) -> anyhow::Result<Sent> {
    let path =
        format!("/visit/events?siteCode={site}&sdkName=SAMPLE&sdkVersion={}", env!("CARGO_PKG_VERSION"));
    let mut sent = Sent { visitors: VISITORS, events: 0, requests: 0 };
    for (body, events) in draw.bodies() {
        client::send(http, Method::POST, &path, None, body).await?.success("the sample's traffic")?;
        sent.events += events;
        sent.requests += 1;
    }
    Ok(sent)
}

/// One visitor's lines; returns how many.
fn visit(body: &mut String, dice: &mut Dice, visitor: &str) -> u64 {
    let is_short = dice.below(2) == 1;
    let mut events = 0;
    let mut line = |body: &mut String, dice: &mut Dice, event: &str| {
        let nonce = dice.below(u64::MAX);
        events += 1;
        // A String takes everything that is written to it.
        let _ = writeln!(body, "nonce={nonce:016X}&{event}&visitorCode={visitor}");
    };
    line(body, dice, "eventType=staticData&deviceType=DESKTOP");
    let variation = VARIATIONS[usize::from(is_short)];
    line(body, dice, &format!("eventType=experiment&id={EXPERIMENT}&variationId={variation}"));
    for page in ["", "product", "cart"].iter().take(1 + usize::try_from(dice.below(3)).unwrap_or(0)) {
        line(body, dice, &format!("eventType=page&href=https%3A%2F%2Fshop.example%2F{page}&title=Shop"));
    }
    // The short checkout sells a little better.
    if dice.below(100) < if is_short { 14 } else { 10 } {
        let revenue = 20 + dice.below(80);
        line(body, dice, &format!("eventType=conversion&goalId={GOAL}&revenue={revenue}.50&negative=false"));
    }
    events
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_and_round_give_the_same_lines_and_others_share_no_visitor_and_no_nonce() {
        let lines = |seed, round| -> Vec<String> {
            let bodies = Draw { seed, round }.bodies();
            let lines: Vec<String> =
                bodies.iter().flat_map(|(body, _)| body.lines().map(str::to_owned)).collect();
            assert_eq!(lines.len() as u64, bodies.iter().map(|(_, events)| events).sum::<u64>());
            lines
        };
        assert_eq!(lines(1, 0), lines(1, 0));
        let words = |seed, round| -> HashSet<String> {
            let ends = |line: &String| {
                let (nonce, rest) = line.split_once('&').unwrap();
                [nonce.to_owned(), rest.rsplit_once('&').unwrap().1.to_owned()]
            };
            lines(seed, round).iter().flat_map(ends).collect()
        };
        let first = words(1, 0);
        assert_eq!(first.len(), lines(1, 0).len() + usize::try_from(VISITORS).unwrap());
        for other in [words(1, 1), words(2, 0), words(0, 1)] {
            assert_eq!(first.intersection(&other).count(), 0);
        }
    }
}
