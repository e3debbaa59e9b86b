//! PyPI `clickhouse-connect`, unmodified, in a virtual environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::served::{Folder, Server};

/// The version that was tried; another one may send other things.
const CLIENT: &str = "clickhouse-connect==1.12.0";

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The interpreter of the virtual environment, made at first use.
fn interpreter() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let folder = root.join(".cache/venv-clickhouse");
    let python = folder.join("bin/python");
    let has_client = |python: &Path| {
        let check =
            "import importlib.metadata as m, sys; sys.exit(m.version('clickhouse-connect') != sys.argv[1])";
        let version = CLIENT.split("==").nth(1).unwrap();
        Command::new(python).args(["-c", check, version]).output().is_ok_and(|output| output.status.success())
    };
    if !has_client(&python) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", CLIENT]));
    }
    python
}

#[test]
fn clickhouse_connect_works() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let (host, port) = server.address.split_once(':').unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clickhouse_connect_client.py");
    run(Command::new(interpreter()).arg(script).args([host, port]));
}
