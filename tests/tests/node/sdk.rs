//! Unmodified vendor SDKs against the program, each in namespaces of its own:
//! the SDKs insist on ports 443 and 8110 and on host names.
//!
//! Scenarios that read visitor data back are not selected: `GET /visit/visitor`
//! answers `{}` in this version. `tests/sdk/README.md` lists them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fanal_tests::{Dev, Folder, Start, checkout, fanal, isolated, run, run_ok, within};

const DOMAIN: &str = "kameleoon.test";
const SITE: &str = "abcdefghij";
const REAL_TIME_SITE: &str = "realtime01";
const CONSENT_SITE: &str = "consent001";
/// A driver with all its scenarios.
const DRIVER_LIMIT: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(30);

/// Scenarios that may say SKIP: `/map/maps` is not offered in this version.
const MAY_SKIP: &str = "10_remote_data_map";
/// The Python scenario 17 reads back what it sent and is left out.
const PYTHON: &[&str] = &[
    "01_initialise",
    "02_get_variation",
    "03_bucketing",
    "04_activity",
    "09_audiences",
    MAY_SKIP,
    "11_not_modified",
    "12_environment",
    "13_cookies",
    "14_engine_tracking_code",
    "16_real_time",
];
const JAVASCRIPT: &[&str] = &[
    "01_initialise",
    "02_get_variation",
    "03_bucketing",
    "04_flush_without_data",
    "09_audiences",
    MAY_SKIP,
    "11_not_modified",
    "12_environment",
    "13_cookies",
    "14_engine_tracking_code",
    "16_real_time",
    "17_consent",
];

fn sdk_folder() -> PathBuf {
    checkout().join("tests/sdk")
}

fn installed(path: &str, part: &str) -> PathBuf {
    let path = checkout().join(path);
    assert!(path.exists(), "{} is missing; install it with: scripts/install.sh {part}", path.display());
    path
}

/// Names of the network domain, in a hosts file that only this namespace sees.
fn name_hosts(folder: &Folder) {
    let mut hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names = ["data", "api", "sdk-config", "events", "www"].map(|host| format!("{host}.{DOMAIN}"));
    hosts.push_str(&format!("\n127.0.0.1 localhost {DOMAIN} {}\n", names.join(" ")));
    let file = folder.join("hosts");
    std::fs::write(&file, hosts).unwrap();
    run_ok(Command::new("mount").arg("--bind").arg(&file).arg("/etc/hosts"), PATIENCE);
}

/// The program on the ports of the SDKs, with the three sites that the drivers expect.
fn serve(folder: &Folder) -> Dev {
    name_hosts(folder);
    let dev = Start::new(&folder.join("data"))
        .address("https", "127.0.0.1:443")
        .address("sse", "127.0.0.1:8110")
        .arguments(&["--network-domain", DOMAIN])
        .dev();
    let example = std::fs::read_to_string(sdk_folder().join("config.example.json")).unwrap();
    let real_time = example.replace("\"realTimeUpdate\": false", "\"realTimeUpdate\": true");
    let consent = example.replace("\"NOT_REQUIRED\"", "\"REQUIRED\"");
    assert!(real_time != example && consent != example, "config.example.json has changed");
    for (site, configuration) in [(SITE, &example), (REAL_TIME_SITE, &real_time), (CONSENT_SITE, &consent)] {
        dev.create_site(site);
        let answer = publish(&dev, site, configuration);
        assert!([200, 201, 204].contains(&answer), "{site}: {answer}");
    }
    std::fs::write(folder.join("real-time.json"), real_time).unwrap();
    let clients = dev.admin("POST", &format!("/api/v1/sites/{SITE}/clients"));
    clients.body(r#"{"client_id":"client-id","client_secret":"client-secret"}"#).expect(201);
    dev
}

fn publish(dev: &Dev, site: &str, configuration: &str) -> u16 {
    dev.admin("PUT", &format!("/api/v1/sites/{site}/sdk-configuration")).body(configuration).send().status
}

/// Runs a driver; every scenario must pass, one may be skipped.
fn drive(dev: &Dev, folder: &Folder, name: &str, mut driver: Command, scenarios: &[&str]) {
    let update = format!(
        "sed \"s/1700000000000/$(date +%s%3N)/\" '{}' | curl -sSf -X PUT -H \"Authorization: Bearer $(cat '{}')\" \
         -H 'Content-Type: application/json' --data-binary @- \
         \"http://{}/api/v1/sites/$RT_SITE_CODE/sdk-configuration\"",
        folder.join("real-time.json").display(),
        dev.folder().join("admin.token").display(),
        dev.address("admin"),
    );
    driver
        .args(scenarios)
        .env("NETWORK_DOMAIN", DOMAIN)
        .env("CA_FILE", dev.folder().join("tls/ca.pem"))
        .env("RT_SITE_CODE", REAL_TIME_SITE)
        .env("CONSENT_SITE_CODE", CONSENT_SITE)
        .env("UPDATE_CMD", update)
        .env("HOME", folder.path());
    let output = run(&mut driver, DRIVER_LIMIT);
    let said = format!("{}{}", output.stdout, output.stderr);
    for scenario in scenarios {
        let line = |verdict: &str| said.contains(&format!("{verdict} {name} {scenario}"));
        let passed = line("PASS") || (*scenario == MAY_SKIP && line("SKIP"));
        assert!(passed, "{name} {scenario} did not pass\n{said}\n{}", dev.output());
    }
    assert_eq!(output.code, 0, "{said}");
}

/// What the SDK sent was accepted to the last line, is in events and visits, and adds up.
fn all_arrived(dev: &Dev, kinds: &[&str]) {
    let expected = kinds.join("\n");
    let quoted: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
    let sql = format!(
        "SELECT DISTINCT event_type FROM events WHERE event_type IN ({}) ORDER BY toString(event_type)",
        quoted.join(", ")
    );
    within(PATIENCE, &expected, || dev.query(&sql));
    run_ok(
        Command::new(fanal()).args(["reconcile", "--data-dir"]).arg(dev.folder()),
        Duration::from_secs(90),
    );
    let rejected = "SELECT outcome, sum(count) FROM ledger WHERE stage = 'accept' AND outcome != 'accepted' GROUP BY outcome";
    assert_eq!(dev.query(rejected), "", "lines of an unmodified SDK were rejected");
    let outside = "SELECT count() FROM events WHERE NOT is_heartbeat AND (site_code, visitor_code, visit_id) NOT IN \
        (SELECT site_code, visitor_code, visit_id FROM visits)";
    within(PATIENCE, &0, || dev.count(outside));
    let exposed = format!(
        "SELECT count() > 0 FROM visits ARRAY JOIN exposures.experiment_id AS experiment_id, \
         exposures.variation_id AS variation_id \
         WHERE site_code = '{SITE}' AND experiment_id = 3001 AND variation_id IN (4001, 4002)"
    );
    within(PATIENCE, &"1".to_owned(), || dev.query(&exposed));
    let segment = format!("SELECT count() FROM visits WHERE site_code = '{SITE}' AND segment_ids = [7001]");
    assert_eq!(dev.query(&segment), "1");
}

/// What the consent scenario leaves: one visit with the conversion and what was held back.
fn consent_arrived(dev: &Dev) {
    let sql = format!(
        "SELECT goals.goal_id, exposures.experiment_id, page_view_count >= 1, custom_data[1] FROM visits \
         WHERE site_code = '{CONSENT_SITE}'"
    );
    within(PATIENCE, &"[9005]\t[3001]\t1\t['gold']".to_owned(), || dev.query(&sql));
}

#[test]
fn the_python_sdk_works_unmodified() {
    if !isolated("sdk::the_python_sdk_works_unmodified") {
        return;
    }
    let folder = Folder::new("sdk-python");
    let dev = serve(&folder);
    let mut driver = Command::new(installed(".cache/sdk/python/bin/python", "sdk"));
    driver.arg(sdk_folder().join("python_driver.py"));
    drive(&dev, &folder, "python", driver, PYTHON);
    all_arrived(&dev, &["activity", "custom_data", "experiment", "targeting_segment"]);
    assert_eq!(dev.query("SELECT DISTINCT sdk_name FROM visits"), "PYTHON");
}

fn javascript(driver: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(sdk_folder().join(driver)).env("SDK_DIR", installed(".cache/sdk/node", "sdk"));
    command
}

const JAVASCRIPT_KINDS: &[&str] =
    &["conversion", "custom_data", "experiment", "page", "static_data", "targeting_segment"];

#[test]
fn the_javascript_sdk_works_unmodified_in_node() {
    if !isolated("sdk::the_javascript_sdk_works_unmodified_in_node") {
        return;
    }
    let folder = Folder::new("sdk-node");
    let dev = serve(&folder);
    drive(&dev, &folder, "js", javascript("js_driver.mjs"), JAVASCRIPT);
    all_arrived(&dev, JAVASCRIPT_KINDS);
    consent_arrived(&dev);
}

#[test]
fn the_javascript_sdk_works_unmodified_in_a_browser() {
    if !isolated("sdk::the_javascript_sdk_works_unmodified_in_a_browser") {
        return;
    }
    let chromium = Path::new("/usr/bin/chromium");
    assert!(
        chromium.exists(),
        "{} is missing; install it with: scripts/install.sh browser",
        chromium.display()
    );
    let folder = Folder::new("sdk-browser");
    let dev = serve(&folder);
    let scenarios = [JAVASCRIPT, &["19_heartbeat"]].concat();
    drive(&dev, &folder, "browser", javascript("browser_driver.mjs"), &scenarios);
    all_arrived(&dev, JAVASCRIPT_KINDS);
    consent_arrived(&dev);
    // The page of scenario 19 stayed open for 45 s: heartbeats were seen and are no events of the visit.
    let open = "SELECT count() FROM events WHERE is_heartbeat";
    within(PATIENCE, &true, || dev.count(open) >= 2);
    let seen = "SELECT count() FROM visits WHERE last_seen_at > last_event_at + INTERVAL 25 SECOND AND duration_s < 25";
    within(PATIENCE, &1, || dev.count(seen));
}
