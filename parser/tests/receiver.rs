//! What the receiver promises about a request, one sentence each.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by panicking")]

use fanal_model::{Beacon, DeadLetter, RULES_VERSION, Source};
use fanal_parser::{Counts, Limits, Receiver, Request, RequestError, Sink};

/// One record in short: visitor, user agent, place and company; or the reason.
#[derive(Default)]
struct Short(Vec<String>);

impl Sink for Short {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        assert_eq!((beacon.site_code, beacon.node, beacon.received_at_ms), ("s", "n1", 7));
        assert_eq!((beacon.client_address, beacon.source), ("192.0.2.0", Source::NginxLog));
        self.0.push(format!(
            "{}/{} by {} at {} of {}",
            beacon.visitor_code,
            beacon.mapping_value,
            String::from_utf8_lossy(beacon.user_agent),
            beacon.line_number,
            beacon.visitor_lines
        ));
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        assert_eq!((letter.site_code, letter.node, letter.received_at_ms), ("s", "n1", 7));
        assert_eq!((letter.rules_version, letter.source), (RULES_VERSION, Source::NginxLog));
        self.0.push(format!("{}: {}", letter.reason, String::from_utf8_lossy(letter.bytes)));
    }
}

fn receive(query: &str, body: Option<&str>, cookie: Option<&str>) -> (Counts, Vec<String>) {
    let request = Request {
        site_code: "s",
        received_at_ms: 7,
        query: query.as_bytes(),
        body: body.map(str::as_bytes),
        cookie_visitor: cookie,
        header_user_agent: b"header",
        referer: b"",
        client_address: "192.0.2.0",
        source: Source::NginxLog,
        node: "n1",
    };
    let mut short = Short::default();
    let counts = Receiver::new(Limits::default()).receive(&request, &mut short).unwrap();
    (counts, short.0)
}

fn post(query: &str, lines: &[&str]) -> Vec<String> {
    receive(query, Some(&lines.join("\n")), None).1
}

#[test]
fn the_user_agent_of_a_body_reaches_every_line_of_its_visitor() {
    let lines = [
        "eventType=activity&visitorCode=a",
        "eventType=activity&visitorCode=b",
        "eventType=activity&visitorCode=a&userAgent=One (100%; x&y)",
        "eventType=activity&visitorCode=%61&userAgent=Two",
        "eventType=activity&mappingValue=m&userAgent=Three%20%2B",
    ];
    assert_eq!(
        post("siteCode=s&bodyUa=true", &lines),
        [
            "a/ by One (100%; x&y) at 0 of 3",
            "b/ by  at 1 of 1",
            "a/ by One (100%; x&y) at 2 of 3",
            "a/ by One (100%; x&y) at 3 of 3",
            "/m by Three + at 4 of 1",
        ]
    );
    assert_eq!(
        post("siteCode=s", &lines),
        [
            "a/ by header at 0 of 3",
            "b/ by header at 1 of 1",
            "a/ by One (100%; x&y) at 2 of 3",
            "a/ by Two at 3 of 3",
            "/m by Three + at 4 of 1",
        ]
    );
}

#[test]
fn a_bad_line_costs_its_neighbours_nothing_and_keeps_its_place() {
    let lines = [
        "eventType=activity&visitorCode=a",
        "rubbish",
        "",
        "eventType=conversion&goalId=-1&visitorCode=a&userAgent=of a rejected line",
        "eventType=page&visitorCode=a",
        "eventType=activity",
        "eventType=activity&visitorCode=a\0",
        "eventType=activity&visitorCode=a\r",
    ];
    let (counts, records) = receive("siteCode=s&bodyUa=true", Some(&lines.join("\n")), None);
    assert_eq!(counts, Counts { received: 7, accepted: 2, rejected: 5 });
    assert_eq!(
        records,
        [
            "a/ by  at 0 of 2",
            "missing_event_type: rubbish",
            "invalid_parameter: eventType=conversion&goalId=-1&visitorCode=a&userAgent=of a rejected line",
            "missing_parameter: eventType=page&visitorCode=a",
            "missing_visitor: eventType=activity",
            "binary: eventType=activity&visitorCode=a\0",
            "a/ by  at 6 of 2",
        ]
    );
}

#[test]
fn the_query_names_the_visitor_before_the_line_and_the_line_before_the_cookie() {
    let body = "eventType=activity\neventType=activity&visitorCode=v\neventType=activity&mappingValue=m\n\
                eventType=activity&visitorCode=v&mappingValue=m";
    let visitors = |query: &str, cookie: Option<&str>| -> Vec<String> {
        let (_, records) = receive(query, Some(body), cookie);
        records.iter().map(|r| r.split([' ', ':']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(visitors("siteCode=s", None), ["missing_visitor", "v/", "/m", "v/m"]);
    assert_eq!(visitors("siteCode=s", Some("c")), ["c/", "v/", "/m", "v/m"]);
    assert_eq!(visitors("siteCode=s", Some("")), ["missing_visitor", "v/", "/m", "v/m"]);
    assert_eq!(visitors("visitorCode=q%C3%A9", Some("c")), ["qé/", "qé/", "qé/m", "qé/m"]);
    assert_eq!(visitors("mappingValue=q", Some("c")), ["/q", "/q", "/q", "/q"]);
    assert_eq!(visitors("visitorCode=q&mappingValue=r", None), ["q/r", "q/r", "q/r", "q/r"]);
    assert_eq!(visitors(&format!("visitorCode={}", "é".repeat(256)), None), ["visitor_too_long"; 4]);
    assert_eq!(visitors("siteCode=s", Some(&"c".repeat(256)))[0], "visitor_too_long");
}

#[test]
fn a_mapping_value_and_a_code_of_the_same_text_are_one_visitor() {
    let records = post("", &["eventType=activity&visitorCode=u", "eventType=activity&mappingValue=u"]);
    assert_eq!(records, ["u/ by header at 0 of 2", "/u by header at 1 of 2"]);
}

#[test]
fn the_query_of_a_get_is_its_line() {
    struct Bytes(Vec<u8>);
    impl Sink for Bytes {
        fn accepted(&mut self, beacon: &Beacon<'_>) {
            self.0 = beacon.line.to_vec();
        }
        fn rejected(&mut self, letter: &DeadLetter<'_>) {
            unreachable!("{letter:?}");
        }
    }
    let query = "siteCode=s&sdkName=pixel&eventType=conversion&goalId=1&visitorCode=v&userAgent=a%20b";
    let (counts, records) = receive(query, None, Some("cookie"));
    assert_eq!((counts.received, records), (1, vec!["v/ by a b at 0 of 1".to_owned()]));
    assert_eq!(receive("", None, None).0, Counts::default());
    let mut bytes = Bytes(Vec::new());
    let request = Request {
        site_code: "s",
        received_at_ms: 1,
        query: query.as_bytes(),
        body: None,
        cookie_visitor: None,
        header_user_agent: b"",
        referer: b"",
        client_address: "",
        source: Source::Http,
        node: "",
    };
    assert!(Receiver::new(Limits::default()).receive(&request, &mut bytes).unwrap().is_balanced());
    assert_eq!(bytes.0, query.as_bytes());
}

#[test]
fn too_many_lines_refuse_the_whole_request_and_a_long_line_only_itself() {
    let limits = Limits { line_bytes_max: 40, lines_max: 2 };
    let mut receiver = Receiver::new(limits);
    let request = |body: &'static str| Request {
        site_code: "s",
        received_at_ms: 7,
        query: b"",
        body: Some(body.as_bytes()),
        cookie_visitor: None,
        header_user_agent: b"",
        referer: b"",
        client_address: "192.0.2.0",
        source: Source::NginxLog,
        node: "n1",
    };
    let mut short = Short::default();
    let refused = receiver.receive(&request("a\nb\nc"), &mut short);
    assert_eq!(refused, Err(RequestError::TooManyLines { lines: 3, max: 2 }));
    assert!(short.0.is_empty(), "a refused request leaves nothing");
    let long = "eventType=activity&visitorCode=a&x=123456\neventType=activity&visitorCode=a&x=12345";
    assert!(receiver.receive(&request(long), &mut short).unwrap().is_balanced());
    assert_eq!(short.0, ["line_too_long: eventType=activity&visitorCode=a&x=123456", "a/ by  at 1 of 1"]);
}
