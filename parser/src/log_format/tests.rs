//! What formats mean, line by line, and which are refused.

use std::borrow::Cow;
use std::net::IpAddr;

use fanal_model::RejectReason;

use super::*;

fn line(columns: [&str; 9]) -> String {
    columns.join("\t")
}

const GET: [&str; 9] = [
    "1700000000.123",
    "203.0.113.7",
    "GET",
    "/visit/events.gif?siteCode=s1&eventType=activity",
    "204",
    "Mozilla/5.0 \\x22x\\x22",
    "https://example.test/a",
    "a=1; kameleoonVisitorCode=abc",
    "-",
];

fn changed(column: usize, value: &str) -> String {
    let mut columns = GET;
    columns[column] = value;
    line(columns)
}

fn outcome_of(format: &LogFormat, line: &str) -> Result<String, RejectReason> {
    let mut scratch = Scratch::default();
    Ok(match format.read(line.as_bytes())?.outcome(&mut scratch)? {
        LogOutcome::Request(_) => "request".to_owned(),
        LogOutcome::Ignored(reason) => reason.name().to_owned(),
    })
}

fn outcome(line: &str) -> Result<String, RejectReason> {
    outcome_of(&LogFormat::fanal(), line)
}

#[test]
fn a_get_is_read_with_every_column() {
    let (text, mut scratch) = (line(GET) + "\n", Scratch::default());
    let format = LogFormat::fanal();
    let read = format.read(text.as_bytes()).unwrap();
    let expected = LogRequest {
        received_at_ms: 1_700_000_000_123,
        site_code: Cow::Borrowed("s1"),
        query: b"siteCode=s1&eventType=activity",
        body: None,
        cookie_visitor: Some(Cow::Borrowed("abc")),
        user_agent: b"Mozilla/5.0 \"x\"",
        referer: b"https://example.test/a",
        client_address: Some(IpAddr::from([203, 0, 113, 7])),
    };
    assert_eq!(read.outcome(&mut scratch), Ok(LogOutcome::Request(expected)));
}

#[test]
fn the_body_of_a_post_is_unescaped() {
    let text = line([
        "1700000000.000",
        "2001:db8::1",
        "POST",
        "https://data.example.test/visit/events?siteCode=s1&x=\\x5C",
        "200",
        "-",
        "-",
        "-",
        r"eventType=page&href=%2F\x0AeventType=activity&x=\xC3\xA9\x09\x5Cn-",
    ]);
    let (format, mut scratch) = (LogFormat::fanal(), Scratch::default());
    let read = format.read(text.as_bytes()).unwrap().outcome(&mut scratch).unwrap();
    let LogOutcome::Request(request) = read else { panic!("{read:?}") };
    let body = "eventType=page&href=%2F\neventType=activity&x=é\t\\n-";
    assert_eq!(request.body, Some(body.as_bytes()));
    assert_eq!(request.query, b"siteCode=s1&x=\\");
    assert_eq!((request.user_agent, request.referer, request.cookie_visitor), (&b""[..], &b""[..], None));
    assert_eq!(request.client_address, Some("2001:db8::1".parse().unwrap()));
}

#[test]
fn what_is_no_answered_tracking_request_is_ignored_by_name() {
    for (column, value, expected) in [
        (3, "/v3/s1", "not_tracking"),
        (3, "/visit/events2?siteCode=s1", "not_tracking"),
        (3, "/x?u=/visit/events", "not_tracking"),
        (3, "*", "not_tracking"),
        (3, "-", "not_tracking"),
        (2, "OPTIONS", "not_get_or_post"),
        (2, "-", "not_get_or_post"),
        (4, "499", "status_not_2xx"),
        (4, "304", "status_not_2xx"),
        (4, "199", "status_not_2xx"),
        (4, "299", "request"),
        (1, "unix:", "request"),
        (8, "ignored for a GET", "request"),
    ] {
        assert_eq!(outcome(&changed(column, value)).as_deref(), Ok(expected), "{value}");
    }
}

#[test]
fn garbage_is_malformed_and_never_a_request() {
    let malformed = Err(RejectReason::MalformedLogLine);
    for (column, value) in [
        (0, "-"),
        (0, "1700000000"),
        (0, "1700000000.12"),
        (0, ".123"),
        (0, "99999999999999999999.000"),
        (4, "-"),
        (4, "20"),
        (4, "+20"),
        (4, "20x"),
        (5, "\\x4"),
        (5, "\\n"),
        (5, "\\"),
        (8, "extra\tcolumn"),
        (2, "POST"),
    ] {
        assert_eq!(outcome(&changed(column, value)), malformed, "{column} {value}");
    }
    for text in
        ["", "\t", "\t\t\t\t\t\t\t\t", "127.0.0.1 - - [10/Oct/2025:13:55:36 +0000] \"GET / HTTP/1.1\" 200 2"]
    {
        assert_eq!(outcome(text), malformed, "{text}");
    }
    assert_eq!(
        outcome(&changed(3, "/visit/events?eventType=activity")),
        Err(RejectReason::UnknownSite),
        "a request that names no site"
    );
}

#[test]
fn combined_and_main_are_known_by_name() {
    let start = r#"203.0.113.7 - a [b] [14/Nov/2023:22:13:20 +0000] "GET /visit/events?siteCode=s HTTP/1.1" 204 0 "-" "Agent""#;
    let combined = LogFormat::compile("combined").unwrap();
    let mut scratch = Scratch::default();
    let read = combined.read(start.as_bytes()).unwrap();
    assert_eq!((read.received_at_ms, read.status), (1_700_000_000_000, 204));
    let Ok(LogOutcome::Request(request)) = read.outcome(&mut scratch) else { panic!("{read:?}") };
    assert_eq!((request.site_code.as_ref(), request.user_agent), ("s", &b"Agent"[..]));
    assert!(
        combined.read(format!("{start} \"-\"").as_bytes()).is_err(),
        "a line of main is none of combined"
    );
    let main = LogFormat::compile("main").unwrap();
    assert_eq!(outcome_of(&main, &format!("{start} \"198.51.100.1\"")).as_deref(), Ok("request"));
    // A user name may look like what stands behind it.
    let forged = r#"203.0.113.7 - x [01/Jan/2001:00:00:00 +0000] [14/Nov/2023:22:13:20 +0000] "GET /v3 HTTP/1.1" 200 0 "-" "-""#;
    assert_eq!(combined.read(forged.as_bytes()).unwrap().received_at_ms, 1_700_000_000_000);
    let handshake = r#"203.0.113.7 - - [14/Nov/2023:22:13:20 +0000] "\x16\x03\x01\x02" 400 157 "-" "-""#;
    assert_eq!(outcome_of(&combined, handshake).as_deref(), Ok("not_tracking"));
    let post = start.replace("GET", "POST");
    assert_eq!(outcome_of(&combined, &post), Err(RejectReason::MalformedLogLine), "its body is nowhere");
}

#[test]
fn a_json_format_is_read_at_its_places() {
    let format = LogFormat::compile(
        r#"log_format j escape=json '{"t":"$time_iso8601","a":"$remote_addr","m":"$request_method",'
           '"u":"$request_uri","s":$status,"ua":"$http_user_agent","c":"$cookie_kameleoonVisitorCode",'
           '"b":"$request_body","rt":$request_time}';"#,
    )
    .unwrap();
    let text = r#"{"t":"2023-11-14T22:13:20+00:00","a":"203.0.113.7","m":"POST","u":"/visit/events?siteCode=s","s":204,"ua":"A \"B\" \\","c":"v\u0020\"1","b":"eventType=page\neventType=activity\\","rt":0.001}"#;
    let mut scratch = Scratch::default();
    let read = format.read(text.as_bytes()).unwrap().outcome(&mut scratch).unwrap();
    let LogOutcome::Request(request) = read else { panic!("{read:?}") };
    assert_eq!(request.user_agent, br#"A "B" \"#);
    assert_eq!(request.cookie_visitor.as_deref(), Some("v \"1"));
    assert_eq!(request.body, Some(&b"eventType=page\neventType=activity\\"[..]));
    let get = text.replace("POST", "GET").replace(r"eventType=page\neventType=activity\\", "");
    assert_eq!(outcome_of(&format, &get).as_deref(), Ok("request"));
}

#[test]
fn a_uri_is_found_in_every_variable_that_has_one() {
    for (format, line, expected) in [
        (
            "$msec \"$request\" $status",
            r#"1700000000.000 "GET /visit/events?siteCode=s HTTP/2.0" 204"#,
            Ok("request"),
        ),
        (
            "$msec \"$request\" $status",
            r#"1700000000.000 "GET /visit/events?siteCode=a b HTTP/1.0" 204"#,
            Ok("request"),
        ),
        ("$msec \"$request\" $status", r#"1700000000.000 "GET /visit/events?siteCode=s" 204"#, Ok("request")),
        ("$msec \"$request\" $status", r#"1700000000.000 "" 400"#, Ok("not_tracking")),
        (
            "$msec $request_method $uri$is_args$args $status",
            "1700000000.000 GET /visit/events?siteCode=s 204",
            Ok("request"),
        ),
        (
            "$msec $request_method $uri$is_args$args $status",
            "1700000000.000 GET /visit/events- 204",
            Err(RejectReason::UnknownSite),
        ),
        (
            "$msec $request_method $status $uri $is_args$args",
            "1700000000.000 GET 204 /visit/events ?siteCode=s",
            Ok("request"),
        ),
        (
            "$msec $request_method $status $uri $args",
            "1700000000.000 GET 204 /visit/events siteCode=s",
            Ok("request"),
        ),
        (
            "$msec $request_method $status $uri $args",
            "1700000000.000 GET 204 /visit/x siteCode=s",
            Ok("not_tracking"),
        ),
        (
            "$msec $status $request_uri",
            "1700000000.000 204 /visit/events?siteCode=s&eventType=activity",
            Ok("request"),
        ),
        ("$msec $status $request_uri", "1700000000.000 204 /visit/events?siteCode=s", Ok("not_get_or_post")),
    ] {
        let format = LogFormat::compile(format).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(outcome_of(&format, line).as_deref(), expected.as_deref(), "{line}");
    }
}

#[test]
fn the_best_address_of_a_format_is_taken() {
    for (format, line, expected) in [
        ("$remote_addr $http_x_forwarded_for", "192.0.2.1 198.51.100.1", Some("192.0.2.1")),
        ("$realip_remote_addr $proxy_protocol_addr", "192.0.2.1 198.51.100.1", Some("198.51.100.1")),
        ("\"$http_x_forwarded_for\"", "\"203.0.113.9, 198.51.100.1\"", Some("198.51.100.1")),
        ("\"$http_x_forwarded_for\"", "\"203.0.113.9:4711\"", Some("203.0.113.9")),
        ("\"$http_x_forwarded_for\"", "\"-\"", None),
        ("$remote_addr", "unix:", None),
    ] {
        let format = LogFormat::compile(&format!("$msec $status \"$request_uri\" {format}")).unwrap();
        let line = format!("1700000000.000 204 \"/visit/events?siteCode=s&eventType=activity\" {line}");
        let address = format.read(line.as_bytes()).unwrap().client_address();
        assert_eq!(address, expected.map(|text| text.parse().unwrap()), "{line}");
    }
}

#[test]
fn what_cannot_be_told_apart_is_refused_with_place_and_remedy() {
    for (format, offset, words) in [
        ("$msec $status $request_uri$http_referer", Some(26), "side by side"),
        (
            "$msec $status $http_user_agent $http_referer $request_uri",
            Some(14),
            "`$http_user_agent` ends where a space begins",
        ),
        (
            "$msec $http_user_agent $request_uri $http_referer $status",
            Some(6),
            "so it is with `$http_referer`",
        ),
        (
            "escape=none $msec $status \"$http_user_agent\" \"$request_uri\" \"$http_referer\"",
            Some(27),
            "escape=json",
        ),
        ("escape=none $msec\t$status\t$http_user_agent\t$request_uri\t$http_referer", Some(26), "a tab"),
        ("escape=none $msec $status $request_uri $request_body", Some(39), "line feed of `$request_body`"),
        ("escape=none $msec $status $uri$is_args$args", Some(26), "line feed"),
        ("$request_uri $status", None, "add `$msec`"),
        ("$date_gmt $request_uri $status", None, "`$date_gmt`"),
        ("$msec $request_uri", None, "add `$status`"),
        ("$msec $status", None, "add `$request_uri`"),
        ("$msec $status $uri", None, "add `$args`"),
    ] {
        let error = LogFormat::compile(format).map(|_| ()).unwrap_err();
        assert_eq!(error.place.offset, offset, "{format}: {error}");
        assert!(error.to_string().contains(words), "{format}: {error}");
    }
}

#[test]
fn what_stands_behind_the_last_needed_value_may_be_anything() {
    for format in [
        "$msec $status $request_uri $request_time$http_x$http_y $upstream_addr",
        "$msec $status \"$http_user_agent\" $request_uri $http_x $http_y",
        "escape=none $msec $status $request_uri $http_x",
    ] {
        LogFormat::compile(format).unwrap_or_else(|error| panic!("{format}: {error}"));
    }
}

#[test]
fn a_line_of_any_format_is_written_as_fanal_has_it() {
    let format = LogFormat::compile(r#"escape=json {"t":$msec,"r":"$request","s":"$status","ua":"$http_user_agent","v":"$cookie_kameleoonvisitorcode","b":"$request_body"}"#).unwrap();
    let text = r#"{"t":1700000000.009,"r":"POST /visit/events?siteCode=s HTTP/1.1","s":"204","ua":"é \"","v":"a b","b":"eventType=activity\n\\x"}"#;
    let mut written = Vec::new();
    assert!(format.read(text.as_bytes()).unwrap().write_fanal("203.0.113.0", &mut written));
    let expected = "1700000000.009\t203.0.113.0\tPOST\t/visit/events?siteCode=s\t204\t\\xC3\\xA9 \\x22\t-\tkameleoonVisitorCode=a b\teventType=activity\\x0A\\x5Cx";
    assert_eq!(String::from_utf8(written.clone()).unwrap(), expected);
    let (fanal, mut ours, mut theirs) = (LogFormat::fanal(), Scratch::default(), Scratch::default());
    let again = fanal.read(&written).unwrap();
    let LogOutcome::Request(mut again) = again.outcome(&mut ours).unwrap() else { panic!() };
    again.client_address = None;
    assert_eq!(
        format.read(text.as_bytes()).unwrap().outcome(&mut theirs).unwrap(),
        LogOutcome::Request(again)
    );
    let broken = text.replace("\\n", "\\q");
    let mut written = b"x".to_vec();
    assert!(!format.read(broken.as_bytes()).unwrap().write_fanal("", &mut written));
    assert_eq!(written, b"x");
}

#[test]
fn an_explanation_says_what_is_searched_and_what_is_lost() {
    let explained = LogFormat::compile("combined").unwrap().explanation();
    let searches: Vec<String> = explained
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Variable { name, search, .. } => {
                Some(format!("{name}: {}", search.map_or("nothing".to_owned(), |search| search.to_string())))
            }
            Part::Literal { .. } => None,
        })
        .collect();
    assert_eq!(
        searches,
        [
            "remote_addr: to the first a space",
            "remote_user: what the next value leaves, backwards from the first `\"`",
            "time_local: 26 bytes, backwards",
            "request: to the first `\"`",
            "status: 3 bytes",
            "body_bytes_sent: to the first a space",
            "http_referer: to the first `\"`",
            "http_user_agent: to the first `\"`",
        ]
    );
    let lost: Vec<&str> = explained.uses.iter().filter(|u| u.variable.is_none()).map(|u| u.name).collect();
    assert_eq!(lost, ["body", "cookie"]);
}

#[test]
fn an_explained_line_shows_each_field_and_why_it_ends_as_it_does() {
    let format = LogFormat::fanal();
    let explained = format.explain(line(GET).as_bytes());
    assert_eq!((explained.outcome, explained.fields.len()), ("request", 9));
    assert_eq!(explained.fields[5].raw, r"Mozilla/5.0 \x22x\x22");
    assert_eq!(explained.fields[5].decoded.as_deref(), Some("Mozilla/5.0 \"x\""));
    assert_eq!(explained.fields[8].decoded.as_deref(), Some(""));
    assert_eq!(explained.site_code.as_deref(), Some("s1"));
    for (text, why) in [
        ("a\tb", "no a tab behind `$remote_addr`"),
        (&*changed(8, "a\tb"), "`$request_body` does not end"),
        (&*changed(0, "-"), "the time or the status"),
        (&*changed(5, "\\x4"), "`$http_user_agent` has an escape"),
        (&*changed(2, "POST"), "body is not in the log"),
    ] {
        let explained = format.explain(text.as_bytes());
        assert_eq!(explained.outcome, "malformed_log_line", "{text}");
        assert!(explained.why.as_ref().unwrap().contains(why), "{text}: {:?}", explained.why);
    }
}
