//! The programs under test and how they are run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::eventually;

/// Names the program to test in place of the one that was built here.
const FANAL_VARIABLE: &str = "FANAL_BIN";

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Output {
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The checkout that the tests stand in.
///
/// # Panics
/// Never in a checkout.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Folder of the built programs: that of the test program, without `deps`.
pub(crate) fn release() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().to_owned()
}

/// `fanal`: the file named by `FANAL_BIN`, or the one built beside this test.
#[must_use]
pub fn fanal() -> PathBuf {
    let named = std::env::var_os(FANAL_VARIABLE).map(PathBuf::from);
    present(named.unwrap_or_else(|| release().join("fanal")), "cargo build --release -p fanal")
}

/// `fanal-bench`, built beside this test.
#[must_use]
pub fn fanal_bench() -> PathBuf {
    present(release().join("fanal-bench"), "cargo build --release -p fanal-bench")
}

/// The command that runs `fanal-bench`, with as many connections as the machine allows.
#[must_use]
pub fn fanal_bench_with_many_files() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$(ulimit -Hn)\" && exec \"$@\"", "sh"]).arg(fanal_bench());
    command
}

fn present(path: PathBuf, build: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing; build it with: {build}", path.display());
    path
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started or has not ended within the limit.
pub fn run(command: &mut Command, limit: Duration) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    finish(child, &format!("{command:?}"), limit)
}

/// As [`run`], and it must end with 0.
///
/// # Panics
/// As [`run`], and when it fails.
pub fn run_ok(command: &mut Command, limit: Duration) -> String {
    let output = run(command, limit);
    assert!(output.code == 0, "{command:?} ended with {}\n{}{}", output.code, output.stdout, output.stderr);
    output.stdout
}

/// Waits for the end of a program whose output is piped.
///
/// # Panics
/// When it has not ended within the limit; it is ended then.
pub fn finish(mut child: Child, what: &str, limit: Duration) -> Output {
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let deadline = std::time::Instant::now() + limit;
    let status = eventually(limit + Duration::from_secs(5), what, || {
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
        }
        child.try_wait().unwrap()
    });
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    assert!(std::time::Instant::now() <= deadline, "{what} did not end within {limit:?}\n{stdout}{stderr}");
    Output { code: status.code().unwrap_or(-1), stdout, stderr }
}
