//! Inserts: every way the data can come, and what a broken one leaves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::curl::{curl, post, post_data};
use crate::served::{Folder, Server};

fn with_table(folder: &Folder) -> Server {
    let server = Server::start(&folder.0);
    post(&server, "", "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a").ok();
    server
}

fn count(server: &Server) -> u64 {
    post(server, "", "SELECT count() FROM t").ok().trim().parse().unwrap()
}

#[test]
fn every_place_and_format_of_data_is_taken() {
    let folder = Folder::new();
    let server = with_table(&folder);
    let mut binary = 7_u64.to_le_bytes().to_vec();
    binary.extend_from_slice(b"\x03x\0y");
    let cases: [(&str, &[u8]); 7] = [
        ("INSERT INTO t VALUES", b"(1, 'a'), (1 + 1, concat('b', 'c'))"),
        ("INSERT INTO t (s, a) FORMAT CSV", b"\"x,\ny\",3\n"),
        ("INSERT INTO t FORMAT JSONEachRow", b"{\"a\": 4, \"s\": \"z\"}"),
        ("INSERT INTO t FORMAT RowBinary", &binary),
        (
            "INSERT INTO t SETTINGS input_format_skip_unknown_fields = 1 FORMAT JSONEachRow",
            b"{\"a\": 5, \"n\": 1}",
        ),
        (
            "INSERT INTO t FORMAT JSONEachRow SETTINGS input_format_skip_unknown_fields = 1",
            b"{\"a\": 6, \"n\": 1}",
        ),
        ("INSERT INTO t FORMAT TSV", b""),
    ];
    for (sql, data) in cases {
        post_data(&server, sql, data).ok();
    }
    post(&server, "query=INSERT%20INTO%20t", "FORMAT TSV\n8\tstatement in two places\n").ok();
    post(&server, "", "INSERT INTO t FORMAT TSV\n9\tin the body\n").ok();
    let values = post(&server, "param_x=10", "INSERT INTO t VALUES ({x:UInt8}, 'p')");
    values.ok();
    assert!(values.header("x-clickhouse-summary").unwrap().contains("\"written_rows\":\"1\""));
    post(&server, "", "INSERT INTO t SELECT number + 11, 's' FROM numbers(2)").ok();
    let rows = post(&server, "", "SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)").ok();
    assert_eq!(rows, "[1,2,3,4,5,6,7,8,9,10,11,12]\n");
    assert_eq!(post(&server, "", "SELECT hex(s) FROM t WHERE a = 7").ok(), "780079\n");
}

#[test]
fn native_and_parquet_go_in_as_they_came_out() {
    let folder = Folder::new();
    let server = with_table(&folder);
    for (format, total) in
        [("Native", 150_000), ("Parquet", 300_000), ("RowBinaryWithNamesAndTypes", 450_000)]
    {
        let sql = format!("SELECT number AS a, toString(number) AS s FROM numbers(150000) FORMAT {format}");
        let data = post(&server, "", &sql);
        data.ok();
        let insert = post_data(&server, &format!("INSERT INTO t FORMAT {format}"), &data.body);
        insert.ok();
        assert!(insert.header("x-clickhouse-summary").unwrap().contains("\"written_rows\":\"150000\""));
        assert_eq!(count(&server), total, "{format}");
    }
}

#[test]
fn compressed_bodies_are_undone() {
    let folder = Folder::new();
    let server = with_table(&folder);
    let rows = b"1\ta\n2\tb\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(rows).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&rows[..], 1).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(rows).unwrap();
    let lz4 = lz4.finish().unwrap();
    let url = server.url("?query=INSERT%20INTO%20t%20FORMAT%20TSV");
    let send = |encoding: &str, data: &[u8]| {
        curl(&["-H", &format!("Content-Encoding: {encoding}"), "--data-binary", "@-", &url], data)
    };
    for (number, (encoding, data)) in
        [("gzip", &gzip), ("zstd", &zstd), ("lz4", &lz4)].into_iter().enumerate()
    {
        send(encoding, data).ok();
        assert_eq!(count(&server), 2 * (number as u64 + 1), "{encoding}");
    }
    assert_eq!(send("gzip", b"no gzip at all").error(), (400, 271));
    assert_eq!(send("gzip", &gzip[..gzip.len() - 4]).error(), (400, 271));
    assert_eq!(send("br", rows).error(), (400, 89));
    assert_eq!(post_data(&server, "INSERT INTO t FORMAT TSV", b"").status, 200);
    assert_eq!(count(&server), 6, "a broken body must insert nothing");
    // What compress=1 gives, decompress=1 takes.
    let blocks = post(&server, "compress=1", "SELECT a + 100, s FROM t FORMAT RowBinary");
    let framed = curl(
        &["--data-binary", "@-", &server.url("?decompress=1&query=INSERT%20INTO%20t%20FORMAT%20RowBinary")],
        &blocks.body,
    );
    framed.ok();
    assert_eq!(count(&server), 12);
}

#[test]
fn bad_data_is_an_error_and_inserts_nothing() {
    let folder = Folder::new();
    let server = with_table(&folder);
    let mut data = "5\tx\n".repeat(200_000).into_bytes();
    data.extend_from_slice(b"this is no number\tx\n");
    let got = post_data(&server, "INSERT INTO t FORMAT TSV", &data);
    assert_eq!((got.exit, got.error()), (0, (400, 27)));
    assert_eq!(count(&server), 0);
    assert_eq!(post_data(&server, "INSERT INTO nothing FORMAT TSV", &data).error(), (404, 60));
    assert_eq!(post_data(&server, "INSERT INTO t FORMAT NoSuch", b"1").error(), (404, 73));
    assert_eq!(
        post_data(&server, "INSERT INTO t SELECT * FROM input('a UInt64, s String') FORMAT TSV", b"1\tx")
            .error(),
        (501, 48)
    );
    post_data(&server, "INSERT INTO t FORMAT TSV", b"1\tx\n").ok();
    assert_eq!(count(&server), 1, "the next insert works");
}

#[test]
fn a_cut_off_body_inserts_nothing_and_frees_its_place() {
    let folder = Folder::new();
    let server = Server::with(&folder.0, "connections=1 stall_ms=1500");
    post(&server, "", "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a").ok();
    let head = "POST /?query=INSERT%20INTO%20t%20FORMAT%20TSV HTTP/1.1\r\nHost: x\r\n";
    for (framing, body) in [
        ("Content-Length: 1000000\r\n\r\n", "1\tx\n".repeat(1000)),
        ("Transfer-Encoding: chunked\r\n\r\n", format!("fa0\r\n{}\r\n", "1\tx\n".repeat(1000))),
    ] {
        let mut socket = TcpStream::connect(&server.address).unwrap();
        socket.write_all(format!("{head}{framing}{body}").as_bytes()).unwrap();
        drop(socket);
        assert_eq!(count(&server), 0);
    }
    // A client that stops sending but stays is given up after the stall time.
    let mut socket = TcpStream::connect(&server.address).unwrap();
    socket.write_all(format!("{head}Content-Length: 1000000\r\n\r\n1\tx\n").as_bytes()).unwrap();
    assert_eq!(count(&server), 0);
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("Code: 209."), "{answer}");
}

#[test]
fn a_repeated_insert_with_the_same_token_is_dropped() {
    let folder = Folder::new();
    let server = Server::start(&folder.0);
    post(
        &server,
        "",
        "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a \
        SETTINGS non_replicated_deduplication_window = 100",
    )
    .ok();
    let insert = |token: &str, data: &[u8]| {
        let url = server
            .url(&format!("?insert_deduplication_token={token}&query=INSERT%20INTO%20t%20FORMAT%20TSV"));
        curl(&["--data-binary", "@-", &url], data).ok();
        count(&server)
    };
    assert_eq!(insert("one", b"1\tx\n"), 1);
    assert_eq!(insert("one", b"1\tx\n"), 1);
    assert_eq!(insert("two", b"1\tx\n"), 2);
}

#[test]
fn the_statement_is_bounded_but_not_its_data() {
    let folder = Folder::new();
    let server = Server::with(&folder.0, "query_bytes=1000000");
    post(&server, "", "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a").ok();
    let long = format!("SELECT '{}'", "x".repeat(2_000_000));
    assert_eq!(post(&server, "", &long).error(), (413, 229));
    let data = "INSERT INTO t FORMAT TSV\n".to_owned() + &"1\tx\n".repeat(1_000_000);
    post(&server, "", &data).ok();
    assert_eq!(count(&server), 1_000_000);
}
