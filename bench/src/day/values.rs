//! What lines say: kinds, pages, amounts, user agents.
//!
//! Duty: tables and draws; every value follows from a line's kind and attribute, so that the truth and the rendered
//! bytes come from one place. Never encodes.

use super::account::Day;
use super::case::Case;
use super::model::{Agent, Defect, Form, Kind, Line, Naming};
use crate::random::{Random, low32};

/// Paths of pages, decoded. Some hold what goes wrong in URLs: non-ASCII, percent sequences that are part of the page's
/// own URL (to be decoded once, not twice), quotes, plus signs, queries and fragments.
pub(super) const PATHS: [&str; 24] = [
    "/",
    "/products",
    "/products/shoes?colour=red&size=42",
    "/products/été/écharpe",
    "/basket",
    "/checkout/address",
    "/checkout/payment?step=2",
    "/checkout/thank-you?order=A-1001",
    "/search?q=red%20shoes%20%26%20socks",
    "/search?q=caf%C3%A9",
    "/blog/how-we-test",
    "/blog/100%-wool",
    "/landing?utm_source=newsletter&utm_medium=email&utm_campaign=spring",
    "/landing?utm_source=ads&gclid=Cj0KCQ",
    "/account/orders#latest",
    "/account/o'neil",
    "/help/c++",
    "/help/(faq)",
    "/商品/靴",
    "/a path/with spaces",
    "/back\\slash",
    "/quote\"d",
    "/products/boots?a=1&a=2;b=3",
    "/newsletter?mail=anna+test@example.com",
];

/// Titles, decoded.
pub(super) const TITLES: [&str; 6] =
    ["Home", "Shoes & more", "Écharpes d'été", "100% wool = warm", "靴の店", "Thank you!"];

/// User agents as applications give them in a line; all of them may stand raw at its end.
pub(super) const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Shop/7.2 (Android 15; 100% native)",
    "Shop/7.2 [fr_FR] a=1&b=2; \"beta\"",
    "Kiosk/1.0 back\\x0Aslash",
    "Partner/2.0 (+https://partner.example/agent?x=%zz&nonce=0)",
];

/// How a page's URL starts on a site.
pub(super) fn origin(site: &str) -> String {
    format!("https://www.{site}.example")
}

/// The page's path for a line's attribute; above the table, products by number.
pub(super) fn path(attribute: u32, out: &mut String) {
    use std::fmt::Write;
    let at = attribute % 96;
    match PATHS.get(at as usize) {
        Some(path) => out.push_str(path),
        // Writing to a String cannot fail.
        None => drop(write!(out, "/products/{}?ref=list&page={}", at, attribute / 96 % 1000)),
    }
}

/// A kind that counts as an event on its own.
pub(super) fn event_kind(random: &mut Random) -> Kind {
    match random.below(100) {
        0..=44 => Kind::Page,
        45..=59 => Kind::Experiment,
        60..=71 => Kind::CustomData,
        72..=81 => Kind::Conversion,
        82..=87 => Kind::TargetingSegment,
        88..=92 => Kind::Geolocation,
        93..=97 => Kind::Activity,
        _ => Kind::Personalization,
    }
}

/// A good line of a visitor.
pub(super) fn draft(
    day: &mut Day,
    random: &mut Random,
    who: u32,
    visit: u32,
    kind: Kind,
    form: Form,
) -> Line {
    let visitor = &day.visitors[who as usize];
    let in_query = matches!(form, Form::Get | Form::Gif);
    let naming = if visitor.is_mapping && random.chance(5000) {
        Naming::Mapping
    } else if !in_query && !visitor.code.is_ascii() && random.chance(1000) {
        Naming::RawCode
    } else {
        Naming::Code
    };
    let agent = match random.below(100) {
        0..=2 if form == Form::Script => Agent::Raw(agent_number(random)),
        0..=2 => Agent::Encoded(agent_number(random)),
        _ => Agent::None,
    };
    let attribute = if kind == Kind::Conversion { amount(random) } else { low32(random.next() >> 32) };
    Line {
        nonce: random.next(),
        visitor: who,
        attribute,
        visit,
        kind,
        defect: Defect::None,
        naming,
        agent,
        negative: kind == Kind::Conversion && random.chance(500),
        upper_case: random.chance(100),
    }
}

fn agent_number(random: &mut Random) -> u8 {
    let number = random.below(low32(AGENTS.len() as u64));
    u8::try_from(number).unwrap_or(0)
}

/// Revenue in 1/10,000: often none, mostly cents, sometimes all four places.
fn amount(random: &mut Random) -> u32 {
    match random.below(10) {
        0..=3 => 0,
        4..=5 => random.below(2_000) * 10_000,
        6..=8 => random.below(200_000) * 100,
        _ => random.below(20_000_000),
    }
}

/// The case of a bad line.
pub(super) fn spoil(day: &mut Day, line: &mut Line, defect: Defect) {
    line.defect = defect;
    line.naming = Naming::Code;
    if let Some(case) = Case::of_defect(defect) {
        day.cases.count(case);
    }
}
