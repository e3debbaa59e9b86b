//! A test in namespaces of its own: ports 443 and 8110, the hosts file and
//! mounts are then private, whatever else the machine runs.

use std::process::Command;
use std::time::Duration;

/// Set in the process that runs inside.
const INSIDE: &str = "FANAL_TESTS_INSIDE";
/// Longer than the longest driver.
const LIMIT: Duration = Duration::from_secs(420);

/// Runs the test of this name, its modules included, again inside of a mount and network namespace and
/// answers whether the caller is the one inside: it goes on only then.
///
/// # Panics
/// When the test inside fails, or the machine does not allow namespaces.
#[must_use]
pub fn isolated(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    let flags: &[&str] = if root { &["-m", "-n"] } else { &["--map-root-user", "-m", "-n"] };
    let allowed = Command::new("unshare").args(flags).arg("true").status();
    assert!(
        allowed.is_ok_and(|status| status.success()),
        "this test needs a mount and a network namespace of its own; run it as root, or allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1)"
    );
    let script = "ip link set lo up && exec \"$@\"";
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(flags).args(["--", "sh", "-c", script, "sh"]).arg(own);
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = crate::run(&mut command, LIMIT);
    // Marked, so that its summary is not taken for one of this run.
    let said: String =
        output.stdout.lines().chain(output.stderr.lines()).map(|line| format!("| {line}\n")).collect();
    assert!(output.code == 0, "{test} failed inside its namespaces\n{said}");
    assert!(said.contains("1 passed"), "{test} did not run inside its namespaces\n{said}");
    false
}
