//! The admin API over real sockets.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use fanal_admin::{Admin, ExtraRoute, OPENAPI, ROUTES};
use fanal_service::health::Health;
use fanal_service::http::{Body, Connection, HttpLimits, Listener, Request, Response, bind, serve};
use fanal_service::metrics::Metrics;
use fanal_service::operations::Operations;
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::Catalogue;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const EXAMPLE: &str = include_str!("../../../tests/sdk/config.example.json");
const TOKEN: &str = "the-admin-token";

struct Echo;

impl ExtraRoute for Echo {
    fn matches(&self, path: &str) -> bool {
        path == "/internal/v1/echo"
    }

    fn answer<'a>(
        &'a self,
        request: Request,
        _: &'a Connection,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(
            async move { Response::new(Body::full(request.into_body().collect().await.unwrap().to_bytes())) },
        )
    }
}

struct Running {
    address: SocketAddr,
    catalogue: Catalogue,
    health: Health,
    _folder: tempfile::TempDir,
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&folder.path().join("catalogue.sqlite")).await.unwrap();
    let health = Health::new();
    let operations = Operations { health: health.clone(), metrics: Metrics::install().unwrap() };
    let admin =
        Admin::new(catalogue.clone(), Secret::new(TOKEN), operations).with_routes(vec![Box::new(Echo)]);
    let socket = bind("127.0.0.1:0".parse().unwrap(), "--admin").unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(serve(Listener::clear(socket), Arc::new(admin), HttpLimits::default(), Stop::new()));
    Running { address, catalogue, health, _folder: folder }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.json()["status"], self.status);
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Running {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).header("host", "admin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("authorization", "Bearer the-admin-token"), ("content-type", "application/json")];
        self.send(method, path, &headers, body.to_owned()).await
    }

    async fn with_shop() -> Self {
        let server = start().await;
        assert_eq!(server.call("PUT", "/api/v1/sites/shop", "{}").await.status, 201);
        server
    }
}

#[tokio::test]
async fn nothing_of_the_api_answers_without_the_token() {
    let server = Running::with_shop().await;
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer the-admin-toke",
        "Bearer the-admin-tokenx",
        "Basic the-admin-token",
    ];
    for path in ["/api/v1/sites", "/api/v1/sites/shop", "/api/v1/nothing", "/internal/v1/echo", "/internal/x"]
    {
        for header in wrong {
            let answer = server.send("GET", path, &[("authorization", header)], "").await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "token_wrong"), "{path} {header}");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
    let answer = server.send("PUT", "/api/v1/sites/new", &[], "{}").await;
    assert_eq!(answer.status, 401);
    assert!(!server.catalogue.sites().contains("new"));
    let answer =
        server.send("GET", "/api/v1/sites", &[("authorization", "bearer  the-admin-token ")], "").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_site_is_created_then_changed_key_by_key() {
    let server = start().await;
    let created =
        server.call("PUT", "/api/v1/sites/shop", r#"{"name": "Shop", "address_policy": "drop"}"#).await;
    assert_eq!((created.status, &created.headers["location"]), (201, &"/api/v1/sites/shop".parse().unwrap()));
    let settings = r#"{"session_timeout": "45min", "visitor_cookie": {"domain": ".Shop.Example"},
        "time_zone": "europe/paris", "heartbeat_extends": true}"#;
    let changed = server.call("PUT", "/api/v1/sites/shop", settings).await;
    assert_eq!(changed.status, 200);
    let expected = json!({"site_code": "shop", "name": "Shop", "address_policy": "drop", "session_timeout": "45min",
        "visitor_cookie": {"domain": "shop.example"}, "heartbeat_extends": true, "time_zone": "Europe/Paris"});
    assert_eq!(changed.json(), expected);
    assert_eq!(server.call("GET", "/api/v1/sites/shop", "").await.json(), expected);
    let without = server.call("PUT", "/api/v1/sites/shop", r#"{"visitor_cookie": null}"#).await.json();
    assert_eq!(without["visitor_cookie"], Value::Null);
    assert_eq!(without["time_zone"], "Europe/Paris");
    assert_eq!(server.call("PUT", "/api/v1/sites/a", "").await.status, 201);
    let all = server.call("GET", "/api/v1/sites", "").await.json();
    let codes: Vec<_> =
        all["sites"].as_array().unwrap().iter().map(|site| site["site_code"].clone()).collect();
    assert_eq!(codes, ["a", "shop"]);
}

#[tokio::test]
async fn changes_of_different_keys_at_once_are_all_kept() {
    let server = Running::with_shop().await;
    let path = "/api/v1/sites/shop";
    for round in 0..10 {
        let (name, timeout) =
            (format!(r#"{{"name": "n{round}"}}"#), format!(r#"{{"session_timeout": "{}min"}}"#, round + 1));
        let both = tokio::join!(server.call("PUT", path, &name), server.call("PUT", path, &timeout));
        assert_eq!((both.0.status, both.1.status), (200, 200));
        let site = server.call("GET", path, "").await.json();
        assert_eq!(
            (&site["name"], &site["session_timeout"]),
            (&json!(format!("n{round}")), &json!(format!("{}min", round + 1)))
        );
    }
}

#[tokio::test]
async fn wrong_settings_are_refused_by_name_and_change_nothing() {
    let server = Running::with_shop().await;
    let before = server.call("GET", "/api/v1/sites/shop", "").await.json();
    for (body, status, named) in [
        (r#"{"nmae": "x"}"#, 422, "nmae"),
        (r#"{"name": 1}"#, 422, "string"),
        (r#"{"name": ""}"#, 422, "name"),
        (r#"{"address_policy": "mask"}"#, 422, "drop, truncate, hash, keep"),
        (r#"{"session_timeout": "30"}"#, 422, "session_timeout"),
        (r#"{"session_timeout": "10s"}"#, 422, "1min"),
        (r#"{"visitor_cookie": {"domain": "com"}}"#, 422, "visitor_cookie.domain"),
        (r#"{"visitor_cookie": {"host": "a.b"}}"#, 422, "host"),
        (r#"{"time_zone": "Europe/Pari"}"#, 422, "time_zone"),
        (r#"{"name": "x", "time_zone": "Nowhere"}"#, 422, "time_zone"),
        (r#"{"name": "#, 400, "JSON"),
        ("[]", 422, "JSON object"),
        ("null", 422, "JSON object"),
    ] {
        let answer = server.call("PUT", "/api/v1/sites/shop", body).await;
        assert_eq!(answer.status, status, "{body}: {:?}", answer.body);
        assert!(!answer.code().is_empty());
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(named) || (named == "object" && detail.contains("struct")),
            "{body}: {detail}"
        );
    }
    assert_eq!(server.call("GET", "/api/v1/sites/shop", "").await.json(), before);
    let answer = server.call("PUT", "/api/v1/sites/a%20b", "{}").await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "site_code_invalid"));
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_says_so() {
    let server = Running::with_shop().await;
    for (method, path, status, code) in [
        ("GET", "/api/v1/sites/nope", 404, "site_unknown"),
        ("PUT", "/api/v1/sites/nope/sdk-configuration", 404, "site_unknown"),
        ("POST", "/api/v1/sites/nope/clients", 404, "site_unknown"),
        ("GET", "/api/v1/sites/shop/sdk-configuration", 404, "configuration_missing"),
        ("GET", "/api/v1/other", 404, "path_unknown"),
        ("GET", "/", 404, "path_unknown"),
        ("DELETE", "/api/v1/sites/shop", 405, "method_not_allowed"),
        ("POST", "/api/v1/sites", 405, "method_not_allowed"),
        ("POST", "/metrics", 405, "method_not_allowed"),
        ("PUT", "/api/openapi.json", 405, "method_not_allowed"),
    ] {
        let answer = server.call(method, path, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.headers.contains_key("allow"), status == 405);
    }
    let auth = ("authorization", "Bearer the-admin-token");
    let xml = server.send("PUT", "/api/v1/sites/shop", &[auth, ("content-type", "text/xml")], "<a/>").await;
    assert_eq!((xml.status, xml.code().as_str()), (415, "content_type_unsupported"));
    let brotli = server.send("PUT", "/api/v1/sites/shop", &[auth, ("content-encoding", "br")], "x").await;
    assert_eq!((brotli.status, brotli.code().as_str()), (415, "body_encoding_unsupported"));
    let large = server.send("PUT", "/api/v1/sites/shop", &[auth], vec![b' '; 1 << 20]).await;
    assert_eq!((large.status, large.code().as_str()), (413, "body_too_large"));
    let large =
        server.send("PUT", "/api/v1/sites/shop/sdk-configuration", &[auth], vec![b' '; 9 << 20]).await;
    assert_eq!((large.status, large.code().as_str()), (413, "body_too_large"));
    // What curl sends with --data-binary and nothing else.
    let form = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(server.send("PUT", "/api/v1/sites/shop", &[auth, form], "{}").await.status, 200);
}

#[tokio::test]
async fn a_configuration_is_published_as_given_twice_in_a_second() {
    let server = Running::with_shop().await;
    let path = "/api/v1/sites/shop/sdk-configuration";
    let first = server.call("PUT", path, EXAMPLE).await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    let second = server.call("PUT", path, EXAMPLE).await;
    assert_ne!(first.json()["last_modified"], second.json()["last_modified"]);
    let served = server.call("GET", path, "").await;
    assert_eq!(served.body, EXAMPLE);
    assert_eq!(served.headers["last-modified"], second.json()["last_modified"].as_str().unwrap());
    assert_eq!(server.catalogue.configurations().get("shop", None).unwrap().document, EXAMPLE);

    let staging = server.call("PUT", &format!("{path}?environment=staging%20%C3%A9"), EXAMPLE).await;
    assert_eq!(staging.json()["environment"], "staging é");
    assert_eq!(server.call("GET", &format!("{path}?environment=staging%20%C3%A9"), "").await.body, EXAMPLE);
    assert_eq!(
        server.call("GET", &format!("{path}?environment=other"), "").await.code(),
        "configuration_missing"
    );
    for query in ["enviroment=x", "environment=", "environment=a&environment=b", "environment=%00"] {
        let answer = server.call("PUT", &format!("{path}?{query}"), EXAMPLE).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "parameter_invalid"), "{query}");
    }
    let auth = ("authorization", "Bearer the-admin-token");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, EXAMPLE.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(server.send("PUT", path, &[auth, ("content-encoding", "gzip")], packed).await.status, 200);
}

#[tokio::test]
async fn a_configuration_that_would_break_an_sdk_is_refused_with_every_place() {
    let server = Running::with_shop().await;
    let path = "/api/v1/sites/shop/sdk-configuration";
    server.call("PUT", path, EXAMPLE).await;
    let mut broken: Value = serde_json::from_str(EXAMPLE).unwrap();
    broken["holdout"] = Value::Null;
    broken["configuration"].as_object_mut().unwrap().remove("dataApiDomain");
    let answer = server.call("PUT", path, &broken.to_string()).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "sdk_configuration_invalid"));
    let errors = answer.json()["errors"].clone();
    let found: Vec<_> =
        errors.as_array().unwrap().iter().map(|error| (&error["path"], &error["sdk"])).collect();
    let (domain, holdout) = (json!("configuration.dataApiDomain"), json!("holdout"));
    assert_eq!(found, [(&domain, &json!("javascript")), (&holdout, &json!("python"))]);
    assert_eq!(server.call("PUT", path, "{\"a\":").await.code(), "json_invalid");
    assert_eq!(server.call("PUT", path, "").await.code(), "json_invalid");
    assert_eq!(server.call("GET", path, "").await.body, EXAMPLE, "the old one is still served");
}

#[tokio::test]
async fn clients_are_made_or_taken_as_given_and_work() {
    let server = Running::with_shop().await;
    let path = "/api/v1/sites/shop/clients";
    let made = server.call("POST", path, "").await;
    assert_eq!((made.status, &made.headers["cache-control"]), (201, &"no-store".parse().unwrap()));
    let (id, secret) = (made.json()["client_id"].clone(), made.json()["client_secret"].clone());
    assert_eq!(secret.as_str().unwrap().len(), 43);
    let verified =
        server.catalogue.verify_client(Some("shop"), id.as_str().unwrap(), secret.as_str().unwrap()).await;
    assert!(verified.unwrap().is_some());

    let chosen = r#"{"client_id": "client-id", "client_secret": "client-secret"}"#;
    let given = server.call("POST", path, chosen).await;
    assert_eq!((given.status, given.json()), (201, serde_json::from_str(chosen).unwrap()));
    let again = server.call("POST", path, chosen).await;
    assert_eq!((again.status, again.code().as_str()), (409, "client_exists"));
    for body in [
        r#"{"client_id": "a:b"}"#,
        r#"{"client_id": ""}"#,
        r#"{"client_secret": "short"}"#,
        r#"{"secret": "client-secret"}"#,
    ] {
        let answer = server.call("POST", path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "body_invalid"), "{body}");
    }
}

#[tokio::test]
async fn health_and_metrics_are_open_and_tell_the_reasons() {
    let server = start().await;
    assert_eq!(server.send("GET", "/health/live", &[], "").await.status, 200);
    server.health.ok("ingest");
    assert_eq!(server.send("GET", "/health/ready", &[], "").await.json()["status"], "ready");
    server.health.not_ready("event_log", "the disk is full");
    let answer = server.send("GET", "/health/ready", &[], "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE.as_u16());
    assert_eq!(answer.json()["reasons"], json!({"event_log": "the disk is full"}));
    let metrics = server.send("GET", "/metrics", &[], "").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert!(String::from_utf8_lossy(&metrics.body).contains("# TYPE http_connections gauge"));
}

#[tokio::test]
async fn a_route_of_the_program_answers_behind_the_same_token() {
    let server = start().await;
    let answer = server.call("POST", "/internal/v1/echo", "hello").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(server.call("POST", "/internal/v1/other", "").await.code(), "path_unknown");
}

#[tokio::test]
async fn the_openapi_document_has_every_route_and_no_other() {
    let server = start().await;
    let answer = server.send("GET", "/api/openapi.json", &[], "").await;
    assert_eq!((answer.status, &answer.body[..]), (200, OPENAPI.as_bytes()));
    let document: Value = answer.json();
    let mut documented: Vec<(String, String)> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            documented.push((method.clone(), path.clone()));
        }
    }
    documented.sort();
    let mut known: Vec<(String, String)> =
        ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    known.sort();
    assert_eq!(documented, known);
    for (method, path) in ROUTES {
        let path = path.replace("{siteCode}", "shop");
        let answer = server.call(&method.to_uppercase(), &path, "{}").await;
        assert!(
            answer.status != 405 && !String::from_utf8_lossy(&answer.body).contains("path_unknown"),
            "{method} {path}"
        );
    }
}
