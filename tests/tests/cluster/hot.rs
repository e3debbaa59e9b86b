//! A visitor who sends more than a partition should carry goes to the overflow topic; what
//! becomes of the visit is the same.

use std::thread::sleep;
use std::time::{Duration, Instant};

use fanal_tests::{Folder, Node, Role, eventually};

use crate::support::{LIMIT, Servers, Tables, embedded, on_servers, other_client, reconciles, start, track};

const SITE: &str = "hot01";
const HOT: &str = "robot";
const LAST: &str =
    "eventType=page&href=https%3A%2F%2Fshop.example%2Flast&nonce=00000000000000FF&visitorCode=robot";
const LINES_PER_REQUEST: u32 = 500;
const REQUESTS: u32 = 12;
/// Streaming asks for the rebuild that makes such a visit whole when the visit is over.
const SESSION: &str = "1min";
const ETL: &str = "allowed_lateness = \"3s\"";

/// What does not depend on the moment of receipt.
const VISITS: &str = "SELECT visitor_code, previous_visit_count, event_count, page_view_count, conversion_count, \
    revenue, is_bounce, landing_url, exit_url, channel, exposures.experiment_id, exposures.variation_id, \
    goals.goal_id, custom_data, segment_ids, is_bot FROM visits ORDER BY visitor_code, started_at";
const EVENTS: &str = "SELECT visitor_code, nonce, event_type, line_number, page_url, goal_id, revenue \
    FROM events ORDER BY visitor_code, nonce, line_number";

/// Sends the same lines to whoever it is: calm, then busy.
fn send(node: &Node) {
    let site = format!(r#"{{"name":"{SITE}","session_timeout":"{SESSION}"}}"#);
    let answer = node.admin("PUT", &format!("/api/v1/sites/{SITE}")).body(site).send();
    assert!([200, 201].contains(&answer.status), "{}: {}", answer.status, answer.text());
    let mut number = 0;
    let mut line = |visitor: &str| {
        number += 1;
        match number % 100 {
            7 => format!(
                "eventType=conversion&goalId=3&revenue=1.25&nonce=1{number:015X}&visitorCode={visitor}"
            ),
            8 => format!(
                "eventType=experiment&id=1001&variationId=2001&nonce=1{number:015X}&visitorCode={visitor}"
            ),
            _ => format!(
                "eventType=page&href=https%3A%2F%2Fshop.example%2F{number}&title=t&nonce=1{number:015X}&visitorCode={visitor}"
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
    for visitor in [HOT, "calm-2"] {
        track(node, SITE, &line(visitor));
    }
}

/// Events without what their visit is, which may come later; visits.
fn rows(tables: &Tables) -> (String, String) {
    (tables.query(EVENTS), tables.query(VISITS))
}

fn assert_same(what: &str, expected: &str, found: &str) {
    let first = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    let cut = |line: &str| line.chars().take(600).collect::<String>();
    assert!(
        expected == found,
        "{what} differ ({} rows embedded, {} on servers)\nembedded: {}\n servers: {}",
        expected.lines().count(),
        found.lines().count(),
        first.map(|(expected, _)| cut(expected)).unwrap_or_default(),
        first.map(|(_, found)| cut(found)).unwrap_or_default(),
    );
}

#[test]
fn a_visitor_with_thousands_of_lines_in_a_second_has_the_visit_that_an_embedded_run_makes() {
    let folder = Folder::new("hot");
    let (mut alone, tables) = embedded(folder.path(), ETL);
    start(&mut alone);
    send(&alone);
    track(&alone, SITE, LAST);
    reconciles(&alone);
    let (events, visits) = rows(&tables);
    assert_eq!(tables.count(&format!("SELECT count() FROM visits WHERE visitor_code = '{HOT}'")), 1);
    assert_eq!(alone.stop(), 0);

    let mut servers = Servers::new("hot");
    servers.kafka_keys = "hot_key_records_per_second = 100".to_owned();
    let mut node = on_servers(folder.path(), &servers, ETL);
    start(&mut node);
    // Keys are hot per collector: to this one the visitor is calm.
    let mut other = Node::new(folder.path(), "other", Role::Ingest, &servers.toml(), "node = \"n2\"");
    other.start();
    eventually(LIMIT, "another collector", || other.unready().is_none().then_some(()));
    // Large pages are for those who build visits.
    assert_eq!((node.status("THP_enabled"), other.status("THP_enabled")), ("1".into(), "0".into()));
    send(&node);
    // After the rebuild of what overflowed, the visitor's own partition gets a line again,
    // and streams a visit that knows nothing of the overflow.
    reconciles(&node);
    // Not before: what a slow broker does not confirm comes by way of the spool.
    let records = other_client(&[&servers.kafka, "records", &servers.name]);
    let overflowed: u64 = records.lines().nth(2).unwrap().parse().unwrap();
    assert!(overflowed > 1000, "only {overflowed} records are on the overflow topic");
    assert!(node.metric("kafka_records_overflow_total").unwrap() > 0.0);
    track(&other, SITE, LAST);
    // No event waits for anything but the rebuild of late ones.
    reconciles(&node);
    assert_same("events after catching up", &events, &rows(&servers.tables()).0);
    // The visit is whole when it is over, and stays so.
    let end = Instant::now() + LIMIT;
    while rows(&servers.tables()).1 != visits && Instant::now() < end {
        sleep(Duration::from_secs(1));
    }
    assert_same("visits", &visits, &rows(&servers.tables()).1);
    assert_eq!((other.stop(), node.stop()), (0, 0));
    start(&mut node);
    reconciles(&node);
    sleep(Duration::from_secs(5));
    let (events_after, visits_after) = rows(&servers.tables());
    assert_same("events after a restart", &events, &events_after);
    assert_same("visits after a restart", &visits, &visits_after);
    assert_eq!(node.stop(), 0);
    servers.remove();
}
