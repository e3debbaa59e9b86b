//! The role over real sockets, as SDKs and browsers speak to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanal_delivery::{Delivery, SseHandler};
use fanal_model::SiteCode;
use fanal_service::http::{HttpLimits, Listener, bind, serve};
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Catalogue, Site};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

const EXAMPLE: &str = include_str!("../../tests/sdk/config.example.json");
const NOW_MS: u64 = 1_700_000_000_000;
/// base64 of `client-id:client-secret`.
const BASIC: &str = "Basic Y2xpZW50LWlkOmNsaWVudC1zZWNyZXQ=";

struct Running {
    http: SocketAddr,
    sse: SocketAddr,
    catalogue: Catalogue,
    delivery: Arc<Delivery>,
    stop: Stop,
    folder: tempfile::TempDir,
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&folder.path().join("catalogue.sqlite")).await.unwrap();
    for site in ["shop", "empty"] {
        catalogue.put_site(&Site::new(SiteCode::parse(site).unwrap())).await.unwrap();
    }
    let key: PathBuf = folder.path().join("token.key");
    let delivery = Arc::new(Delivery::new(catalogue.clone(), &key).unwrap());
    let stop = Stop::new();
    let sse =
        Arc::new(SseHandler::new(catalogue.clone(), stop.clone()).comment_every(Duration::from_millis(200)));
    let listen = || bind("127.0.0.1:0".parse().unwrap(), "--http").unwrap();
    let (http_socket, sse_socket) = (listen(), listen());
    let (http, sse_address) = (http_socket.local_addr().unwrap(), sse_socket.local_addr().unwrap());
    let limits = HttpLimits::default();
    tokio::spawn(serve(Listener::clear(http_socket), Arc::clone(&delivery), limits.clone(), stop.clone()));
    tokio::spawn(serve(Listener::clear(sse_socket), sse, limits, stop.clone()));
    Running { http, sse: sse_address, catalogue, delivery, stop, folder }
}

impl Running {
    async fn publish(&self, environment: Option<&str>, document: &[u8]) {
        let shop = SiteCode::parse("shop").unwrap();
        self.catalogue.publish(&shop, environment, document, "test", NOW_MS).await.unwrap();
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        ask(self.http, "GET", path, headers, "").await
    }

    async fn token(
        &self,
        query: &str,
        headers: &[(&str, &str)],
        form: &str,
    ) -> (StatusCode, HeaderMap, Bytes) {
        ask(self.http, "POST", &format!("/oauth/token{query}"), headers, form).await
    }
}

async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> http::Response<hyper::body::Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request =
        http::Request::builder().method(method).uri(path).header("host", "sdk-config.shop.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await.unwrap()
}

async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (StatusCode, HeaderMap, Bytes) {
    let response = send(address, method, path, headers, body).await;
    let (parts, body) = response.into_parts();
    assert_eq!(parts.headers["access-control-allow-origin"], "*", "{method} {path}");
    assert_ne!(parts.status, StatusCode::FORBIDDEN);
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
}

fn code(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(value["detail"], value["message"]);
    value["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_configuration_is_served_byte_for_byte_and_unchanged_as_304() {
    let server = start().await;
    server.publish(None, EXAMPLE.as_bytes()).await;
    let (status, headers, body) = server.get("/v3/shop?ts=1700000000000", &[]).await;
    assert_eq!((status.as_u16(), &body[..]), (200, EXAMPLE.as_bytes()));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT");

    let known = headers["last-modified"].to_str().unwrap();
    let (status, headers, body) = server.get("/v3/shop", &[("if-modified-since", known)]).await;
    assert_eq!((status.as_u16(), body.len()), (304, 0));
    assert_eq!(headers["last-modified"], known);

    server.publish(None, b"{\"second\":true}").await;
    let (status, headers, body) = server.get("/v3/shop", &[("if-modified-since", known)]).await;
    assert_eq!((status.as_u16(), &body[..]), (200, &b"{\"second\":true}"[..]));
    assert_eq!(headers["last-modified"], "Tue, 14 Nov 2023 22:13:21 GMT");
    // A later date is another text, not "unchanged since".
    let later = "Tue, 14 Nov 2033 22:13:21 GMT";
    assert_eq!(server.get("/v3/shop", &[("if-modified-since", later)]).await.0, 200);
}

#[tokio::test]
async fn a_configuration_is_compressed_for_those_who_accept_it() {
    let server = start().await;
    server.publish(None, EXAMPLE.as_bytes()).await;
    for _ in 0..2 {
        let (_, headers, body) = server.get("/v3/shop", &[("accept-encoding", "gzip, deflate")]).await;
        assert_eq!(headers["content-encoding"], "gzip");
        assert!(body.len() < EXAMPLE.len() / 2);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text).unwrap();
        assert_eq!(text, EXAMPLE);
    }
}

#[tokio::test]
async fn environments_have_their_own_file_or_the_default() {
    let server = start().await;
    server.publish(None, b"\"default\"").await;
    server.publish(Some("staging é"), b"\"staging\"").await;
    for (path, expected) in [
        ("/v3/shop?environment=staging%20%C3%A9", "\"staging\""),
        ("/v3/shop?environment=preview&ts=1", "\"default\""),
        ("/v3/shop?environment=", "\"default\""),
    ] {
        assert_eq!(server.get(path, &[]).await.2, expected, "{path}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_404_with_a_code_and_never_403() {
    let server = start().await;
    for (path, expected) in [
        ("/v3/nope", "site_unknown"),
        ("/v3/empty", "configuration_missing"),
        ("/v3/shop/extra", "path_unknown"),
        ("/nothing", "path_unknown"),
        ("/visit/visitor?siteCode=nope&visitorCode=v", "site_unknown"),
    ] {
        let (status, headers, body) = server.get(path, &[]).await;
        assert_eq!((status.as_u16(), code(&body).as_str()), (404, expected), "{path}");
        assert_eq!(headers["content-type"], "application/problem+json");
    }
    let (_, _, body) = server.get("/nothing", &[]).await;
    assert!(String::from_utf8_lossy(&body).contains("/oauth/token"));
    let (status, headers, _) = ask(server.http, "DELETE", "/v3/shop", &[], "").await;
    assert_eq!((status.as_u16(), &headers["allow"]), (405, &"GET, HEAD, OPTIONS".parse().unwrap()));
}

#[tokio::test]
async fn browsers_may_ask_and_remember_the_answer() {
    let server = start().await;
    let asked = [
        ("origin", "https://shop.test"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "if-modified-since,x-kameleoon-sdk-type,x-kameleoon-sdk-version"),
    ];
    for path in ["/v3/shop", "/visit/visitor?siteCode=shop", "/map/map", "/oauth/token"] {
        let (status, headers, _) = ask(server.http, "OPTIONS", path, &asked, "").await;
        assert_eq!(status, 204, "{path}");
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        assert!(asked[2].1.split(',').all(|name| allowed.contains(name)), "{allowed}");
        assert_eq!(headers["access-control-max-age"], "86400");
    }
    let (status, ..) = ask(server.sse, "OPTIONS", "/sse?siteCode=shop", &asked, "").await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn visitor_and_map_reads_are_open_and_know_nothing_yet() {
    let server = start().await;
    for path in [
        "/visit/visitor?siteCode=shop&visitorCode=%C3%A9l%C3%A8ve%207&maxNumberPreviousVisits=1&staticData=true",
        "/map/map?siteCode=shop&key=k",
    ] {
        let (status, headers, body) = server.get(path, &[]).await;
        assert_eq!((status.as_u16(), &body[..]), (200, &b"{}"[..]), "{path}");
        assert_eq!(headers["content-type"], "application/json");
    }
    let (status, _, body) = server.get("/visit/visitor?visitorCode=v", &[]).await;
    assert_eq!((status.as_u16(), code(&body).as_str()), (400, "site_missing"));
}

#[tokio::test]
async fn a_client_gets_a_token_by_header_or_by_form() {
    let server = start().await;
    let shop = SiteCode::parse("shop").unwrap();
    server.catalogue.create_client(&shop, "client-id", "client-secret", NOW_MS).await.unwrap();
    let form = "grant_type=client_credentials";
    let both = "grant_type=client_credentials&client_id=client-id&client_secret=client%2Dsecret";
    let sdk = "?sdkName=PYTHON&sdkVersion=3.22.2&siteCode=shop";
    for (query, headers, form) in [
        (sdk, &[("authorization", BASIC)][..], form),
        ("", &[("authorization", BASIC)], form),
        (sdk, &[], both),
    ] {
        let (status, headers, body) = server.token(query, headers, form).await;
        assert_eq!(status, 200, "{body:?}");
        assert_eq!(headers["content-type"], "application/json");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["expires_in"], 7200);
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(server.delivery.grant(token).unwrap().site, shop);
        let restarted =
            Delivery::new(server.catalogue.clone(), &server.folder.path().join("token.key")).unwrap();
        assert!(restarted.grant(token).is_some());
    }
}

#[tokio::test]
async fn wrong_credentials_are_401_and_guessing_ends_in_429() {
    let server = start().await;
    let shop = SiteCode::parse("shop").unwrap();
    server.catalogue.create_client(&shop, "client-id", "client-secret", NOW_MS).await.unwrap();
    let form = "grant_type=client_credentials";
    let wrong = "Basic Y2xpZW50LWlkOndyb25n";
    for (query, header) in [
        ("?siteCode=shop", wrong),
        ("?siteCode=empty", BASIC),
        ("?siteCode=nope", BASIC),
        ("?siteCode=shop", "Bearer x"),
        ("?siteCode=shop", "Basic !!!"),
    ] {
        let (status, headers, body) = server.token(query, &[("authorization", header)], form).await;
        assert_eq!((status.as_u16(), code(&body).as_str()), (401, "credentials_wrong"), "{query} {header}");
        assert!(headers.contains_key("www-authenticate"));
    }
    let (status, _, body) =
        server.token("?siteCode=shop", &[("authorization", BASIC)], "grant_type=password").await;
    assert_eq!((status.as_u16(), code(&body).as_str()), (400, "grant_type_unsupported"));
    let mut last = 401;
    for _ in 0..40 {
        last = server.token("?siteCode=shop", &[("authorization", wrong)], form).await.0.as_u16();
    }
    assert_eq!(last, 429);
    let (status, headers, _) = server.token("?siteCode=shop", &[("authorization", BASIC)], form).await;
    assert_eq!(status, 429);
    assert!(headers.contains_key("retry-after"));
}

async fn next_chunk(body: &mut hyper::body::Incoming) -> Option<String> {
    let frame =
        tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("nothing within 5 s")?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

async fn next_event(body: &mut hyper::body::Incoming) -> Option<String> {
    loop {
        match next_chunk(body).await? {
            chunk if chunk.starts_with(':') => {}
            chunk => return Some(chunk),
        }
    }
}

#[tokio::test]
async fn a_publication_reaches_the_streams_of_its_site_once_the_file_is_served() {
    let server = start().await;
    let response =
        send(server.sse, "GET", "/sse?siteCode=shop", &[("accept", "text/event-stream")], "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["transfer-encoding"], "chunked");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let mut body = response.into_body();
    assert_eq!(next_chunk(&mut body).await.unwrap(), ": open\n\n");

    let mut other = send(server.sse, "GET", "/sse?siteCode=empty", &[], "").await.into_body();
    server.publish(None, b"{\"v\":2}").await;
    let expected =
        format!("event: configuration-update-event\ndata: {{\"siteCode\": \"shop\", \"ts\": {NOW_MS}}}\n\n");
    assert_eq!(next_event(&mut body).await.unwrap(), expected);
    assert_eq!(server.get("/v3/shop", &[]).await.2, "{\"v\":2}");
    for _ in 0..4 {
        assert!(next_chunk(&mut other).await.unwrap().starts_with(':'), "another site's event");
    }

    server.stop.stop();
    assert_eq!(next_event(&mut body).await, None, "a stop ends the stream");
}

#[tokio::test]
async fn a_stream_for_an_unknown_site_or_path_is_refused() {
    let server = start().await;
    for (path, status, expected) in [
        ("/sse?siteCode=nope", 404, "site_unknown"),
        ("/sse", 400, "site_missing"),
        ("/v3/shop", 404, "path_unknown"),
    ] {
        let answer = ask(server.sse, "GET", path, &[], "").await;
        assert_eq!((answer.0.as_u16(), code(&answer.2).as_str()), (status, expected), "{path}");
    }
    assert_eq!(ask(server.sse, "POST", "/sse?siteCode=shop", &[], "").await.0, 405);
}

#[tokio::test]
async fn a_publication_by_another_process_reaches_the_streams_too() {
    let server = start().await;
    let follower = server.catalogue.clone();
    let following = tokio::spawn(async move { follower.follow(std::future::pending()).await });
    let mut body = send(server.sse, "GET", "/sse?siteCode=shop", &[], "").await.into_body();
    next_chunk(&mut body).await.unwrap();
    let other = Catalogue::open(&server.folder.path().join("catalogue.sqlite")).await.unwrap();
    other.publish(&SiteCode::parse("shop").unwrap(), None, b"{}", "other", NOW_MS).await.unwrap();
    assert!(next_event(&mut body).await.unwrap().contains("configuration-update-event"));
    following.abort();
}
