//! The parser against its plain twin, on generated lines and requests.

#[path = "twin/generate.rs"]
mod generate;
mod twin;

use fanal_model::{Beacon, DeadLetter, RejectReason, RobotReason, Source};
use fanal_parser::{Limits, Receiver, Request, Robots, Sink, body, line};
use proptest::prelude::*;
use twin::request::{Kept, Record};

fn assert_same(bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes);
    match (line::parse(bytes), twin::parse(bytes)) {
        (Ok(fast), Ok(plain)) => {
            assert_eq!(fast.event(), plain.event, "{shown}");
            let decoded = |raw: Option<&[u8]>| raw.map(|raw| fanal_parser::decode(raw).into_owned());
            assert_eq!(decoded(fast.visitor_code()), plain.code, "{shown}");
            assert_eq!(decoded(fast.mapping_value()), plain.mapping, "{shown}");
            assert_eq!(fast.user_agent(), plain.user_agent.as_deref(), "{shown}");
            assert_eq!(
                fast.visitor().map(|v| v.decode().into_owned()),
                plain.code.or(plain.mapping),
                "{shown}"
            );
        }
        (fast, plain) => assert_eq!(fast.err(), plain.err(), "{shown}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_line_means_what_the_twin_says(line in generate::line()) {
        assert_same(&line);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_request_gives_what_the_twin_says(
        query in generate::query(),
        body in prop::option::weighted(0.8, generate::body()),
        line in generate::line(),
        cookie in prop::option::of(prop_oneof![Just(""), Just("cookie-1"), Just("abc")]),
        header in prop::sample::select(&["header", "Googlebot/2.1", "Java/17", "HeadlessChrome/1", ""][..]),
        line_bytes_max in prop_oneof![Just(40_usize), Just(1 << 20)],
    ) {
        // A GET's query is its line.
        let query = if body.is_some() { query } else { [query, line].join(&b'&') };
        let request = Request {
            site_code: "abc", received_at_ms: 1, query: &query, body: body.as_deref(), cookie_visitor: cookie,
            header_user_agent: header.as_bytes(), referer: b"", client_address: "", source: Source::Http, node: "n1",
        };
        let limits = Limits { line_bytes_max, ..Limits::default() };
        let mut receiver = Receiver::new(limits);
        let expected = twin::request::receive(&request, &limits);
        // The second time the scratch is warm: nothing of the first request may shine through.
        for _ in 0..2 {
            let mut kept = Kept::default();
            let counts = receiver.receive(&request, &mut kept).unwrap();
            let accepted = kept.0.iter().filter(|r| matches!(r, Record::Accepted { .. })).count();
            prop_assert!(counts.is_balanced());
            prop_assert_eq!(counts.received, expected.len() as u64);
            prop_assert_eq!(counts.accepted, accepted as u64);
            prop_assert_eq!(&kept.0, &expected);
        }
    }

    #[test]
    fn a_remembered_user_agent_is_judged_as_an_unseen_one(
        // Many more than are remembered, some of them again and again.
        sequence in prop::collection::vec((0_u32..4_000, 0_u32..8), 1..600),
    ) {
        let words = ["", "Googlebot/2.1", "HeadlessChrome", "Pingdom", "curl/8", "cubot", "bottle", "Java/"];
        let mut robots = Robots::default();
        for (number, word) in sequence {
            let number = if number < 2_000 { number % 10 } else { number };
            let rest = "x".repeat(number as usize % 7 * 200);
            for agent in [
                format!("Mozilla/5.0 ({number}) {}", words[word as usize]),
                format!("{} {number} {rest}{}", words[word as usize], words[(number % 8) as usize]),
                words[word as usize].to_owned(),
            ] {
                prop_assert_eq!(robots.of_words(agent.as_bytes()), RobotReason::of_words(agent.as_bytes()));
            }
        }
    }

    #[test]
    fn what_the_door_accepts_reads_again_behind_it(body in generate::body(), query in generate::query()) {
        /// Reads every record as a later stage does: from its encoding, without limits.
        struct Later;
        impl Sink for Later {
            fn accepted(&mut self, beacon: &Beacon<'_>) {
                let mut encoded = Vec::new();
                beacon.encode(&mut encoded);
                let read = Beacon::decode(&encoded).unwrap();
                assert_eq!(read, *beacon);
                assert_eq!(line::parse(read.line).unwrap().event(), twin::parse(beacon.line).unwrap().event);
                assert!(!read.visitor().is_empty() && read.visitor().chars().count() <= 255);
            }
            fn rejected(&mut self, letter: &DeadLetter<'_>) {
                assert!(RejectReason::from_name(letter.reason).is_some());
            }
        }
        let get = [query.clone(), body.iter().copied().filter(|b| *b != b'\n').collect()].join(&b'&');
        for (query, body) in [(&query, Some(&*body)), (&get, None)] {
            let request = Request {
                site_code: "abc", received_at_ms: 1, query, body, cookie_visitor: None, header_user_agent: b"",
                referer: b"", client_address: "", source: Source::Http, node: "n1",
            };
            prop_assert!(Receiver::new(Limits::default()).receive(&request, &mut Later).unwrap().is_balanced());
        }
        prop_assert_eq!(body::count(&body), body::lines(&body).count() as u64);
    }
}

#[test]
fn hard_cases_mean_what_the_twin_says() {
    let long = "v".repeat(256);
    for line in [
        "",
        "\r",
        "&",
        "=",
        "&&=&&",
        "eventType",
        "eventType=",
        "eventType=activity",
        "eventType=activity&visitorCode=a&visitorCode=b&x=1&x=2&=3",
        "userAgent=eventType=activity&visitorCode=a",
        "eventType=activity&userAgent&visitorCode=a",
        "eventType=page&href=&href=second&visitorCode=a",
        "eventType=page&title=no+href",
        "eventType=experiment&id=1",
        "eventType=experiment&id=x",
        "eventType=experiment&id=4294967296&variationId=0",
        "eventType=experiment&id=1&variationId=-0",
        "eventType=customData&index=-2147483648",
        "eventType=customData&index=-2147483649",
        "eventType=conversion&goalId=1&revenue=1e+21&negative=maybe",
        "eventType=staticData&browserIndex=6&osIndex=0&visitNumber=-1&timeSincePreviousVisit=-1",
        "eventType=staticData&browser=IE&browserIndex=9&deviceType=phone",
        "eventType=geolocation&latitude=1e400&longitude=-0.0&country=%FF",
        "eventType=TARGETING_SEGMENT&id=%31",
        "eventType=unheard&of=1&goalId=3&siteCode=s&bodyUa=true",
        "eventType=activity&visitorCode=a\0",
        "eventType=activity&visitorCode=a\r\r",
        &format!("eventType=activity&visitorCode={long}"),
        &format!("eventType=activity&mappingValue={long}"),
        &format!("eventType=activity&visitorCode={}", &long[1..]),
        &format!("eventType=activity{}", "&a=b".repeat(1_500)),
    ] {
        assert_same(line.as_bytes());
    }
}
