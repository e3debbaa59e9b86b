//! The fast path allocates nothing per line; counted by the allocator itself.

#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use fanal_model::{Beacon, DeadLetter, Source};
use fanal_parser::log_format::{LogFormat, LogOutcome, Scratch};
use fanal_parser::{Limits, Receiver, Request, Sink, line};

/// Counts the allocations of each thread; tests run side by side.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const LINES: [&str; 9] = [
    "eventType=staticData&os=LINUX&osIndex=3&nonce=D027DA29548FC683&visitorCode=jsx5bckydn5oqom4&userAgent=Mozilla/5.0 (X11; Linux x86_64) 100%",
    "eventType=page&href=https%3A%2F%2Fwww.example.test%2Fa%20path&title=T%C3%AFtre&referrersIndices=[2,5]&nonce=7367652489CE1CD2&visitorCode=jsx5bckydn5oqom4",
    "nonce=468685A990C2B2CC&eventType=CUSTOM_DATA&index=1&valuesCountMap=%7B%22gold%22%3A1%7D&overwrite=true&visitorCode=%C3%A9l%C3%A8ve%207",
    "nonce=0&eventType=conversion&goalId=%39002&revenue=1e+21&negative=false&mappingValue=user%201&userAgent=a%20b",
    "eventType=unheard&x=%41&x=2&visitorCode=v",
    "eventType=conversion&goalId=x&visitorCode=v",
    "eventType=activity&visitorCode=%FF%C3",
    "eventType=activity&nonce=1",
    "garbage\0",
];

#[test]
fn parsing_a_line_allocates_nothing() {
    let long = format!("eventType=activity&visitorCode={}", "%C3%A9".repeat(300));
    for text in LINES.into_iter().chain([&*long]) {
        let mut accepted = false;
        let count = allocations(|| accepted = line::parse(text.as_bytes()).is_ok());
        assert_eq!(count, 0, "{text} (accepted: {accepted})");
    }
}

#[test]
fn an_event_without_escapes_borrows_everything() {
    let text = "eventType=staticData&browser=IE&browserIndex=1&browserVersion=11.5&deviceType=TABLET&visitNumber=0\
                &timeSincePreviousVisit=-1&nonce=1CF9CB0C2D4C3580&visitorCode=jsx5bckydn5oqom4";
    let count = allocations(|| {
        let event = line::parse(text.as_bytes()).unwrap().event();
        assert_eq!(event.kind.name(), "static_data");
    });
    assert_eq!(count, 0);
}

#[derive(Default)]
struct Tally {
    bytes: usize,
    records: usize,
    robots: usize,
}

impl Sink for Tally {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        self.bytes += beacon.line.len() + beacon.visitor().len() + beacon.user_agent.len();
        self.robots += usize::from(beacon.is_robot());
        self.records += 1;
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.bytes += letter.bytes.len();
        self.records += 1;
    }
}

#[test]
fn a_warm_receiver_allocates_nothing_per_beacon() {
    // 1 000 visitors, so that their table grows, in Latin letters and others.
    let body: Vec<String> = (0..9_000)
        .map(|n| LINES[n % 9].replace("jsx5bckydn5oqom4", &format!("v{}%C3%A9", n % 1_000)))
        .collect();
    let body = body.join("\n");
    for query in ["siteCode=s&sdkName=PYTHON&sdkVersion=3.22.2&bodyUa=true", "siteCode=s"] {
        let request = Request {
            site_code: "s",
            received_at_ms: 1,
            query: query.as_bytes(),
            body: Some(body.as_bytes()),
            cookie_visitor: Some("from-the-cookie"),
            header_user_agent: b"Googlebot/2.1",
            referer: b"",
            client_address: "",
            source: Source::Http,
            node: "n",
        };
        let mut receiver = Receiver::new(Limits::default());
        let mut cold = Tally::default();
        assert!(allocations(|| assert!(receiver.receive(&request, &mut cold).unwrap().is_balanced())) > 0);
        let mut warm = Tally::default();
        let count = allocations(|| assert!(receiver.receive(&request, &mut warm).unwrap().is_balanced()));
        assert_eq!((count, warm.records, warm.bytes), (0, 9_000, cold.bytes), "{query}");
        assert_eq!((warm.robots > 0, warm.robots), (query == "siteCode=s", cold.robots), "{query}");
    }
}

#[test]
fn a_line_of_a_log_allocates_nothing_once_the_scratch_has_grown() {
    let json = r#"escape=json {"t":"$time_iso8601","r":"$request","s":$status,"ua":"$http_user_agent","c":"$http_cookie","b":"$request_body"}"#;
    let fanal = "1700000000.123\t203.0.113.7\tPOST\t/visit/events?siteCode=s\t204\tM\\x22\t-\ta=1; kameleoonVisitorCode=v\teventType=page&href=x\\x0AeventType=activity";
    let own = r#"{"t":"2023-11-14T22:13:20+00:00","r":"POST /visit/events?siteCode=s HTTP/1.1","s":204,"ua":"a \"b\"","c":"kameleoonVisitorCode=v","b":"eventType=page\neventType=activity"}"#;
    let combined = r#"203.0.113.7 - a [b] [14/Nov/2023:22:13:20 +0000] "GET /visit/events?siteCode=s HTTP/1.1" 204 0 "-" "A \x22""#;
    for (format, line) in [("fanal", fanal), (json, own), ("combined", combined)] {
        let format = LogFormat::compile(format).unwrap();
        let mut scratch = Scratch::default();
        for (round, line) in
            [line, line, &line[..40], &line.replace("/visit", "/other"), "\0"].iter().enumerate()
        {
            let mut is_request = false;
            let count = allocations(|| {
                let read = format.read(line.as_bytes());
                let outcome = read.and_then(|read| {
                    read.outcome(&mut scratch).map(|outcome| matches!(outcome, LogOutcome::Request(_)))
                });
                is_request = outcome == Ok(true);
            });
            assert_eq!(is_request, round < 2, "{line}");
            assert!(round == 0 || count == 0, "{count} allocations: {line}");
        }
    }
}
