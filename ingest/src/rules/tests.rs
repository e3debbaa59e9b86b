//! What rules refuse, and what files of rules are refused.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fanal_model::Beacon;
use fanal_service::stop::Stop;

use super::*;

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap()
}

fn subject(site_code: &str) -> Subject<'_> {
    Subject {
        site_code,
        address: Some(IpAddr::from([192, 0, 2, 7])),
        header_user_agent: b"BadBot/1",
        body_ua: false,
    }
}

fn beacon<'b>(visitor: &'b str, line: &'b str) -> Beacon<'b> {
    Beacon {
        site_code: "shop",
        visitor_code: visitor,
        line: line.as_bytes(),
        user_agent: b"BadBot/1",
        ..Beacon::default()
    }
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let rule = "[[rule]]\nname = 'a'\nsite = 'shop'\naddresses = ['192.0.2.0/24']\nuser_agent = 'badbot*'";
    let rules = rules(rule);
    assert_eq!(rules.request(&subject("shop")), Err(Refused::Rule));
    rules.request(&subject("blog")).unwrap();
    let elsewhere = Some(IpAddr::from([192, 0, 3, 7]));
    rules.request(&Subject { address: elsewhere, ..subject("shop") }).unwrap();
    rules.request(&Subject { address: None, ..subject("shop") }).unwrap();
    rules.request(&Subject { header_user_agent: b"Mozilla/5.0", ..subject("shop") }).unwrap();
}

#[test]
fn a_user_agent_in_the_body_is_looked_for_in_each_line() {
    let rules = rules("[[rule]]\nname = 'a'\nuser_agent = 'badbot*'");
    let subject =
        Subject { header_user_agent: b"Python/3.11 aiohttp/3.14.5", body_ua: true, ..subject("shop") };
    rules.request(&subject).unwrap();
    let lines = rules.lines(&subject).unwrap();
    assert!(lines.refuse(&beacon("v", "eventType=activity&visitorCode=v")));
    assert!(!lines.refuse(&Beacon { user_agent: b"Mozilla/5.0", ..beacon("v", "") }));
}

#[test]
fn a_kind_of_event_is_refused_however_it_is_spelled() {
    let rules = rules("[[rule]]\nname = 'a'\nsite = 'shop'\nevent = 'activity'");
    let subject = subject("shop");
    rules.request(&subject).unwrap();
    let lines = rules.lines(&subject).unwrap();
    assert!(lines.refuse(&beacon("v", "eventType=ACTIVITY&visitorCode=v")));
    assert!(!lines.refuse(&beacon("v", "eventType=conversion&visitorCode=v&goalId=1")));
}

#[test]
fn a_sample_keeps_whole_visitors_and_a_smaller_one_is_part_of_it() {
    let kept = |keep: f64| -> Vec<usize> {
        let rules = rules(&format!("[[rule]]\nname = 'a'\nsite = 'shop'\nkeep = {keep}"));
        let subject = subject("shop");
        rules.request(&subject).unwrap();
        let lines = rules.lines(&subject).unwrap();
        let line = "eventType=activity&visitorCode=v";
        (0..10_000).filter(|n| !lines.refuse(&beacon(&n.to_string(), line))).collect()
    };
    let (tenth, half) = (kept(0.1), kept(0.5));
    assert!((900..1100).contains(&tenth.len()) && (4800..5200).contains(&half.len()));
    assert!(tenth.iter().all(|visitor| half.contains(visitor)));
    assert_eq!(tenth, kept(0.1), "each visitor has one fate");
}

#[test]
fn a_site_without_a_rule_is_asked_nothing_of_its_lines() {
    let rules = rules("[[rule]]\nname = 'a'\nsite = 'shop'\nevent = 'page'");
    assert!(rules.lines(&subject("blog")).is_none());
    assert!(Rules::default().is_empty() && !rules.is_empty());
}

#[test]
fn a_file_that_cannot_work_is_refused_with_what_is_wrong() {
    let cases = [
        ("[[rule]]\nname = 'a'", "no condition"),
        ("[[rule]]\nname = ''\nsite = 's'", "name"),
        ("[[rule]]\nname = 'a'\nsite = 's'\n[[rule]]\nname = 'a'\nsite = 't'", "twice"),
        ("[[rule]]\nname = 'a'\nsite = 's'\nkeep = 1", "keep"),
        ("[[rule]]\nname = 'a'\nsite = 's'\nkeep = nan", "keep"),
        ("[[rule]]\nname = 'a'\nevent = 'pageview'", "event type"),
        ("[[rule]]\nname = 'a'\naddresses = ['10.0.0.0/99']", "network"),
        ("[[rule]]\nname = 'a'\nsite = 's'\nif = 1", "if"),
        ("[[quota]]\nsite = 's'\nlines_per_s = 0", "above 0"),
        ("[[quota]]\nsite = 's'\nlines_per_s = nan", "above 0"),
        ("[[quota]]\nsite = 's'\nlines_per_s = 1\nburst_s = 0", "burst_s"),
        ("[[quota]]\nsite = 's'\nlines_per_s = 1\n[[quota]]\nsite = 's'\nlines_per_s = 2", "two quotas"),
    ];
    for (text, named) in cases {
        let problem = Rules::parse(text).unwrap_err();
        assert!(problem.contains(named), "{text}: {problem}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_line_its_key_and_what_is_expected() {
    let cases = [
        ("[[quota]]\nsite = 's'\nlines_per_s = '9'", "line 3, key `quota.lines_per_s`", "such as 100 or 0.5"),
        ("[[quota]]\nsite = 5\nlines_per_s = 9", "line 2, key `quota.site`", "text in quotes"),
        ("[quota]\nsite = 's'\nlines_per_s = 9", "line 1, key `quota`", "[[quota]]"),
        ("[[quota]]\nsite = 's'", "line 1, key `quota`", "missing field `lines_per_s`"),
        ("# a\n[[rule]]\nname = 'a'\naddresses = '10.0.0.0/8'", "line 4, key `rule.addresses`", "a list"),
        ("[[rule]]\nname = 'a'\nsite = 's'\nkeep = true", "line 4, key `rule.keep`", "a number"),
        ("[[rule]]\nname = 'a'\nevent = ['page']", "line 3, key `rule.event`", "text in quotes"),
        ("[[rule]]\nname = 'a'\nevnt = 'page'", "line 3, key `rule.evnt`", "`event`"),
        ("[[rule]\nname = 'a'", "line 1", ""),
    ];
    for (text, place, expected) in cases {
        let problem = Rules::parse(text).unwrap_err();
        assert!(problem.starts_with(place) && problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains('\n') && !problem.contains("f64"), "{text}: {problem}");
    }
}

#[test]
fn a_file_is_checked_without_taking_it_and_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    let missing = RulesHandle::check(&path).unwrap_err().to_string();
    assert!(missing.contains("rules.toml is not there"), "{missing}");
    assert!(RulesHandle::read(&path).unwrap().load().is_empty(), "no file, no rules");
    let quota = |site: &str| format!("[[quota]]\nsite = '{site}'\nlines_per_s = 1\n");
    let rule = |name: &str| format!("[[rule]]\nname = '{name}'\nsite = 's'\n");
    let for_all = "[[rule]]\nname = 'all'\nevent = 'page'\n".to_owned();
    std::fs::write(&path, [quota("s"), quota("*"), rule("a"), rule("b"), for_all].concat()).unwrap();
    assert_eq!(RulesHandle::check(&path).unwrap(), RulesCount { quotas: 2, kill_rules: 3 });
}

#[tokio::test]
async fn a_changed_file_is_in_force_within_seconds_and_a_wrong_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    let handle = RulesHandle::read(&path).unwrap();
    let stop = Stop::new();
    let watching = tokio::spawn(handle.clone().watch(path.clone(), stop.clone()));
    let refused = || handle.load().request(&subject("shop")).is_err();
    assert!(!refused());
    let becomes = async |is_refused: bool| {
        let until = Instant::now() + Duration::from_secs(5);
        while refused() != is_refused {
            assert!(Instant::now() < until, "not in force after 5 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    std::fs::write(&path, "[[rule]]\nname = 'a'\nsite = 'shop'").unwrap();
    becomes(true).await;
    std::fs::write(&path, "[[rule]]\nname = 'a'").unwrap();
    // Longer than it takes to be looked at twice.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert!(refused(), "the rules before stay");
    std::fs::remove_file(&path).unwrap();
    becomes(false).await;
    stop.stop();
    watching.await.unwrap();
}
