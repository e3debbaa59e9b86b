mod formats;
mod growing;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanal_model::{Beacon, DeadLetter, Receipt, SiteCode};
use fanal_service::http::{
    BodyLimits, Connection, Encoding, Handler, HttpLimits, Listener, Request, Response,
};
use fanal_service::http::{bind, read_body, serve};
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Site, SiteDirectory};
use fanal_storage::log::{Log, LogConfig, Topic, wall_clock};

use super::*;
use crate::key::AddressKey;

const START_MS: u64 = 1_700_000_000_000;

/// A log on disk with what is imported into it.
struct World {
    dir: tempfile::TempDir,
    log: Log,
    imports: Imports,
}

impl World {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(dir: tempfile::TempDir) -> Self {
        let config = LogConfig { segment_bytes: 20_000, retention: Duration::ZERO, ..LogConfig::default() };
        let log = Log::open(&dir.path().join("log"), config).unwrap();
        let imports = Imports::open(&log, dir.path()).unwrap();
        Self { dir, log, imports }
    }

    /// As after a kill: what was in memory is gone.
    fn reopened(self) -> Self {
        let Self { dir, log, imports } = self;
        drop((log, imports));
        Self::on(dir)
    }

    fn target(&self) -> LocalTarget {
        LocalTarget { imports: self.imports.clone() }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn import(&self, files: &[&Path]) -> Result<Report, ImportError> {
        import_into(self.target(), files).await
    }

    fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        let mut reader = self.log.reader(self.log.start_offset()).unwrap();
        while let Some(chunk) = reader.try_next(1 << 20).unwrap() {
            for record in chunk.records() {
                match record.topic {
                    Topic::Beacons => {
                        let b = Beacon::decode(record.value).unwrap();
                        *contents.lines.entry(String::from_utf8_lossy(b.line).into_owned()).or_default() += 1;
                        contents.addresses.push(b.client_address.to_owned());
                        contents.robots.push(b.robot.map(str::to_owned));
                    }
                    Topic::Dead => {
                        let letter = DeadLetter::decode(record.value).unwrap();
                        let text = String::from_utf8_lossy(letter.bytes).into_owned();
                        contents.dead.push((letter.reason.to_owned(), letter.site_code.to_owned(), text));
                    }
                    Topic::Receipts => {
                        let r = Receipt::decode(record.value).unwrap();
                        contents.received += r.received;
                        assert_eq!(r.received, r.accepted + r.rejected);
                    }
                    Topic::Seal => contents.seals += 1,
                    Topic::Positions | Topic::Lost | Topic::Foreign | Topic::Overflowed => {}
                }
            }
        }
        contents
    }

    fn assert_once(&self, lines: u64) {
        let contents = self.contents();
        assert_eq!(contents.lines.len() as u64, lines);
        assert!(contents.lines.values().all(|count| *count == 1), "a line is there twice");
        assert_eq!(contents.received, lines + contents.dead.len() as u64);
    }
}

#[derive(Default)]
struct Contents {
    /// How often each tracking line is there.
    lines: BTreeMap<String, u64>,
    addresses: Vec<String>,
    robots: Vec<Option<String>>,
    dead: Vec<(String, String, String)>,
    received: u64,
    seals: u64,
}

async fn import_into(target: impl ImportTarget, files: &[&Path]) -> Result<Report, ImportError> {
    let sites = SiteDirectory::of([Site::new(SiteCode::parse("shop").unwrap())]);
    let key = AddressKey::of(&Secret::new("test"));
    let options = ImportOptions { node: "web-1".to_owned(), batch_bytes: 2000, ..ImportOptions::default() };
    let mut importer = Importer::new(target, sites, key, options, wall_clock());
    let inputs: Vec<_> = files.iter().map(|path| Input::File(path.to_path_buf())).collect();
    let mut steps = Vec::new();
    let report =
        importer.run(&inputs, |progress| steps.push(progress.done_bytes <= progress.total_bytes)).await?;
    assert!(steps.iter().all(|within| *within));
    Ok(report)
}

fn access(number: u64, body: &str) -> String {
    let seconds = START_MS / 1000 + number;
    format!("{seconds}.000\t198.51.100.77\tPOST\t/visit/events?siteCode=shop\t204\tagent\t-\t-\t{body}\n")
}

fn content(range: std::ops::Range<u64>) -> Vec<u8> {
    let line = |n| access(n, &format!("eventType=activity&nonce={n:016}&visitorCode=v{}", n % 7));
    range.map(line).collect::<String>().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn every_line_of_a_log_ends_in_one_count() {
    let world = World::new();
    let mut log = String::new();
    log +=
        &access(0, "eventType=activity&nonce=1&visitorCode=a\\x0AeventType=activity&nonce=2&visitorCode=b");
    log += &access(1, "eventType=activity&nonce=3");
    log += &access(2, "eventType=activity&nonce=4&visitorCode=c").replace("siteCode=shop", "siteCode=nobody");
    log += &access(3, "eventType=activity&nonce=5&visitorCode=d").replace("204", "500");
    log += &access(4, "x").replace("/visit/events", "/robots.txt");
    log += "garbage\n";
    log += &access(5, "broken \\xZZ escape");
    let path = world.file("access.log", log.as_bytes());
    let report = world.import(&[&path]).await.unwrap();
    let file = &report.files[0];
    assert_eq!((file.log_lines, file.accepted, file.already_imported), (7, 2, 0));
    let counts =
        |pairs: &[(&str, u64)]| pairs.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect::<BTreeMap<_, _>>();
    assert_eq!(
        file.rejected,
        counts(&[("malformed_log_line", 2), ("missing_visitor", 1), ("unknown_site", 1)])
    );
    assert_eq!(file.ignored, counts(&[("not_tracking", 1), ("status_not_2xx", 1)]));
    assert_eq!(file.unknown_sites, counts(&[("nobody", 1)]));
    let contents = world.contents();
    assert_eq!((contents.lines.len(), contents.dead.len(), contents.received), (2, 4, 6));
    assert_eq!(contents.seals, 1, "the archive's file ends with the import");
    assert!(contents.addresses.iter().all(|a| a == "198.51.100.0"), "the site's policy holds");
    assert!(contents.dead.iter().all(|(.., text)| !text.contains("198.51.100.77")), "and in dead letters");
    assert!(contents.dead.iter().any(|(_, site, _)| site == "nobody"));
}

#[tokio::test]
async fn robots_of_a_log_are_judged_as_at_the_door() {
    let world = World::new();
    let mut log = String::new();
    for (number, agent) in
        (0..).zip(["Mozilla/5.0", "Googlebot/2.1", "curl/8.5.0", "-", "Python/3.11 aiohttp/3.14.5"])
    {
        let line = access(number, &format!("eventType=activity&nonce={number:016}&visitorCode=v"));
        log += &line.replace("\tagent\t", &format!("\t{agent}\t"));
    }
    let path = world.file("access.log", log.as_bytes());
    assert_eq!(world.import(&[&path]).await.unwrap().accepted(), 5);
    let robots = world.contents().robots;
    assert_eq!(robots, ["", "declared", "http_library", "", ""].map(|reason| Some(reason.to_owned())));
}

#[tokio::test]
async fn the_same_content_adds_nothing_under_any_name_or_compression() {
    let world = World::new();
    let content = content(0..100);
    let first = world.file("access.log", &content);
    assert_eq!(world.import(&[&first]).await.unwrap().accepted(), 100);
    let end = world.log.end_offset();
    let packed = world.file("access.log-1.gz", &gzip(&content));
    let squeezed = world.file("renamed", &zstd::encode_all(&content[..], 3).unwrap());
    let report = world.import(&[&first, &packed, &squeezed]).await.unwrap();
    assert_eq!((report.accepted(), report.already_imported()), (0, 300));
    assert_eq!(world.log.end_offset(), end, "not even a seal");
    let world = world.reopened();
    assert_eq!(world.import(&[&packed, &first]).await.unwrap().accepted(), 0);
    world.assert_once(100);
}

#[tokio::test]
async fn files_that_share_only_their_beginning_are_both_imported() {
    let world = World::new();
    let (one, two) = (content(0..60), [content(0..1), content(500..560)].concat());
    let (one, two) = (world.file("node-1.log", &one), world.file("node-2.log", &two));
    let report = world.import(&[&one, &two]).await.unwrap();
    assert_eq!(report.accepted(), 60 + 61);
    assert_eq!(world.import(&[&two, &one]).await.unwrap().accepted(), 0);
    let shared = world.contents().lines.values().filter(|count| **count == 2).count();
    assert_eq!(shared, 1, "the shared line was logged on both nodes");
}

/// Dies at one append: before it, or after it without an answer.
struct Dying {
    inner: LocalTarget,
    left: AtomicU64,
    after: bool,
}

impl ImportTarget for Dying {
    async fn lookup(&self, head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        self.inner.lookup(head).await
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        let dies = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        if !dies || self.after {
            self.inner.append(batch).await?;
        }
        if dies { Err(fanal_storage::log::AppendError::Closed.into()) } else { Ok(()) }
    }

    async fn seal(&self) -> Result<(), ImportError> {
        self.inner.seal().await
    }
}

#[tokio::test]
async fn an_import_killed_at_any_batch_is_finished_by_the_next_one_exactly_once() {
    for after in [false, true] {
        for deaths in 0.. {
            let mut world = World::new();
            let path = world.file("access.log.gz", &gzip(&content(0..120)));
            let target = Dying { inner: world.target(), left: AtomicU64::new(deaths), after };
            let survived = import_into(target, &[&path]).await.is_ok();
            world = world.reopened();
            world.import(&[&path]).await.unwrap();
            world.assert_once(120);
            if survived {
                assert!(deaths > 5, "the import has several batches");
                break;
            }
        }
    }
}

/// Knows nothing of what others did meanwhile.
struct Stale(LocalTarget);

impl ImportTarget for Stale {
    async fn lookup(&self, _: &HeadHash) -> Result<Vec<Position>, ImportError> {
        Ok(Vec::new())
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        self.0.append(batch).await
    }

    async fn seal(&self) -> Result<(), ImportError> {
        self.0.seal().await
    }
}

#[tokio::test]
async fn a_second_import_of_a_file_under_way_is_refused() {
    let world = World::new();
    let path = world.file("access.log", &content(0..60));
    world.import(&[&path]).await.unwrap();
    let world = world.reopened();
    let path = world.file("access.log", &content(0..80));
    world.import(&[&path]).await.unwrap();
    let refused = import_into(Stale(world.target()), &[&path]).await;
    assert!(matches!(refused, Err(ImportError::Concurrent)), "{refused:?}");
    world.assert_once(80);
}

#[tokio::test]
async fn retention_forgets_segments_but_no_import() {
    let world = World::new();
    let path = world.file("access.log", &content(0..400));
    world.import(&[&path]).await.unwrap();
    let retained = world.log.retain(u64::MAX).unwrap();
    assert!(retained.deleted_segments > 0);
    let world = world.reopened();
    let report = world.import(&[&path]).await.unwrap();
    assert_eq!((report.accepted(), report.already_imported()), (0, 400));
    let World { dir, log, imports } = world;
    drop((log, imports));
    std::fs::remove_file(dir.path().join("imports.json")).unwrap();
    let log = Log::open(&dir.path().join("log"), LogConfig::default()).unwrap();
    let lost = Imports::open(&log, dir.path()).err().unwrap();
    assert!(matches!(lost, ImportError::SnapshotLost { .. }), "{lost}");
}

#[tokio::test]
async fn a_damaged_archive_gives_what_stands_before_the_damage() {
    let world = World::new();
    let whole = gzip(&content(0..2000));
    let path = world.file("access.log.gz", &whole[..whole.len() * 2 / 3]);
    for _ in 0..2 {
        let error = world.import(&[&path]).await.unwrap_err();
        assert!(matches!(error, ImportError::Corrupt { good_bytes: 1.., .. }), "{error}");
    }
    let kept = world.contents().lines.len() as u64;
    assert!(kept > 100, "{kept}");
    let path = world.file("access.log.gz", &whole);
    assert_eq!(world.import(&[&path]).await.unwrap().accepted(), 2000 - kept);
    world.assert_once(2000);
    let missing = world.import(&[Path::new("/nowhere/access.log")]).await.unwrap_err();
    assert!(matches!(missing, ImportError::Read { .. }), "{missing}");
}

#[tokio::test]
async fn a_line_without_bounds_is_cut_and_its_neighbours_are_kept() {
    let world = World::new();
    let endless = vec![b'x'; lines::LOG_LINE_BYTES_MAX + 10];
    let path = world.file("access.log", &[&content(0..1)[..], &endless, b"\n", &content(1..2)].concat());
    let report = world.import(&[&path]).await.unwrap();
    assert_eq!((report.accepted(), report.files[0].rejected["line_too_long"]), (2, 1));
    assert_eq!(world.import(&[&path]).await.unwrap().already_imported(), 3);
}

/// What the program mounts on its admin listener.
struct Mounted(ImportEndpoint);

impl Handler for Mounted {
    async fn handle(&self, request: Request, _: &Connection) -> Response {
        assert_eq!(request.headers()["authorization"], "Bearer token");
        let (parts, body) = request.into_parts();
        let limits = BodyLimits { bytes_max: ImportEndpoint::BODY_BYTES_MAX, ..BodyLimits::default() };
        let body = read_body(body, limits, Encoding::Identity).await.unwrap();
        match parts.uri.path() {
            ImportEndpoint::APPEND_PATH => self.0.handle_append(&body).await,
            ImportEndpoint::POSITIONS_PATH => {
                let head = parts.uri.query().and_then(|q| q.strip_prefix("head=")).unwrap_or_default();
                self.0.handle_positions(head).await
            }
            _ => self.0.handle_seal().await,
        }
    }
}

#[tokio::test]
async fn a_running_process_takes_an_import_from_another_one() {
    let world = World::new();
    let listener = Listener::clear(bind("127.0.0.1:0".parse().unwrap(), "test").unwrap());
    let address = listener.local_addr().unwrap().to_string();
    let (stop, endpoint) = (Stop::new(), ImportEndpoint::new(world.imports.clone()));
    tokio::spawn(serve(listener, Arc::new(Mounted(endpoint.clone())), HttpLimits::default(), stop.clone()));
    let remote = || RemoteTarget::new(address.clone(), Secret::new("token"));
    let path = world.file("access.log", &content(0..100));
    assert_eq!(import_into(remote(), &[&path]).await.unwrap().accepted(), 100);
    assert_eq!(import_into(remote(), &[&path]).await.unwrap().already_imported(), 100);
    assert_eq!(world.import(&[&path]).await.unwrap().accepted(), 0, "both ways share what they know");
    world.assert_once(100);
    let mut bad = Batch::new();
    bad.push(Topic::Beacons, b"k", |out| out.extend_from_slice(b"\xff\xff")).unwrap();
    for body in [&b""[..], b"nonsense", &bad.to_bytes()] {
        assert_eq!(endpoint.handle_append(body).await.status(), 400);
    }
    assert_eq!(endpoint.handle_positions("xyz").await.status(), 400);
    stop.stop();
    let gone = import_into(RemoteTarget::new("127.0.0.1:1".to_owned(), Secret::new("t")), &[&path]).await;
    assert!(matches!(gone, Err(ImportError::Unreachable { .. })), "{gone:?}");
}
