//! `curl` as a client.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::served::{Folder, Server};

/// What curl got.
#[derive(Debug)]
pub(crate) struct Got {
    /// curl's own exit: 0 whole answer, 18 cut off.
    pub(crate) exit: i32,
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The text of an answer that must be a success.
    pub(crate) fn ok(&self) -> String {
        assert_eq!((self.exit, self.status), (0, 200), "{}\n{}", self.head, self.text());
        self.text()
    }

    /// Status and code of an answer that must be an error in ClickHouse's shape.
    pub(crate) fn error(&self) -> (u16, u32) {
        let code: u32 = self
            .header("x-clickhouse-exception-code")
            .unwrap_or_else(|| panic!("no code: {}", self.text()))
            .parse()
            .unwrap();
        let start = format!("Code: {code}. DB::Exception: ");
        assert!(self.text().starts_with(&start), "{}", self.text());
        (self.status, code)
    }
}

/// Runs curl with these arguments and this standard input.
pub(crate) fn curl(arguments: &[&str], input: &[u8]) -> Got {
    let mut process = Command::new("curl")
        .args(["-sS", "--max-time", "60", "-D", "/dev/stderr", "-H", "Expect:"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl must be installed (Debian: apt-get install curl)");
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_vec();
    // A server that answers early closes the pipe; curl's exit tells of it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap();
    let head = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = head.lines().rev().find_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    Got { exit: output.status.code().unwrap_or(-1), status: status.unwrap_or(0), head, body: output.stdout }
}

/// Posts a statement as the body; `parameters` go into the URL.
pub(crate) fn post(server: &Server, parameters: &str, sql: &str) -> Got {
    curl(&["--data-binary", "@-", &server.url(&format!("?{parameters}"))], sql.as_bytes())
}

/// A statement in the URL's parameter, data in the body.
pub(crate) fn post_data(server: &Server, sql: &str, data: &[u8]) -> Got {
    let sql: String = form_urlencoded::byte_serialize(sql.as_bytes()).collect();
    curl(&["--data-binary", "@-", &server.url(&format!("?query={sql}"))], data)
}

fn get(server: &Server, sql: &str) -> Got {
    let sql: String = form_urlencoded::byte_serialize(sql.as_bytes()).collect();
    curl(&[&server.url(&format!("?query={sql}"))], b"")
}

#[test]
fn ping_and_version_are_answered() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    for path in ["ping", "replicas_status", ""] {
        assert_eq!(curl(&[&server.url(path)], b"").ok(), "Ok.\n", "{path}");
    }
    let got = get(&server, "SELECT version()");
    assert!(got.ok().starts_with(|c: char| c.is_ascii_digit()));
    for header in ["x-clickhouse-query-id", "x-clickhouse-timezone", "x-clickhouse-server-display-name"] {
        assert!(got.header(header).is_some_and(|value| !value.is_empty()), "{header}: {}", got.head);
    }
    assert_eq!(got.header("x-clickhouse-format"), Some("TabSeparated"));
    assert_eq!(
        curl(&[&server.url("?query=SELECT+1&query_id=mine")], b"").header("x-clickhouse-query-id"),
        Some("mine")
    );
    assert_eq!(curl(&[&server.url("nothing")], b"").status, 404);
}

#[test]
fn get_only_reads() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    post(&server, "", "CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a").ok();
    for sql in ["INSERT INTO t VALUES (1)", "DROP TABLE t", "INSERT INTO t SELECT 1", "CREATE DATABASE d"] {
        assert_eq!(get(&server, sql).error(), (500, 164), "{sql}");
    }
    assert_eq!(get(&server, "SELECT count() FROM t").ok(), "0\n");
    assert_eq!(get(&server, "SHOW TABLES").ok(), "t\n");
}

#[test]
fn exceptions_carry_code_status_and_text() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let cases = [
        ("", "SELECT * FROM nothing", (404, 60)),
        ("database=nothing", "SELECT 1", (404, 81)),
        ("", "SELECT FROM WHERE", (400, 62)),
        ("", "SELECT 1; SELECT 2", (400, 62)),
        ("", "", (400, 62)),
        ("", "exit", (400, 62)),
        ("no_such_setting=1", "SELECT 1", (404, 115)),
        ("a'b=1", "SELECT 1", (404, 115)),
        ("max_threads=x", "SELECT 1", (400, 27)),
        ("default_format=NoSuch", "SELECT 1", (404, 73)),
        ("", "SELECT throwIf(1)", (500, 395)),
        ("", "SELECT {a:UInt8}", (400, 456)),
        ("", "SELECT 1 INTO OUTFILE '/tmp/x'", (500, 358)),
        ("", "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", (404, 78)),
        ("session_id=s", "SET max_threads = 1", (501, 48)),
        ("readonly=1", "CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a", (500, 164)),
    ];
    for (parameters, sql, expected) in cases {
        let got = post(&server, parameters, sql);
        if parameters == "max_threads=x" {
            // Only that it is refused: the engine's code for a bad value may change.
            assert_ne!(got.status, 200);
            continue;
        }
        assert_eq!(got.error(), expected, "{parameters} {sql}: {}", got.text());
    }
}

#[test]
fn settings_of_one_request_do_not_reach_the_next() {
    let folder = Folder::new();
    let server = Server::with(&folder.0, "connections=1");
    let ask = "SELECT currentDatabase(), getSetting('max_block_size') = 777, getSetting('readonly')";
    for (parameters, sql) in [
        ("max_block_size=777&database=system&readonly=2", ask),
        ("", "SET max_block_size = 777"),
        ("", "USE system"),
        ("readonly=1", "SELECT 1"),
        ("max_block_size=777", "SELECT * FROM nothing"),
    ] {
        post(&server, parameters, sql);
        assert_eq!(post(&server, "", ask).ok(), "default\t0\t0\n", "{parameters} {sql}");
    }
    let within = post(&server, "max_block_size=777&database=system&readonly=2", ask);
    assert_eq!(within.ok(), "system\t1\t2\n");
}

#[test]
fn parameters_come_from_url_and_form() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    assert_eq!(post(&server, "param_x=5", "SELECT {x:UInt8} + 1").ok(), "6\n");
    let form = curl(
        &["-F", "query=SELECT {s:String} AS s FORMAT JSONEachRow", "-F", "param_s=a'b\\\\c", &server.url("")],
        b"",
    );
    assert_eq!(form.ok(), "{\"s\":\"a'b\\\\c\"}\n");
    let named = curl(
        &[
            "-H",
            "X-ClickHouse-Database: system",
            "-H",
            "X-ClickHouse-Format: JSONEachRow",
            "-d",
            "SELECT currentDatabase() AS d",
            &server.url(""),
        ],
        b"",
    );
    assert_eq!(named.ok(), "{\"d\":\"system\"}\n");
}

#[test]
fn a_wrong_password_is_refused() {
    let folder = Folder::new();
    let server = Server::with(&folder.0, "password=secret");
    let url = server.url("?query=SELECT+1");
    assert_eq!(curl(&[&url], b"").error(), (403, 516));
    assert_eq!(curl(&["-u", "default:wrong", &url], b"").error(), (403, 516));
    assert_eq!(curl(&["-u", "default:secret", &url], b"").ok(), "1\n");
    assert_eq!(
        curl(&["-H", "X-ClickHouse-User: default", "-H", "X-ClickHouse-Key: secret", &url], b"").ok(),
        "1\n"
    );
    assert_eq!(curl(&[&format!("{url}&user=default&password=secret")], b"").ok(), "1\n");
}
