//! A visitor who sends more than a partition should carry goes to the overflow topic; what
//! becomes of the visit is the same.

use std::thread::sleep;
use std::time::Duration;

use fanal_tests::{Folder, Node, eventually};

use crate::support::{
    LIMIT, Servers, Tables, create_site, embedded, on_servers, other_client, reconciles, start, track,
};

const SITE: &str = "hot01";
const HOT: &str = "robot";
const LINES_PER_REQUEST: u32 = 500;
const REQUESTS: u32 = 12;
/// A key stays hot for a minute after its last busy second.
const CALM: Duration = Duration::from_secs(63);

/// What does not depend on the moment of receipt.
const VISITS: &str = "SELECT visitor_code, previous_visit_count, event_count, page_view_count, conversion_count, \
    revenue, is_bounce, landing_url, exit_url, channel, exposures.experiment_id, exposures.variation_id, \
    goals.goal_id, custom_data, segment_ids, is_bot FROM visits ORDER BY visitor_code, started_at";
const EVENTS: &str = "SELECT visitor_code, nonce, event_type, line_number, page_url, goal_id, revenue, visit_id != 0 \
    FROM events ORDER BY visitor_code, nonce, line_number";

/// Sends the same lines to whoever it is: calm, busy, then calm again when `pause` is over.
fn send(node: &Node, pause: Duration) {
    let mut number = 0;
    let mut line = |visitor: &str| {
        number += 1;
        match number % 100 {
            7 => format!(
                "eventType=conversion&goalId=3&revenue=1.25&nonce={number:016X}&visitorCode={visitor}"
            ),
            8 => format!(
                "eventType=experiment&id=1001&variationId=2001&nonce={number:016X}&visitorCode={visitor}"
            ),
            _ => format!(
                "eventType=page&href=https%3A%2F%2Fshop.example%2F{number}&title=t&nonce={number:016X}&visitorCode={visitor}"
            ),
        }
    };
    for visitor in [HOT, "calm-1", "calm-2"] {
        track(node, SITE, &line(visitor));
    }
    // Early enough to be written by itself: what overflows must be added to a visit that is there.
    sleep(Duration::from_secs(3));
    for _ in 0..REQUESTS {
        let lines: Vec<String> = (0..LINES_PER_REQUEST).map(|_| line(HOT)).collect();
        track(node, SITE, &lines.join("\n"));
        track(node, SITE, &line("calm-1"));
    }
    sleep(pause);
    for visitor in [HOT, "calm-2"] {
        track(node, SITE, &line(visitor));
    }
}

/// Waits until the tables hold what the other installation has.
fn settles(node: &Node, tables: &Tables, expected: &(String, String), when: &str) {
    reconciles(node);
    let found = (tables.query(VISITS), tables.query(EVENTS));
    for (what, expected, found) in [("visits", &expected.0, &found.0), ("events", &expected.1, &found.1)] {
        let first = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
        let cut = |line: &str| line.chars().take(600).collect::<String>();
        assert!(
            expected == found,
            "{when}: {what} differ ({} rows embedded, {} on servers)\nembedded: {}\n servers: {}",
            expected.lines().count(),
            found.lines().count(),
            first.map(|(expected, _)| cut(expected)).unwrap_or_default(),
            first.map(|(_, found)| cut(found)).unwrap_or_default(),
        );
    }
}

#[test]
fn a_visitor_with_thousands_of_lines_in_a_second_has_the_visit_that_an_embedded_run_makes() {
    let folder = Folder::new("hot");
    let (mut alone, tables) = embedded(folder.path(), "");
    start(&mut alone);
    create_site(&alone, SITE);
    send(&alone, Duration::ZERO);
    reconciles(&alone);
    let expected = (tables.query(VISITS), tables.query(EVENTS));
    assert_eq!(tables.count(&format!("SELECT count() FROM visits WHERE visitor_code = '{HOT}'")), 1);
    assert_eq!(alone.stop(), 0);

    let mut servers = Servers::new("hot");
    servers.kafka_keys = "hot_key_records_per_second = 100".to_owned();
    let mut node = on_servers(folder.path(), &servers, "");
    start(&mut node);
    create_site(&node, SITE);
    send(&node, CALM);
    let overflowed = node.metric("kafka_records_overflow_total").unwrap();
    assert!(overflowed > 4000.0, "only {overflowed} records went to the overflow topic");
    let records = other_client(&[&servers.kafka, "records", &servers.name]);
    assert_eq!(records.lines().nth(2), Some(overflowed.to_string().as_str()), "{records}");
    settles(&node, &servers.tables(), &expected, "after the automatic rebuild");

    // Streaming goes on with the visit that it has: it must not write over the whole one.
    sleep(Duration::from_secs(3));
    settles(&node, &servers.tables(), &expected, "a while later");
    assert_eq!(node.stop(), 0);
    start(&mut node);
    settles(&node, &servers.tables(), &expected, "after a restart");
    track(&node, SITE, &format!("eventType=activity&nonce=00000000000000FF&visitorCode={HOT}"));
    let more = format!("SELECT event_count FROM visits WHERE visitor_code = '{HOT}'");
    let all = u64::from(REQUESTS * LINES_PER_REQUEST) + 3;
    reconciles(&node);
    eventually(LIMIT, &format!("{all} events in the visit, not {}", servers.tables().query(&more)), || {
        reconciles(&node);
        (servers.tables().query(&more) == all.to_string()).then_some(())
    });
    assert_eq!(node.stop(), 0);
    servers.remove();
}
