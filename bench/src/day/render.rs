//! Tracking lines as clients write them.
//!
//! Duty: a `Line` to bytes, percent-encoded as the SDKs do it, raw where they leave things raw. Never escapes for a log.

use super::account::Day;
use super::model::{Agent, Defect, Form, Kind, Line, Naming};
use super::values::{AGENTS, TITLES, origin, path};
use crate::random::mix;
use std::io::Write;

/// Which bytes of a value stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// What the SDKs' encoder keeps: letters, digits, `- _ . ! ~ * ' ( )`.
    Unreserved,
    /// Also a plus, which is a plain character in a tracking line.
    Plus,
    /// Also all that is not ASCII.
    Utf8,
}

/// Appends one line to a body or a query.
pub(super) fn line(day: &Day, form: Form, line: &Line, out: &mut Vec<u8>) {
    if line.defect == Defect::Junk {
        out.extend_from_slice(b"%%%&&=;\x00\x01\xFF\\junk\"");
        return;
    }
    let nonce_first = form != Form::Script;
    if nonce_first {
        nonce(line, out);
        out.push(b'&');
    }
    if line.defect == Defect::NoEventType {
        out.extend_from_slice(b"eventTyp=page");
    } else {
        event_type(line, out);
    }
    parameters(day, form, line, out);
    if !nonce_first {
        out.push(b'&');
        nonce(line, out);
    }
    visitor(day, line, out);
    match line.agent {
        Agent::None => {}
        Agent::Encoded(at) => {
            out.extend_from_slice(b"&userAgent=");
            encode(AGENTS[usize::from(at)], Keep::Unreserved, false, out);
        }
        Agent::Raw(at) => {
            out.extend_from_slice(b"&userAgent=");
            out.extend_from_slice(AGENTS[usize::from(at)].as_bytes());
        }
    }
}

fn nonce(line: &Line, out: &mut Vec<u8>) {
    out.extend_from_slice(b"nonce=");
    if line.defect == Defect::BadNonce {
        out.extend_from_slice(b"not-a-nonce!");
        return;
    }
    for shift in (0..16).rev() {
        out.push(HEX[((line.nonce >> (shift * 4)) & 15) as usize]);
    }
}

fn event_type(line: &Line, out: &mut Vec<u8>) {
    out.extend_from_slice(b"eventType=");
    let start = out.len();
    out.extend_from_slice(match line.kind {
        Kind::Page => b"page",
        Kind::Experiment => b"experiment",
        Kind::Conversion => b"conversion",
        Kind::CustomData => b"customData",
        Kind::Geolocation => b"geolocation",
        Kind::TargetingSegment => b"targetingSegment",
        Kind::Activity => b"activity",
        Kind::Personalization => b"personalization",
        Kind::StaticDevice
        | Kind::StaticBrowser
        | Kind::StaticOs
        | Kind::StaticVisit
        | Kind::StaticCombined => b"staticData".as_slice(),
    });
    if line.upper_case {
        out[start..].make_ascii_uppercase();
    }
}

fn visitor(day: &Day, line: &Line, out: &mut Vec<u8>) {
    let code = &day.visitors[line.visitor as usize].code;
    match (line.defect, line.naming) {
        (Defect::NoVisitor, _) | (_, Naming::Cookie) => {}
        (Defect::EmptyVisitor, _) => out.extend_from_slice(b"&visitorCode="),
        (_, Naming::Mapping) => {
            out.extend_from_slice(b"&mappingValue=");
            encode(code, Keep::Unreserved, false, out);
        }
        (_, Naming::Code) => {
            out.extend_from_slice(b"&visitorCode=");
            let keep = if line.attribute & 64 == 0 { Keep::Unreserved } else { Keep::Plus };
            encode(code, keep, line.attribute & 128 != 0, out);
        }
        (_, Naming::RawCode) => {
            out.extend_from_slice(b"&visitorCode=");
            encode(code, Keep::Utf8, false, out);
        }
    }
}

fn parameters(day: &Day, form: Form, line: &Line, out: &mut Vec<u8>) {
    let n = line.attribute;
    match line.kind {
        Kind::Page => page(day, form, line, out),
        Kind::Experiment | Kind::Personalization => {
            put(out, format_args!("&id={}&variationId={}", 1000 + n % 20, variation(line)));
        }
        Kind::Conversion => {
            put(out, format_args!("&goalId={}&revenue=", 9000 + line.nonce % 8));
            revenue(n, form, out);
            put(out, format_args!("&negative={}", line.negative));
            if line.nonce.is_multiple_of(5) {
                out.extend_from_slice(b"&metadata=");
                encode("{\"1\":[\"gold\",\"€ 5\"]}", Keep::Unreserved, false, out);
            }
        }
        Kind::CustomData => custom_data(day, line, out),
        Kind::Geolocation => {
            out.extend_from_slice(b"&country=France&region=");
            encode("Île-de-France", Keep::Unreserved, false, out);
            put(
                out,
                format_args!("&city=Paris&postalCode=750{:02}&latitude=48.8738&longitude=2.295", n % 20),
            );
        }
        Kind::TargetingSegment => put(out, format_args!("&id={}", 500 + n % 30)),
        Kind::Activity => {}
        Kind::StaticDevice => put(out, format_args!("&deviceType={}", device(n))),
        Kind::StaticBrowser => put(out, format_args!("&browserIndex={}&browserVersion={}.5", n % 6, n % 150)),
        Kind::StaticOs => put(out, format_args!("&os=LINUX&osIndex=3")),
        Kind::StaticVisit => {
            put(out, format_args!("&visitNumber={}&timeSincePreviousVisit={}", n % 9, u64::from(n) * 7));
        }
        Kind::StaticCombined => put(
            out,
            format_args!(
                "&browser=CHROME&browserIndex=0&browserVersion={}&visitNumber={}&timeSincePreviousVisit=0&os=LINUX\
                 &osIndex=3&deviceType={}",
                100 + n % 60,
                n % 4,
                device(n)
            ),
        ),
    }
}

/// 0 is the original, and legal.
fn variation(line: &Line) -> u32 {
    (line.attribute >> 8) % 4
}

fn device(n: u32) -> &'static str {
    ["PHONE", "TABLET", "DESKTOP"][(n % 3) as usize]
}

fn page(day: &Day, form: Form, line: &Line, out: &mut Vec<u8>) {
    let n = line.attribute;
    let site = day.visitors[line.visitor as usize].site;
    let mut href = origin(&day.sites[usize::from(site)]);
    path(n, &mut href);
    out.extend_from_slice(b"&href=");
    let keep = if n & (1 << 20) == 0 { Keep::Unreserved } else { Keep::Plus };
    encode(&href, keep, n & (1 << 21) != 0, out);
    if n & (1 << 22) != 0 {
        out.extend_from_slice(b"&title=");
        let raw = form == Form::Script && n & (7 << 23) == 0;
        let keep = if raw { Keep::Utf8 } else { Keep::Unreserved };
        encode(TITLES[(n >> 8) as usize % TITLES.len()], keep, false, out);
    }
    if n & (3 << 26) == 0 {
        out.extend_from_slice(if form == Form::Script {
            b"&referrersIndices=[2,5]".as_slice()
        } else {
            b"&referrersIndices=%5B2%2C5%5D"
        });
    }
}

fn custom_data(day: &Day, line: &Line, out: &mut Vec<u8>) {
    let n = line.attribute;
    let visitor = &day.visitors[line.visitor as usize];
    if visitor.is_mapping && n & 256 != 0 {
        out.extend_from_slice(b"&index=3&valuesCountMap=");
        encode(&format!("{{\"{}\":1}}", visitor.code), Keep::Unreserved, false, out);
        out.extend_from_slice(b"&overwrite=true&mappingIdentifier=true");
        return;
    }
    put(out, format_args!("&index={}&valuesCountMap=", 1 + n % 12));
    let value =
        ["{\"gold\":1}", "{}", "{\"a,b;c\\\"d'e\":1,\"ü\":1}", "{\"lv-3\":1}"][(n >> 16) as usize % 4];
    encode(value, Keep::Unreserved, false, out);
    put(out, format_args!("&overwrite={}", n & 512 != 0));
}

/// The amount as the SDKs print numbers: without trailing zeros, and Python with `.0` where it is whole.
fn revenue(amount: u32, form: Form, out: &mut Vec<u8>) {
    let (whole, places) = (amount / 10_000, amount % 10_000);
    if places == 0 {
        put(out, format_args!("{whole}{}", if form == Form::Python { ".0" } else { "" }));
        return;
    }
    put(out, format_args!("{whole}.{places:04}"));
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

fn encode(value: &str, keep: Keep, lower: bool, out: &mut Vec<u8>) {
    let hex = if lower { HEX_LOWER } else { HEX };
    for byte in value.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || b"-_.!~*'()".contains(&byte)
            || (keep == Keep::Plus && byte == b'+')
            || (keep == Keep::Utf8 && !byte.is_ascii());
        if plain {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
        }
    }
}

/// Formats into a byte buffer, which cannot fail.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    drop(out.write_fmt(text));
}

/// A number that follows from a request, for what no truth depends on.
pub(super) fn any(sequence: u32, salt: u64) -> u64 {
    mix(u64::from(sequence) ^ (salt << 40))
}
