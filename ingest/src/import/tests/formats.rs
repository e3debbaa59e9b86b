//! Logs in other formats than `fanal`.

use fanal_parser::log_format::{LogFormat, LogOutcome, Scratch};

use super::*;

async fn import_as(world: &World, file: &Path, format: &str) -> Report {
    let sites = SiteDirectory::of([Site::new(SiteCode::parse("shop").unwrap())]);
    let key = AddressKey::of(&Secret::new("test"));
    let format = LogFormat::compile(format).unwrap();
    let options = ImportOptions { format, ..ImportOptions::default() };
    let mut importer = Importer::new(world.target(), sites, key, options, wall_clock());
    importer.run(&[Input::File(file.to_owned())], |_| ()).await.unwrap()
}

const JSON: &str = r#"log_format j escape=json '{"at":"$time_iso8601","from":"$remote_addr","request":"$request",'
    '"status":$status,"agent":"$http_user_agent","body":"$request_body"}';"#;

fn json(site: &str, body: &str) -> String {
    format!(
        "{{\"at\":\"2023-11-14T22:13:20+00:00\",\"from\":\"198.51.100.77\",\"request\":\"POST /visit/events?siteCode={site} HTTP/1.1\",\
         \"status\":204,\"agent\":\"A \\\"B\\\"\",\"body\":\"{body}\"}}\n"
    )
}

#[tokio::test]
async fn a_log_in_json_is_imported_as_one_in_the_format_of_the_manual() {
    let world = World::new();
    let body = r"eventType=activity&nonce=1&visitorCode=a\neventType=activity&nonce=2&visitorCode=b";
    let log = json("shop", body) + &json("nobody", body) + "198.51.100.77 is no JSON\n";
    let path = world.file("access.json", log.as_bytes());
    let report = import_as(&world, &path, JSON).await;
    assert_eq!((report.files[0].log_lines, report.accepted()), (3, 2));
    let contents = world.contents();
    assert_eq!(contents.lines.len(), 2);
    assert_eq!(contents.addresses, ["198.51.100.0", "198.51.100.0"]);
    assert_eq!(contents.received, 4);
    let [unknown, malformed] = &contents.dead[..] else { panic!("{:?}", contents.dead) };
    assert_eq!((&*malformed.0, &*malformed.2), ("malformed_log_line", "198.51.100.0 is no JSON"));
    // Whoever replays the letter knows no format of this import.
    assert_eq!(unknown.0, "unknown_site");
    let (format, mut scratch) = (LogFormat::fanal(), Scratch::default());
    let read = format.read(unknown.2.as_bytes()).unwrap();
    let Ok(LogOutcome::Request(request)) = read.outcome(&mut scratch) else { panic!("{}", unknown.2) };
    assert_eq!((request.site_code.as_ref(), request.user_agent), ("nobody", &b"A \"B\""[..]));
    assert_eq!(request.received_at_ms, 1_700_000_000_000);
    assert_eq!(request.body, Some(body.replace("\\n", "\n").as_bytes()));
    assert_eq!(request.client_address.map(|ip| ip.to_string()).as_deref(), Some("198.51.100.0"));
    let again = import_as(&world, &path, JSON).await;
    assert_eq!((again.files[0].log_lines, again.already_imported()), (0, 3), "each line once");
}

#[tokio::test]
async fn what_nginx_writes_without_being_told_gives_the_events_of_queries() {
    let world = World::new();
    let get = |request: &str| {
        format!("198.51.100.77 - - [14/Nov/2023:22:13:20 +0000] \"{request}\" 204 0 \"-\" \"agent\"\n")
    };
    let log = get("GET /visit/events.gif?siteCode=shop&eventType=activity&nonce=1&visitorCode=a HTTP/1.1")
        + &get("POST /visit/events?siteCode=shop HTTP/1.1")
        + &get("GET / HTTP/1.1")
        + &get(r"\x16\x03\x01").replace("204", "400");
    let path = world.file("access.log", log.as_bytes());
    let report = import_as(&world, &path, "combined").await;
    let file = &report.files[0];
    assert_eq!((file.log_lines, file.accepted, file.ignored["not_tracking"]), (4, 1, 2));
    assert_eq!(file.rejected["malformed_log_line"], 1, "the body of the POST is in no log");
    world.assert_once(1);
}
