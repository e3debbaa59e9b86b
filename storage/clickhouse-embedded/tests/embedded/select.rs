//! Answers of selects: formats, size, errors in the middle, concurrency.

use std::time::{Duration, Instant};

use crate::curl::{curl, post};
use crate::served::{Folder, Server};

const ROWS: usize = 300_000;

#[test]
fn a_large_answer_is_one_document_in_every_format() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let sql = format!("SELECT number AS n, toString(number) AS s FROM numbers({ROWS}) ORDER BY n");
    let lines = |format: &str| post(&server, "", &format!("{sql} FORMAT {format}")).ok().lines().count();
    for (format, expected) in [
        ("TSV", ROWS),
        ("TSVWithNamesAndTypes", ROWS + 2),
        ("CSV", ROWS),
        ("CSVWithNames", ROWS + 1),
        ("JSONEachRow", ROWS),
        ("JSONCompactEachRowWithNamesAndTypes", ROWS + 2),
    ] {
        assert_eq!(lines(format), expected, "{format}");
    }
    // The engine itself reads the other formats back.
    for format in ["JSON", "JSONCompact", "Parquet", "Arrow", "Native", "RowBinaryWithNamesAndTypes", "ORC"] {
        let answer = post(&server, &format!("default_format={format}"), &sql);
        answer.ok();
        let file = folder.0.join(format!("answer.{format}"));
        std::fs::write(&file, &answer.body).unwrap();
        let read = format!("SELECT count(), sum(n), uniqExact(s) FROM file('{}', {format})", file.display());
        assert_eq!(post(&server, "", &read).ok(), format!("{ROWS}\t44999850000\t{ROWS}\n"), "{format}");
    }
}

#[test]
fn totals_and_extremes_stay_whole() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let sql = "SELECT number % 2 AS k, count() AS c FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k";
    assert_eq!(
        post(&server, "", &format!("{sql} FORMAT CSVWithNames")).ok(),
        "\"k\",\"c\"\n0,5\n1,5\n\n0,10\n"
    );
    let json = post(&server, "extremes=1", &format!("{sql} FORMAT JSONCompact")).ok();
    assert_eq!((json.matches("\"meta\"").count(), json.matches("\"totals\"").count()), (1, 1), "{json}");
    assert_eq!(json.matches("\"extremes\"").count(), 1, "{json}");
    let array = post(
        &server,
        "output_format_json_array_of_rows=1",
        "SELECT number FROM numbers(100000) FORMAT JSONEachRow",
    );
    assert_eq!(array.ok().matches(['[', ']']).count(), 2);
}

#[test]
fn empty_answers_keep_their_header() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let sql = "SELECT number AS n FROM numbers(3) WHERE n > 5 FORMAT ";
    for (format, expected) in
        [("TSV", ""), ("CSVWithNames", "\"n\"\n"), ("JSONEachRow", ""), ("TSVWithNames", "n\n")]
    {
        assert_eq!(post(&server, "", &format!("{sql}{format}")).ok(), expected, "{format}");
    }
    assert_eq!(post(&server, "", &format!("{sql}RowBinaryWithNamesAndTypes")).ok(), "\u{1}\u{1}n\u{6}UInt64");
}

#[test]
fn an_error_in_the_middle_never_looks_whole() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let sql = "SELECT number, throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000";
    let got = post(&server, "", sql);
    assert_eq!((got.exit, got.status), (18, 200), "curl must see a cut transfer");
    let text = got.text();
    assert!(text.lines().count() > 1000);
    assert!(
        text.trim_end().lines().last().unwrap().starts_with("Code: 395. DB::Exception: "),
        "no text at the end"
    );
    // With the whole answer awaited, the same is a plain error.
    assert_eq!(post(&server, "wait_end_of_query=1", sql).error(), (500, 395));
    assert_eq!(post(&server, "default_format=JSON", sql).error(), (500, 395));
}

#[test]
fn a_large_answer_takes_little_memory() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    post(&server, "", "SELECT 1").ok();
    let before = server.peak_memory();
    for format in ["RowBinary", "JSON"] {
        let sql = format!("SELECT number, repeat('x', 100) FROM numbers(5000000) FORMAT {format}");
        let size = curl(&["-o", "/dev/null", "-w", "%{size_download}", "-d", &sql, &server.url("")], b"");
        let size: u64 = size.ok().parse().unwrap();
        assert!(size > 500_000_000, "{format}: {size}");
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 256 << 20, "peak grew by {} MiB for answers of 500 MB and more", grown >> 20);
}

#[test]
fn compressed_answers_can_be_undone() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let sql = "SELECT number FROM numbers(200000)";
    let plain = post(&server, "", sql).ok();
    for encoding in ["gzip", "deflate", "zstd"] {
        let accept = format!("Accept-Encoding: {encoding}");
        let url = server.url("?enable_http_compression=1");
        let got = curl(&["--compressed", "-H", &accept, "-d", sql, &url], b"");
        assert_eq!(got.header("content-encoding"), Some(encoding));
        assert!(got.ok() == plain, "{encoding}");
    }
    // Without being asked the answer is plain, whatever the client accepts.
    let got = curl(&["--compressed", "-d", sql, &server.url("")], b"");
    assert_eq!(got.header("content-encoding"), None);
    // ClickHouse's own blocks begin with a checksum and the method byte.
    let blocks = post(&server, "compress=1", sql);
    assert_eq!((blocks.status, blocks.body[16]), (200, 0x82));
}

/// Statement of about ten seconds that a kill ends at once.
const SLOW: &str = "SELECT sum(sleepEachRow(0.05)) FROM numbers(200) SETTINGS max_block_size = 1, \
    function_sleep_max_microseconds_per_block = 0";

fn running(server: &Server) -> usize {
    let sql = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.05)%' AND query NOT LIKE '%processes%'";
    post(server, "", sql).ok().trim().parse().unwrap()
}

fn await_running(server: &Server, count: usize) {
    let start = Instant::now();
    while running(server) != count {
        assert!(start.elapsed() < Duration::from_secs(8), "{} run, not {count}", running(server));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_slow_statement_does_not_block_a_quick_one_and_ends_with_its_client() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    let mut slow = std::process::Command::new("curl")
        .args(["-s", "-d", SLOW, &server.url("")])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    await_running(&server, 1);
    let start = Instant::now();
    assert_eq!(post(&server, "", "SELECT 1").ok(), "1\n");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    slow.kill().unwrap();
    slow.wait().unwrap();
    await_running(&server, 0);
}

#[test]
fn past_the_queue_requests_are_refused() {
    let folder = Folder::new();
    let server = Server::with(&folder.0, "connections=1 waiting=1");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |_| scope.spawn(|| post(&server, "", "SELECT sleep(2)"));
        let threads: Vec<_> = (0..4).map(ask).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let served = answers.iter().filter(|got| got.status == 200).count();
    let refused = answers.iter().filter(|got| got.status == 503 && got.error() == (503, 202)).count();
    assert_eq!((served, refused), (2, 2));
}
