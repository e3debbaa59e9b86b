//! The captures that hold every kind of data, read by a person.

use crate::record::{Records, Value, json};
use crate::{captures, posts, receive};

const AGENT_OF_SCRIPTS: &str = "Mozilla/5.0 (X11; Linux x86_64) Driver/1.0 100%";
const AGENT_OF_PYTHON: &str =
    "Mozilla/5.0 (X11; Linux x86_64) Driver/1.0 (+https://kameleoon.test/bot?a=1&b=2)";

fn only_post(capture: &str) -> Records {
    let (_, text) = captures().into_iter().find(|(name, _)| name == capture).unwrap();
    let posts = posts(&text);
    assert_eq!(posts.len(), 1, "{capture}");
    receive(&posts[0])
}

/// What every line of the request says alike.
fn assert_common(records: &Records, visitor: &str, agent: &str, referer: &str, sdk: [&str; 2]) {
    let lines = records.0.len();
    for (number, record) in records.0.iter().enumerate() {
        let mut record = record.as_object().unwrap().clone();
        record.remove("event");
        record.remove("line");
        let expected = json!({
            "site_code": "abcdefghij",
            "visitor_code": visitor,
            "mapping_value": "",
            "client_address": "192.0.2.0",
            "user_agent": agent,
            "referer": referer,
            "source": "http",
            "node": "node-1",
            "received_at_ms": 1_700_000_000_000_u64,
            "line_number": number,
            "visitor_lines": lines,
            "sdk": sdk,
            // The driver of Python says `bot` in the user agent that it passes on.
            "robot": if agent == AGENT_OF_PYTHON { "declared" } else { "" },
        });
        assert_eq!(Value::Object(record), expected);
    }
}

fn assert_events(records: &Records, expected: &[(&str, &str, Value)]) {
    assert_eq!(records.0.len(), expected.len());
    for (record, (kind, nonce, values)) in records.0.iter().zip(expected) {
        assert_eq!(record["event"], json!({ "type": kind, "nonce": nonce, "extra": [], "values": values }));
    }
}

/// A `staticData` line in which only the given fields are set.
fn static_data(fields: &[(&str, Value)]) -> Value {
    let mut all = json!({
        "device_type": null, "browser": null, "browser_version": null,
        "os": null, "visit_number": null, "since_previous_ms": null,
    });
    for (field, value) in fields {
        all[*field] = value.clone();
    }
    all
}

fn paris() -> Value {
    json!({
        "country": "France", "region": "Île-de-France", "city": "Paris", "postal_code": "75008",
        "latitude": 48.8738, "longitude": 2.295,
    })
}

fn custom_data(index: i32, map: &str, values: &[&str], overwrite: bool) -> Value {
    json!({
        "index": index, "values_count_map": map, "values": values,
        "overwrite": overwrite, "mapping_identifier": false,
    })
}

fn page(href: &str, title: &str, referrers: &str) -> Value {
    json!({ "href": href, "title": title, "referrers_indices": referrers })
}

fn conversion_9002() -> Value {
    json!({
        "goal_id": 9002, "revenue": "0.0000", "negative": false, "metadata": "", "metadata_values": null,
    })
}

const ODD_PAGE: &str = "https://www.kameleoon.test/a path?x=1&y=%C3%A9#f";
const ODD_TITLE: &str = "Tïtre & co = 100%";

fn script_events(nonces: [&str; 10]) -> Vec<(&'static str, &str, Value)> {
    let values = [
        ("static_data", static_data(&[("os", json!("LINUX"))])),
        ("static_data", static_data(&[("device_type", json!("TABLET"))])),
        ("static_data", static_data(&[("browser", json!("IE")), ("browser_version", json!("11.5"))])),
        ("page", page("https://www.kameleoon.test/driver?x=1&y=a%20b", "Driver page", "")),
        ("page", page(ODD_PAGE, ODD_TITLE, "[2,5]")),
        ("geolocation", paris()),
        ("custom_data", custom_data(1, r#"{"gold":1,"a,b;c\"d'e":1}"#, &["gold", "a,b;c\"d'e"], true)),
        ("custom_data", custom_data(2, r#"{"lv-3":1}"#, &["lv-3"], false)),
        ("conversion", conversion_9002()),
        (
            "static_data",
            static_data(&[
                ("browser", json!("IE")),
                ("browser_version", json!("11.5")),
                ("visit_number", json!(0)),
                ("since_previous_ms", json!(0)),
                ("os", json!("LINUX")),
                ("device_type", json!("TABLET")),
            ]),
        ),
    ];
    nonces.into_iter().zip(values).map(|(nonce, (kind, values))| (kind, nonce, values)).collect()
}

#[test]
fn all_data_types_of_the_script_in_a_browser_are_read_as_a_person_reads_them() {
    let records = only_post("js-4.17.1-chromium_06_all_data_types");
    let sdk = ["javascript", "4.17.1"];
    let referer = "http://www.kameleoon.test/";
    assert_common(&records, "jsx5bckydn5oqom4", AGENT_OF_SCRIPTS, referer, sdk);
    let nonces = [
        "D027DA29548FC683",
        "7D057A8797A4F275",
        "1CF9CB0C2D4C3580",
        "74FB901C20B383B4",
        "7367652489CE1CD2",
        "B39EE5E3E95BDC29",
        "C238FBB882B57F01",
        "8412F77BB263F97C",
        "CD9CFB655E37EDC5",
        "D9D5634C5E9D03CF",
    ];
    assert_events(&records, &script_events(nonces));
}

#[test]
fn all_data_types_of_the_script_in_node_are_read_as_a_person_reads_them() {
    let records = only_post("js-4.17.1-node_06_all_data_types");
    assert_common(&records, "jsncdzv7klcsw8xf", AGENT_OF_SCRIPTS, "", ["javascript", "4.17.1"]);
    let nonces = [
        "51CFE06A20D85209",
        "DE476E8029E4C1A3",
        "87C0BB3457F7E4F5",
        "74EBC72527937931",
        "CD12B820D74C9D0B",
        "25B7033FBCEC97F3",
        "3C7559C953F3D4BA",
        "4320B29A33990F6B",
        "E19E9A0082D843C0",
        "3BC906EAD179B059",
    ];
    assert_events(&records, &script_events(nonces));
}

#[test]
fn all_data_types_of_python_are_read_as_a_person_reads_them() {
    let records = only_post("python-3.22.2_06_all_data_types");
    assert_common(&records, "pyb1144fd0204c4b", AGENT_OF_PYTHON, "", ["PYTHON", "3.22.2"]);
    let browser = static_data(&[("browser", json!("FIREFOX")), ("browser_version", json!("128.5"))]);
    assert_events(
        &records,
        &[
            ("static_data", "3FD7ED0613B7105D", static_data(&[("device_type", json!("TABLET"))])),
            ("static_data", "2DE5444A7E9FC6D1", browser),
            ("static_data", "2AA8E123AB89791D", static_data(&[("os", json!("LINUX"))])),
            ("geolocation", "65F2117FF4EC08F8", paris()),
            ("custom_data", "468685A990C2B2CC", custom_data(1, r#"{"gold":1}"#, &["gold"], true)),
            ("custom_data", "9F3424FE2EFE23B9", custom_data(2, r#"{"lv-3":1}"#, &["lv-3"], false)),
            ("page", "81222D027448457D", page(ODD_PAGE, ODD_TITLE, "[2,5]")),
            ("conversion", "620E2D79B0C9870B", conversion_9002()),
        ],
    );
}
