//! What `/metrics` prints of a running program: described to the last series, as docs/metrics.md lists it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanal_tests::{Call, Dev, Folder, Start, checkout, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const SITE: &str = "metrics001";

/// Series that stand for each role that an embedded program has.
const EXPECTED: &[&str] = &[
    "http_connections",
    "http_requests_refused_total",
    "health_parts_not_ready",
    "ingest_requests_total",
    "ingest_lines_total",
    "ingest_stage_duration_seconds",
    "etl_rows_written_total",
    "etl_flush_seconds",
    "etl_lag_records",
    "profiles_written_total",
    "profiles_write_seconds",
    "delivery_requests_total",
    "delivery_token_refusals_total",
];

/// Metrics by name, each with the names of its labels and the number of its samples.
#[derive(Debug, Default)]
struct Scrape {
    help: BTreeMap<String, String>,
    types: BTreeMap<String, String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Scrape {
    /// Reads the text format: what it does not know fails.
    fn of(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                let before = scrape.help.insert(name.to_owned(), help.to_owned());
                assert_eq!(before, None, "{name} has two HELP lines");
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                let before = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} has two TYPE lines");
            } else {
                scrape.sample(line);
            }
        }
        scrape
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no sample: {line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = self.metric(name);
        let names = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\""));
        let names = names.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
        self.labels.entry(name).or_default().extend(names);
    }

    /// The metric that a sample belongs to: a histogram has three kinds of them.
    fn metric(&self, name: &str) -> String {
        let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        match of.filter(|of| self.types.get(*of).is_some_and(|kind| kind == "histogram")) {
            Some(of) => of.to_owned(),
            None => name.to_owned(),
        }
    }

    fn lacks(&self) -> Vec<&str> {
        EXPECTED.iter().filter(|name| !self.labels.contains_key(**name)).copied().collect()
    }
}

/// Rows of the page's tables: name → type and names of labels.
fn catalogue() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = std::fs::read_to_string(checkout().join("docs/metrics.md")).unwrap();
    let (_, tables) = page.split_once("<!-- From here on").unwrap();
    let mut rows = BTreeMap::new();
    for line in tables.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        // `label`: its values; `other`: its values
        let ends = cells[3].match_indices("`: ").map(|(at, _)| &cells[3][..at]);
        let labels = ends.filter_map(|before| before.rsplit('`').next()).map(str::to_owned).collect();
        rows.insert(cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels));
    }
    rows
}

/// Something for each role to count: accepted, rejected and refused.
fn send(dev: &Dev) {
    dev.create_site(SITE);
    for (n, line) in ["visitorCode=v", "visitorCode=v&mappingValue=user", ""].iter().enumerate() {
        let body = format!("eventType=activity&nonce=A1B2C3D4E5F6070{n}&{line}");
        assert_eq!(dev.track(SITE, &body).status, 204);
    }
    assert_eq!(dev.track("nosuchsite", "eventType=activity").status, 404);
    assert_eq!(Call::new("GET", &dev.url(&format!("/v3/{SITE}"))).send().status, 404, "nothing is published");
    let token = Call::new("POST", &dev.url("/oauth/token"))
        .body("grant_type=client_credentials&client_id=nobody&client_secret=wrong");
    assert_eq!(token.send().status, 401);
}

#[test]
fn every_series_of_a_running_program_has_help_and_type_and_is_in_the_catalogue() {
    let folder = Folder::new("metrics");
    let dev = Start::new(&folder.join("data")).dev();
    send(&dev);
    for listener in ["admin", "http"] {
        let url = format!("http://{}/metrics", dev.address(listener));
        let mut lacks = String::new();
        let scrape = eventually(PATIENCE, "a series of each role", || {
            let answer = Call::new("GET", &url).expect(200);
            assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
            let scrape = Scrape::of(&answer.text());
            let missing = format!("{:?}", scrape.lacks());
            if missing != lacks {
                println!("not there yet: {missing}");
                lacks = missing;
            }
            scrape.lacks().is_empty().then_some(scrape)
        });
        let catalogue = catalogue();
        for (name, labels) in &scrape.labels {
            let help = scrape.help.get(name).unwrap_or_else(|| panic!("{name} has no HELP"));
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
            let kind = scrape.types.get(name).unwrap_or_else(|| panic!("{name} has no TYPE"));
            let (listed_kind, listed_labels) =
                catalogue.get(name).unwrap_or_else(|| panic!("docs/metrics.md does not list {name}"));
            assert_eq!(kind, listed_kind, "{name}");
            let unlisted: Vec<_> = labels.difference(listed_labels).collect();
            assert!(unlisted.is_empty(), "docs/metrics.md does not list the labels {unlisted:?} of {name}");
        }
        // The numbers follow what `/health/ready` says.
        let ready = dev.admin("GET", "/health/ready").send().status == 200;
        assert!(ready, "{}", dev.output());
        let text = Call::new("GET", &url).expect(200).text();
        assert!(text.contains("\nhealth_parts_not_ready 0\n"), "{text}");
    }
}
