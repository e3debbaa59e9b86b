//! More than the collector can or may take: the excess is refused, and nobody else notices.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanal_tests::{Folder, Node, Role, Start, eventually, fanal_bench_with_many_files, run_ok};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// Beyond any pause that a busy machine makes by itself.
const CALM_P99_US: u64 = 100_000;
/// The generator shares the processors, and takes this long for a round of its connections.
const QUICK_US: u64 = 250_000;
/// Of 1,000 more connections: some kilobytes each.
const GROWTH_MIB_MAX: u64 = 100;

/// `fanal-bench load` for some seconds.
fn load(address: &str, site: &str, seconds: u32, options: &[&str]) -> Command {
    let mut command = fanal_bench_with_many_files();
    command.args(["load", "--json", "--url", &format!("http://{address}"), "--site", site]);
    command.args(["--duration", &format!("{seconds}s"), "--method", "get"]).args(options);
    command
}

fn report(output: &str) -> Value {
    serde_json::from_str(output.trim()).unwrap_or_else(|error| panic!("{error} in {output}"))
}

fn loaded(mut command: Command) -> Value {
    report(&run_ok(&mut command, PATIENCE))
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

/// A load beside the test, which waits for its end.
struct Beside(Child);

impl Beside {
    fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn report(mut self) -> Value {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        report(&text)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_site_at_twenty_times_its_quota_is_refused_and_its_neighbour_does_not_notice() {
    let folder = Folder::new("noisy");
    let dev = Start::new(&folder.join("data")).dev();
    dev.create_site("noisy00001");
    dev.create_site("quiet00001");
    let address = dev.address("http").to_owned();
    let rules = "[[quota]]\nsite = 'noisy00001'\nlines_per_s = 200\nburst_s = 1\n";
    std::fs::write(dev.folder().join("ingest-rules.toml"), rules).unwrap();
    let is_refused = || {
        let probe = loaded(load(&address, "noisy00001", 1, &["--rate", "2000", "--seed", "1"]));
        (number(&probe, "/by_status/429") > 0).then_some(())
    };
    eventually(Duration::from_secs(10), "the quota holds without a restart", is_refused);

    let quiet = |seed: &str| {
        load(&address, "quiet00001", 6, &["--rate", "300", "--connections", "16", "--seed", seed])
    };
    let alone = loaded(quiet("2"));
    let noise = load(&address, "noisy00001", 6, &["--rate", "4000", "--connections", "64", "--seed", "3"]);
    let noisy = Beside::start(noise);
    let beside = loaded(quiet("4"));
    let noisy = noisy.report();

    let (accepted, refused) = (number(&noisy, "/by_status/204"), number(&noisy, "/by_status/429"));
    assert_eq!(accepted + refused, number(&noisy, "/requests_sent"), "{noisy}");
    // Six seconds of its quota, a burst, and what is in flight while lines are counted.
    assert!((1100..=1700).contains(&accepted), "{noisy}");
    for report in [&alone, &beside] {
        assert_eq!(number(report, "/by_status/204"), number(report, "/requests_sent"), "{report}");
    }
    let p99 = |report: &Value| number(report, "/latency_us/p99");
    let bound = (3 * p99(&alone)).max(CALM_P99_US);
    assert!(p99(&beside) <= bound, "alone {} µs, beside noise {} µs", p99(&alone), p99(&beside));
    dev.stop();
}

#[test]
fn beyond_saturation_the_excess_gets_503_and_what_is_admitted_is_served_as_before() {
    let folder = Folder::new("overload");
    let config = "[http]\nrequests_max = 128\n";
    let mut node = Node::new(folder.path(), "n", Role::Ingest, config, "");
    node.start();
    eventually(PATIENCE, "ready", || node.unready().is_none().then_some(()));
    create_site(&node, "overload01");
    let at = node.listen().to_owned();
    let options =
        |connections: &'static str, seed: &'static str| ["--connections", connections, "--seed", seed];
    // As many as are admitted at once: this is what saturates it.
    let full = loaded(load(&at, "overload01", 4, &options("64", "1")));
    assert_eq!(number(&full, "/by_status/204"), number(&full, "/requests_sent"), "{full}");
    let before = node.resident_mib();
    let over = loaded(load(&at, "overload01", 8, &options("1024", "2")));
    let (accepted, refused) = (number(&over, "/by_status/204"), number(&over, "/by_status/503"));
    assert_eq!(accepted + refused, number(&over, "/requests_sent"), "nothing else is answered: {over}");
    assert!(refused > 0 && accepted > 0, "{over}");
    let p99 = |report: &Value, of: &str| number(report, &format!("/{of}/p99"));
    let bound = (3 * p99(&full, "acked_latency_us")).max(QUICK_US);
    assert!(p99(&over, "acked_latency_us") <= bound, "{full}\n{over}");
    assert!(p99(&over, "latency_us") <= bound, "the excess is told quickly: {over}");
    let grown = node.resident_mib().saturating_sub(before);
    assert!(grown <= GROWTH_MIB_MAX, "{grown} MiB more than at saturation");
    let after = Instant::now();
    let again = loaded(load(&at, "overload01", 2, &options("32", "3")));
    assert_eq!(number(&again, "/by_status/204"), number(&again, "/requests_sent"), "{again}");
    assert!(after.elapsed() < Duration::from_secs(5), "recovers at once");
    assert_eq!(node.stop(), 0);
}

#[test]
fn a_restart_under_beacons_fails_none_of_them() {
    let folder = Folder::new("restart");
    let mut node = Node::new(folder.path(), "n", Role::Ingest, "[http]\ntake_over = true\n", "");
    node.start();
    eventually(PATIENCE, "ready", || node.unready().is_none().then_some(()));
    create_site(&node, "restart001");
    let options = ["--rate", "1000", "--connections", "32"];
    let kept = Beside::start(load(node.listen(), "restart001", 12, &options));
    let anew = ["--rate", "200", "--connections", "8", "--new-connections", "--seed", "2"];
    let anew = Beside::start(load(node.listen(), "restart001", 12, &anew));
    std::thread::sleep(Duration::from_secs(3));
    let mut successor = node.start_successor();
    assert_eq!(node.ended(), 0, "the first gives way by itself");
    for report in [kept.report(), anew.report()] {
        let failed = ["/broken", "/timeouts", "/connect_errors", "/retries"];
        assert_eq!(failed.map(|path| number(&report, path)), [0; 4], "{report}");
        assert_eq!(number(&report, "/by_status/204"), number(&report, "/requests_sent"), "{report}");
        assert!(number(&report, "/requests_sent") > 1000, "{report}");
    }
    assert_eq!(successor.stop(), 0);
}

fn create_site(node: &Node, code: &str) {
    let answer = node.admin("PUT", &format!("/api/v1/sites/{code}")).body(r#"{"name":"x"}"#).send();
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
}
