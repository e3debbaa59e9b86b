//! The comparison against a server that speaks the ClickHouse HTTP interface and holds a day, whole or damaged.

#![expect(clippy::unwrap_used, reason = "a test states its invariants by panicking")]

use fanal_bench::compare::{Findings, compare};
use fanal_bench::day::{Options, Truth, generate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct Day {
    folder: tempfile::TempDir,
    truth: Truth,
    /// Rows as ClickHouse would print them.
    rows: Vec<String>,
}

fn day() -> Day {
    let folder = tempfile::tempdir().unwrap();
    let truth = generate(&Options {
        out: folder.path().to_path_buf(),
        events: 5_000,
        sites: 2,
        nodes: 1,
        seed: 5,
        start_ms: 1_790_812_800_000,
        bad_nonces: true,
    })
    .unwrap();
    let tsv = std::fs::read_to_string(folder.path().join("visits.tsv")).unwrap();
    // ClickHouse also escapes single quotes.
    let rows = tsv.lines().skip(1).map(|row| row.replace('\'', "\\'")).collect();
    Day { folder, truth, rows }
}

fn events(truth: &Truth) -> String {
    truth.sites.iter().map(|(code, site)| format!("{code}\t{}\n", site.events_distinct)).collect()
}

/// Answers the query for visits and that for events, in pieces of odd sizes.
async fn answer(day: &Day, visits: String, events: String) -> Result<Findings, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !String::from_utf8_lossy(&request).contains("FORMAT TabSeparated") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let request = String::from_utf8(request).unwrap();
            let body = if request.contains("fanal.visits") { &visits } else { &events };
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            for piece in body.as_bytes().chunks(777) {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
                stream.write_all(piece).await.unwrap();
                stream.write_all(b"\r\n").await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    };
    tokio::select! {
        () = server => unreachable!(),
        found = compare(&address, day.folder.path(), 10) => found.map_err(|error| error.to_string()),
    }
}

fn joined(rows: &[String]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[tokio::test]
async fn a_whole_day_is_equal() {
    let day = day();
    let findings = answer(&day, joined(&day.rows), events(&day.truth)).await.unwrap();
    assert!(findings.is_equal(), "{findings:?}");
    assert_eq!((findings.visits_true, findings.visits_found), (day.truth.visits, day.truth.visits));
    assert_eq!(findings.events_found, day.truth.events_distinct);
}

#[tokio::test]
async fn missing_unexpected_and_different_visits_are_told_apart() {
    let day = day();
    let mut rows = day.rows.clone();
    rows.remove(0);
    rows.remove(99);
    rows[200] = rows[200].replacen("\thttps", "\tHttps", 1);
    assert_ne!(rows[200], day.rows[202], "the test's own damage");
    let ghost = rows[300].replacen('\t', "\tzzzz ghost", 1);
    let place = rows.iter().position(|row| *row > ghost).unwrap_or(rows.len());
    rows.insert(place, ghost);
    let findings = answer(&day, joined(&rows), events(&day.truth)).await.unwrap();
    assert_eq!((findings.missing, findings.unexpected, findings.different), (2, 1, 1), "{findings:#?}");
    assert!(findings.shown[0].starts_with("missing visit\n  true "), "{}", findings.shown[0]);
    assert!(
        findings.shown.iter().any(|shown| shown.contains("different visit (landing_url")),
        "{findings:#?}"
    );
    assert!(!findings.is_equal());
}

#[tokio::test]
async fn an_empty_database_misses_everything_and_shows_ten() {
    let day = day();
    let findings = answer(&day, String::new(), String::new()).await.unwrap();
    assert_eq!(findings.missing, day.truth.visits);
    assert_eq!(findings.events_different, 2);
    assert_eq!(findings.shown.len(), 10);
}

#[tokio::test]
async fn one_event_too_many_is_found() {
    let day = day();
    let (code, site) = day.truth.sites.iter().next().unwrap();
    let wrong = events(&day.truth).replace(
        &format!("{code}\t{}\n", site.events_distinct),
        &format!("{code}\t{}\n", site.events_distinct + 1),
    );
    let findings = answer(&day, joined(&day.rows), wrong).await.unwrap();
    assert_eq!(findings.events_different, 1);
    assert!(!findings.is_equal());
}

#[tokio::test]
async fn an_exception_in_the_middle_is_an_error() {
    let day = day();
    let body = format!("{}Code: 241. DB::Exception: Memory limit exceeded\n", joined(&day.rows[..50]));
    let error = answer(&day, body, String::new()).await.unwrap_err();
    assert!(error.contains("Memory limit"), "{error}");
}
