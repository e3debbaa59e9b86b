//! What the tables say of robots follows the records, and for records that do not say,
//! the user agent.
#![allow(clippy::unwrap_used, reason = "a test panics where its claim does not hold")]

use std::collections::BTreeMap;

use fanal_etl::stream::{Engine, EngineConfig};
use fanal_etl::visit::VisitPolicy;
use fanal_model::Beacon;
use fanal_storage::clickhouse::Flush;
use fanal_storage::log::Partition;

const NOW_MS: u64 = 1_760_000_000_000;
const GOOGLEBOT: &[u8] = b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const CHROME: &[u8] = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36";
const CONFIG: EngineConfig =
    EngineConfig { partition: Partition::EMBEDDED, key_partitions: 1, allowed_lateness_ms: 120_000 };

/// A page of a visitor, `later` milliseconds on.
fn page(visitor: &str, later: u64, user_agent: &[u8], sdk_name: &str, robot: Option<&str>) -> Vec<u8> {
    let line = format!("eventType=page&href=https%3A%2F%2Fx%2F1&nonce={later:016}&visitorCode={visitor}");
    let beacon = Beacon {
        received_at_ms: NOW_MS + later,
        site_code: "s",
        visitor_code: visitor,
        user_agent,
        sdk_name,
        robot,
        line: line.as_bytes(),
        ..Beacon::default()
    };
    let mut value = Vec::new();
    beacon.encode(&mut value);
    value
}

/// `is_bot` by visitor, of events and of visits.
fn flags(flush: &Flush) -> (BTreeMap<String, bool>, BTreeMap<String, bool>) {
    let events = flush.events.iter().map(|row| (row.visitor_code.clone(), row.is_bot));
    let visits = flush.visits.iter().map(|row| (row.visitor_code.clone(), row.is_bot));
    (events.collect(), visits.collect())
}

/// Visitor, user agent, `sdkName`, what the record says, what the rows must say.
type Case = (&'static str, &'static [u8], &'static str, Option<&'static str>, bool);

#[test]
fn rows_follow_the_record_and_judge_records_that_do_not_say() {
    let cases: [Case; 9] = [
        ("judged_robot", GOOGLEBOT, "", Some("declared"), true),
        // The header of a server side SDK, which the collector did not judge.
        ("judged_none", GOOGLEBOT, "PYTHON", Some(""), false),
        ("judged_by_newer_rules", CHROME, "", Some("behaviour"), true),
        ("old_robot", GOOGLEBOT, "", None, true),
        ("old_robot_in_a_body", GOOGLEBOT, "PYTHON", None, true),
        ("old_person", CHROME, "", None, false),
        ("old_curl", b"curl/8.5.0", "", None, true),
        ("old_sdk", b"Java/17.0.11", "JAVA", None, false),
        ("old_without_agent", b"", "", None, false),
    ];
    let wanted: BTreeMap<String, bool> =
        cases.iter().map(|(visitor, .., is_bot)| ((*visitor).to_owned(), *is_bot)).collect();
    let mut engine = Engine::new(CONFIG, 0);
    for (offset, (visitor, agent, sdk_name, robot, _)) in (0..).zip(cases) {
        assert_eq!(engine.take(offset, NOW_MS, &page(visitor, 0, agent, sdk_name, robot)), None);
    }
    // As it goes on, and out of a checkpoint that holds the records.
    let stored = engine.to_bytes().unwrap();
    for mut engine in [engine, Engine::from_bytes(CONFIG, &stored).unwrap()] {
        let (events, visits) = flags(&engine.flush(None, &|_: &str| VisitPolicy::default()).tables);
        assert_eq!(events, wanted);
        assert_eq!(visits, wanted);
    }
}

#[test]
fn a_visit_is_a_robots_when_its_first_user_agent_is() {
    for (first, second, is_bot) in
        [(GOOGLEBOT, CHROME, true), (CHROME, GOOGLEBOT, false), (b"", GOOGLEBOT, true)]
    {
        for robot in [None, Some("declared")] {
            let mut engine = Engine::new(CONFIG, 0);
            for (offset, agent) in (0..).zip([first, second]) {
                let robot = robot.map(|reason| if agent == GOOGLEBOT { reason } else { "" });
                let value = page("v", offset, agent, "", robot);
                assert_eq!(engine.take(offset, NOW_MS, &value), None);
            }
            let flush = engine.flush(None, &|_: &str| VisitPolicy::default()).tables;
            assert_eq!((flush.events.len(), flush.visits.len()), (2, 1));
            assert_eq!(flush.visits[0].is_bot, is_bot);
        }
    }
}
