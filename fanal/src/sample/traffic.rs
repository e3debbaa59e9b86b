//! Visitors of the sample shop: the lines that a back-end SDK would send.

use std::fmt::Write;

use fanal_service::secret::random_bytes;
use http::Method;

use crate::client;

pub(super) const EXPERIMENT: u32 = 1001;
const VARIATIONS: [u32; 2] = [0, 2001];
const GOAL: u32 = 1;
const VISITORS: u64 = 400;
/// SDKs gather the lines of a second; here of so many visitors.
const VISITORS_PER_REQUEST: u64 = 20;

/// What was sent and acknowledged.
pub(super) struct Sent {
    pub(super) visitor_prefix: String,
    pub(super) visitors: u64,
    pub(super) events: u64,
    pub(super) requests: u64,
}

/// A small generator: the traffic is random, and needs no secrets.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub(super) async fn send(http: &str, site: &str) -> anyhow::Result<Sent> {
    let seed = u64::from_le_bytes(random_bytes::<8>()?) | 1;
    let mut dice = Dice(seed);
    let mut sent =
        Sent { visitor_prefix: format!("{:08x}", seed >> 32), visitors: 0, events: 0, requests: 0 };
    let path =
        format!("/visit/events?siteCode={site}&sdkName=SAMPLE&sdkVersion={}", env!("CARGO_PKG_VERSION"));
    while sent.visitors < VISITORS {
        let mut body = String::new();
        for _ in 0..VISITORS_PER_REQUEST {
            let visitor = format!("{}{:08x}", sent.visitor_prefix, sent.visitors);
            sent.events += visit(&mut body, &mut dice, &visitor);
            sent.visitors += 1;
        }
        client::send(http, Method::POST, &path, None, body.trim_end().to_owned())
            .await?
            .success("the sample's traffic")?;
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
