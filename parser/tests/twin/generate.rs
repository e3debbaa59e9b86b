//! Lines and bodies for the property tests: as SDKs write them, with every
//! value that could hurt, and cut, swapped or spoiled.

use proptest::prelude::*;

/// Names of the protocol, of the request, and of nobody.
const NAMES: [&str; 42] = [
    "eventType",
    "nonce",
    "visitorCode",
    "mappingValue",
    "userAgent",
    "deviceType",
    "browser",
    "browserIndex",
    "browserVersion",
    "os",
    "osIndex",
    "visitNumber",
    "timeSincePreviousVisit",
    "country",
    "region",
    "city",
    "postalCode",
    "latitude",
    "longitude",
    "index",
    "valuesCountMap",
    "overwrite",
    "mappingIdentifier",
    "href",
    "title",
    "referrersIndices",
    "id",
    "variationId",
    "goalId",
    "revenue",
    "negative",
    "metadata",
    "siteCode",
    "sdkName",
    "sdkVersion",
    "bodyUa",
    "EVENTTYPE",
    "goalid",
    "custom%44ata",
    "x",
    "",
    "élan",
];

const KINDS: [&str; 14] = [
    "staticData",
    "geolocation",
    "customData",
    "page",
    "experiment",
    "targetingSegment",
    "conversion",
    "activity",
    "personalization",
    "CUSTOM_DATA",
    "Static%44ata",
    "CONVERSION",
    "heatmap",
    "p%FFage",
];

const VALUES: [&str; 44] = [
    "",
    "0",
    "1",
    "5",
    "6",
    "-1",
    "+1",
    "007",
    "4294967295",
    "4294967296",
    "99999999999999999999",
    "-9223372036854775808",
    "-9223372036854775809",
    "2147483648",
    "%31%32",
    "%2D7",
    "1.5",
    "12.34567",
    "1e+21",
    "1e%2B3",
    "-0.00005",
    "NaN",
    "inf",
    "48.8738",
    "true",
    "FALSE",
    "tru%65",
    "yes",
    "tablet",
    "PHONE",
    "CHROME",
    "https%3A%2F%2Fwww.example.test%2Fa%20path%3Fx%3D1%26y%3D%25C3%25A9%23f",
    "T%C3%AFtre%20%26%20co%20%3D%20100%25",
    "%7B%22gold%22%3A1%2C%22a%2Cb%22%3A1%7D",
    "[2,5]",
    "Mozilla/5.0 (X11; Linux x86_64) 100%",
    "100%",
    "%4",
    "%zz",
    "a=b",
    "élève 7",
    "%C3%A9l%C3%A8ve%207",
    "%FF%FE",
    "D027DA29548FC683",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => prop::sample::select(&VALUES[..]).prop_map(|v| v.as_bytes().to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..12),
        1 => (prop::sample::select(&["a", "é", "%C3%A9", "%", "%F0%9D%84%9E"][..]), 250..260_usize)
            .prop_map(|(unit, times)| unit.repeat(times).into_bytes()),
        1 => (0..500_u32).prop_map(|n| n.to_string().into_bytes()),
    ]
}

fn pair() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(&KINDS[..]).prop_map(|kind| format!("eventType={kind}").into_bytes());
    let any_pair = (prop::sample::select(&NAMES[..]), prop::bool::weighted(0.95), value()).prop_map(
        |(name, equals, value)| {
            let mut pair = name.as_bytes().to_vec();
            if equals {
                pair.push(b'=');
                pair.extend_from_slice(&value);
            }
            pair
        },
    );
    // A spoiled userAgent would swallow half of all lines if it were as likely as others.
    let any_pair =
        any_pair.prop_filter("rare userAgent", |p| !p.starts_with(b"userAgent") || p.len() % 3 == 0);
    prop_oneof![1 => kind, 9 => any_pair]
}

/// A line with a kind and a visitor first, in the middle or last, and other pairs around.
fn sound_line() -> impl Strategy<Value = Vec<u8>> {
    let visitor = prop::sample::select(
        &["visitorCode=abc", "visitorCode=%C3%A9", "mappingValue=abc", "mappingValue=u%201", "x=y"][..],
    );
    let needs = prop::sample::select(
        &["id=1&variationId=0", "goalId=9&revenue=1.5", "index=-1", "href=h", "id=7", "nonce=0A"][..],
    );
    let ends = prop_oneof![
        3 => Just(String::new()),
        1 => Just("&userAgent=Mozilla/5.0 (X11; a&b=c) 100%".to_owned()),
        1 => Just("&userAgent=Mozilla%2F5.0%20%FF".to_owned()),
        1 => Just("&userAgent=%47ooglebot/2.1".to_owned()),
        1 => Just("&userAgent=curl/8.5.0".to_owned()),
        1 => Just("\r".to_owned()),
    ];
    let kind = prop::sample::select(&KINDS[..]).prop_map(|kind| format!("eventType={kind}").into_bytes());
    (prop::collection::vec(pair(), 0..6), kind, visitor, needs, ends)
        .prop_map(|(mut pairs, kind, visitor, needs, ends)| {
            pairs.extend([kind, visitor.as_bytes().to_vec(), needs.as_bytes().to_vec()]);
            (pairs, ends)
        })
        .prop_flat_map(|(pairs, ends)| (Just(pairs).prop_shuffle(), Just(ends)))
        .prop_map(|(pairs, ends)| [pairs.join(&b'&'), ends.into_bytes()].concat())
}

/// Bytes near the grammar: its separators, digits, escapes, and anything.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => prop::sample::select(&b"&=%\r\0+-.eE09afAFxidX "[..]),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..60)
}

/// One line, never with a line end in it.
pub(crate) fn line() -> impl Strategy<Value = Vec<u8>> {
    let spoiled = (sound_line(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4))
        .prop_map(|(mut line, changes)| {
            for (at, byte) in changes {
                let at = at.index(line.len());
                match byte {
                    0..=80 => line[at] = b"&=%\r\0u"[usize::from(byte) % 6],
                    81..=160 => {
                        line.truncate(at.max(1));
                    }
                    _ => line.insert(at, byte),
                }
            }
            line
        });
    let pairs = prop::collection::vec(pair(), 0..12).prop_map(|pairs| pairs.join(&b'&'));
    prop_oneof![4 => sound_line(), 2 => pairs, 2 => spoiled, 1 => noise()]
        .prop_map(|line| line.into_iter().filter(|b| *b != b'\n').collect())
}

/// A body: lines, blank ones among them, with either line end.
pub(crate) fn body() -> impl Strategy<Value = Vec<u8>> {
    let end = prop::sample::select(&["\n", "\r\n", "\n\n", "\n\r\n"][..]);
    prop::collection::vec((line(), end), 0..8)
        .prop_map(|lines| lines.into_iter().flat_map(|(l, e)| [l, e.as_bytes().to_vec()].concat()).collect())
}

pub(crate) fn query() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(
        &[
            "siteCode=abc",
            "sdkName=PYTHON",
            "sdkName=javascript",
            "sdkName=SWIFT",
            "sdkVersion=3.22.2",
            "bodyUa=true",
            "bodyUa=TRUE",
            "bodyUa=false",
            "sdkName=",
            "x=1",
            "visitorCode=q%201",
            "mappingValue=m",
            "visitorCode=",
            "userAgent=a",
            "userAgent=Wget%2F1.2",
        ][..],
    );
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.join("&").into_bytes())
}
