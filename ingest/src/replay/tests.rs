use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanal_model::{Beacon, DeadLetter, Receipt, RejectReason, SiteCode, Source};
use fanal_parser::Limits;
use fanal_storage::archive::{Archive, ArchiveWriter, Rotation};
use fanal_storage::catalogue::{Site, SiteDirectory};
use fanal_storage::log::{Batch, Log, LogConfig, LogKind, Partition, Topic};
use object_store::local::LocalFileSystem;

use super::*;
use crate::import::{HeadHash, ImportTarget, Position};
use crate::key::AddressKey;

const AT_MS: u64 = 1_700_000_040_000;
const GOOD: &str = "eventType=conversion&goalId=1&nonce=A1B2C3D4E5F60718&visitorCode=visitor-1";
const BAD: &str = "eventType=conversion&nonce=A1B2C3D4E5F60719&visitorCode=visitor-1";

/// A log, its archive, and the dead letters in it.
struct World {
    dir: tempfile::TempDir,
    log: Log,
    sites: Vec<&'static str>,
    fails: AtomicBool,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("log"), LogConfig::default()).unwrap();
        Self { dir, log, sites: vec!["shop"], fails: AtomicBool::new(false) }
    }

    /// Appends dead letters, counted as the collector counts them, and archives them.
    async fn letters(&self, letters: &[DeadLetter<'_>]) {
        let mut batch = Batch::new();
        for letter in letters {
            batch.push(Topic::Dead, letter.site_code.as_bytes(), |out| letter.encode(out)).unwrap();
            batch.receipt(letter.received_at_ms, letter.site_code, 1, 0, 1);
        }
        self.log.appender().append(batch).await.unwrap();
        self.archive().await;
    }

    async fn archive(&self) {
        self.log.appender().seal().await.unwrap();
        let archive = Archive::local(&self.archive_dir()).unwrap();
        let (kind, partition) = (LogKind::Embedded, Partition::EMBEDDED);
        let mut writer =
            ArchiveWriter::resume(archive, Rotation::default(), kind, partition, 0).await.unwrap();
        let mut reader = self.log.reader(writer.next_offset()).unwrap();
        while let Some(chunk) = reader.try_next(1 << 20).unwrap() {
            writer.write(&chunk).await.unwrap();
        }
    }

    fn archive_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("archive")
    }

    fn store(&self) -> DeadLetterStore {
        DeadLetterStore::new(Arc::new(LocalFileSystem::new_with_prefix(self.archive_dir()).unwrap()))
    }

    fn options(&self) -> ReplayOptions {
        let sites = self.sites.iter().map(|site| Site::new(SiteCode::parse(site).unwrap()));
        let key = AddressKey::load_or_create(&self.dir.path().join("key")).unwrap();
        ReplayOptions { sites: SiteDirectory::of(sites), key, limits: Limits::default() }
    }

    async fn replay(&self, filter: &LetterFilter) -> Result<ReplayReport, ReplayError> {
        Replayer::new(self.store(), self, AT_MS).replay(filter, u64::MAX, self.options(), |_| {}).await
    }

    async fn drop_letters(&self, filter: &LetterFilter, limit: u64) -> ReplayReport {
        self.store().drop_letters(filter, limit, AT_MS, |_| {}).await.unwrap()
    }

    /// Reasons and ids of the letters that are left, newest first.
    async fn listed(&self) -> Vec<(String, String)> {
        let listed = self.store().list(&LetterFilter::default(), 1000).await.unwrap();
        listed.letters.into_iter().map(|letter| (letter.reason, letter.id)).collect()
    }

    /// Encoded beacons of the log, and received, accepted, rejected of all receipts.
    fn contents(&self) -> (Vec<Vec<u8>>, [u64; 3], usize) {
        let (mut beacons, mut sums, mut dead) = (Vec::new(), [0; 3], 0);
        let mut reader = self.log.reader(0).unwrap();
        while let Some(chunk) = reader.try_next(1 << 20).unwrap() {
            for record in chunk.records() {
                match record.topic {
                    Topic::Beacons => beacons.push(record.value.to_vec()),
                    Topic::Dead => dead += 1,
                    Topic::Receipts => {
                        let receipt = Receipt::decode(record.value).unwrap();
                        for (sum, add) in
                            sums.iter_mut().zip([receipt.received, receipt.accepted, receipt.rejected])
                        {
                            *sum += add;
                        }
                    }
                    _ => {}
                }
            }
        }
        (beacons, sums, dead)
    }
}

impl ImportTarget for &World {
    async fn lookup(&self, _head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        Ok(Vec::new())
    }

    async fn append(&self, batch: Batch) -> Result<(), ImportError> {
        self.log.appender().append(batch).await?;
        // As a kill behind the append: nobody hears that it was done.
        if self.fails.load(Ordering::SeqCst) { Err(ImportError::Concurrent) } else { Ok(()) }
    }

    async fn seal(&self) -> Result<(), ImportError> {
        Ok(self.log.appender().seal().await.map(drop)?)
    }
}

fn letter<'a>(source: Source, reason: RejectReason, bytes: &'a [u8]) -> DeadLetter<'a> {
    let site_code = if reason == RejectReason::UnknownSite { "new" } else { "shop" };
    let reason = reason.name();
    DeadLetter { received_at_ms: AT_MS, site_code, reason, rules_version: 1, source, node: "n", bytes }
}

fn log_line(site: &str, body: &str) -> String {
    format!(
        "1700000001.500\t10.1.2.3\tPOST\t/visit/events?siteCode={site}\t204\tagent\t-\tkameleoonVisitorCode=cookie-1\t{body}"
    )
}

fn all() -> LetterFilter {
    LetterFilter::default()
}

#[tokio::test]
async fn a_log_line_of_a_site_that_was_created_since_becomes_what_an_import_makes_of_it() {
    let mut world = World::new();
    let line = log_line("new", GOOD);
    world.letters(&[letter(Source::NginxLog, RejectReason::UnknownSite, line.as_bytes())]).await;
    let report = world.replay(&all()).await.unwrap();
    assert_eq!(report.still_rejected, [("unknown_site".to_owned(), 1)].into());
    assert_eq!(world.listed().await.len(), 1);

    world.sites.push("new");
    let report = world.replay(&all()).await.unwrap();
    assert_eq!((report.letters, report.handled, report.accepted), (1, 1, 1));
    let (beacons, sums, _) = world.contents();
    let beacon = Beacon::decode(&beacons[0]).unwrap();
    assert_eq!(
        (beacon.received_at_ms, beacon.site_code, beacon.visitor_code),
        (1_700_000_001_500, "new", "visitor-1")
    );
    assert_eq!((beacon.client_address, beacon.user_agent), ("10.1.2.0", &b"agent"[..]));
    assert_eq!((beacon.line, beacon.node), (GOOD.as_bytes(), "n"));
    assert_eq!(sums, [2, 1, 1], "it counts once more, in its own minute");
    world.archive().await;
    assert_eq!(world.listed().await, []);
    assert_eq!(world.replay(&all()).await.unwrap(), ReplayReport::default());
}

#[tokio::test]
async fn what_fails_again_is_counted_and_stays_and_nothing_is_written_for_it() {
    let world = World::new();
    let malformed = b"no\tcolumns";
    world
        .letters(&[
            letter(Source::Http, RejectReason::MissingParameter, BAD.as_bytes()),
            letter(Source::NginxLog, RejectReason::MissingParameter, BAD.as_bytes()),
            letter(Source::NginxLog, RejectReason::MalformedLogLine, malformed),
            letter(Source::Http, RejectReason::Unaccounted, b""),
        ])
        .await;
    let before = world.log.end_offset();
    for _ in 0..2 {
        let report = world.replay(&all()).await.unwrap();
        assert_eq!((report.letters, report.handled), (4, 0));
        let reasons: Vec<_> = report.still_rejected.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(reasons[..2], [("line_too_long", 1), ("malformed_log_line", 1)]);
        assert_eq!(reasons[2], ("missing_parameter", 2));
    }
    assert_eq!(world.log.end_offset(), before, "a replay fed itself");
    assert_eq!(world.listed().await.len(), 4);
}

#[tokio::test]
async fn a_replay_that_is_cut_off_before_its_marks_appends_the_same_records_again() {
    let world = World::new();
    // As a limit that was raised since.
    let letters = [letter(Source::Http, RejectReason::LineTooLong, GOOD.as_bytes()); 2];
    world.letters(&letters).await;
    world.fails.store(true, Ordering::SeqCst);
    world.replay(&all()).await.unwrap_err();
    assert_eq!(world.listed().await.len(), 2, "marked before it was known to be durable");
    world.fails.store(false, Ordering::SeqCst);
    assert_eq!(world.replay(&all()).await.unwrap().accepted, 2);
    let (beacons, sums, _) = world.contents();
    assert_eq!(beacons.len(), 4);
    assert_eq!(beacons[..2], beacons[2..], "deduplication would not know them as the same");
    // Equal lines of one request were two events and stay two.
    assert_ne!(beacons[0], beacons[1]);
    assert_eq!(sums, [6, 4, 2]);
    assert_eq!(world.listed().await, []);
}

#[tokio::test]
async fn the_rest_of_a_log_line_that_is_partly_accepted_is_a_dead_letter_of_its_own() {
    let mut world = World::new();
    world.sites.push("new");
    let line = log_line("new", &format!("{GOOD}\\x0A{BAD}"));
    world.letters(&[letter(Source::NginxLog, RejectReason::UnknownSite, line.as_bytes())]).await;
    let report = world.replay(&all()).await.unwrap();
    assert_eq!((report.handled, report.accepted, report.rejected_lines), (1, 1, 1));
    world.archive().await;
    let listed = world.listed().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].0, "missing_parameter");
    // That one fails again, and is not written again.
    assert_eq!(world.replay(&all()).await.unwrap().handled, 0);
    let (_, sums, dead) = world.contents();
    assert_eq!((sums, dead), ([3, 1, 2], 2));
}

#[tokio::test]
async fn a_record_of_another_program_is_read_as_a_beacon_if_it_is_one() {
    let world = World::new();
    let mut value = Vec::new();
    let beacon = Beacon {
        received_at_ms: AT_MS - 5,
        site_code: "shop",
        visitor_code: "visitor-1",
        client_address: "10.1.2.3",
        line: GOOD.as_bytes(),
        line_number: 3,
        ..Beacon::default()
    };
    beacon.encode(&mut value);
    world
        .letters(&[
            letter(Source::Unspecified, RejectReason::UnreadableRecord, &value),
            letter(Source::Unspecified, RejectReason::UnreadableRecord, b"\xff\xff no message"),
            letter(Source::Unspecified, RejectReason::UnreadableRecord, b""),
        ])
        .await;
    let report = world.replay(&all()).await.unwrap();
    assert_eq!((report.handled, report.accepted), (1, 1));
    assert_eq!(report.still_rejected, [("unreadable_record".to_owned(), 2)].into());
    let (beacons, ..) = world.contents();
    let reduced = Beacon { client_address: "10.1.2.0", ..beacon };
    assert_eq!(Beacon::decode(&beacons[0]).unwrap(), reduced);
}

#[tokio::test]
async fn a_record_of_an_unknown_version_stays_although_it_passes_for_a_beacon() {
    let world = World::new();
    let mut value = Vec::new();
    Beacon {
        received_at_ms: AT_MS,
        site_code: "shop",
        visitor_code: "visitor-1",
        line: GOOD.as_bytes(),
        ..Beacon::default()
    }
    .encode(&mut value);
    world.letters(&[letter(Source::Unspecified, RejectReason::UnknownVersion, &value)]).await;
    let report = world.replay(&all()).await.unwrap();
    assert_eq!((report.handled, report.accepted), (0, 0));
    assert_eq!(report.still_rejected, [("unknown_version".to_owned(), 1)].into());
    assert!(world.contents().0.is_empty());
    assert_eq!(world.listed().await.len(), 1);
}

#[tokio::test]
async fn the_line_of_a_get_keeps_what_its_query_says() {
    let world = World::new();
    let query = format!("siteCode=shop&sdkName=PYTHON&sdkVersion=3.1&{GOOD}");
    world.letters(&[letter(Source::Http, RejectReason::LineTooLong, query.as_bytes())]).await;
    assert_eq!(world.replay(&all()).await.unwrap().accepted, 1);
    let (beacons, ..) = world.contents();
    let beacon = Beacon::decode(&beacons[0]).unwrap();
    assert_eq!((beacon.sdk_name, beacon.sdk_version, beacon.line), ("PYTHON", "3.1", query.as_bytes()));
}

#[tokio::test]
async fn an_event_log_is_target_enough() {
    let world = World::new();
    world.letters(&[letter(Source::Http, RejectReason::LineTooLong, GOOD.as_bytes())]).await;
    let target = LogTarget::new(world.log.appender());
    let replayer = Replayer::new(world.store(), target, AT_MS);
    let report = replayer.replay(&all(), u64::MAX, world.options(), |_| {}).await.unwrap();
    assert_eq!((report.accepted, world.contents().0.len()), (1, 1));
}

#[tokio::test]
async fn only_letters_that_are_meant_are_listed_and_dropped() {
    let world = World::new();
    for file in 0..3_u64 {
        let at = |reason, minutes: u64| DeadLetter {
            received_at_ms: AT_MS + (10 * file + minutes) * 60_000,
            ..letter(Source::Http, reason, BAD.as_bytes())
        };
        let letters = [
            at(RejectReason::MissingParameter, 0),
            at(RejectReason::Binary, 1),
            at(RejectReason::UnknownSite, 2),
        ];
        world.letters(&letters).await;
    }
    let store = world.store();
    let count = async |filter: LetterFilter| store.list(&filter, 100).await.unwrap().letters.len();
    assert_eq!(count(all()).await, 9);
    assert_eq!(count(LetterFilter { site: Some("new".to_owned()), ..all() }).await, 3);
    assert_eq!(count(LetterFilter { reason: Some(RejectReason::Binary), ..all() }).await, 3);
    let span = (AT_MS + 60_000, AT_MS + 11 * 60_000);
    assert_eq!(count(LetterFilter { received_ms: Some(span), ..all() }).await, 3);

    let newest = store.list(&all(), 4).await.unwrap();
    let times: Vec<u64> =
        newest.letters.iter().map(|letter| (letter.received_at_ms - AT_MS) / 60_000).collect();
    assert_eq!((times, newest.is_cut), (vec![22, 21, 20, 12], true));
    let id: LetterId = newest.letters[1].id.parse().unwrap();
    let one = LetterFilter { ids: BTreeSet::from([id]), ..all() };
    assert_eq!(count(one.clone()).await, 1);

    assert_eq!(world.drop_letters(&one, u64::MAX).await.handled, 1);
    assert_eq!(world.drop_letters(&one, u64::MAX).await.handled, 0, "dropped twice");
    let binary = LetterFilter { reason: Some(RejectReason::Binary), ..all() };
    assert_eq!(world.drop_letters(&binary, 1).await.handled, 1);
    assert_eq!(count(binary.clone()).await, 1);
    assert_eq!(world.drop_letters(&binary, u64::MAX).await.handled, 1);
    assert_eq!(count(all()).await, 6, "others were dropped as well");
    assert_eq!(world.drop_letters(&all(), u64::MAX).await.handled, 6);
    assert_eq!(world.listed().await, []);
    assert_eq!(marks(&world.archive_dir()), 4);
}

/// Objects that say what was handled.
fn marks(archive: &Path) -> usize {
    std::fs::read_dir(archive.join("handled/v1")).unwrap().count()
}

#[test]
fn an_id_reads_back_and_others_are_refused() {
    for text in ["0:1234", "dead-2:7"] {
        assert_eq!(text.parse::<LetterId>().unwrap().to_string(), text);
    }
    for text in ["", "5", "0:", "0:x", "nowhere:5", "0:-1"] {
        assert!(text.parse::<LetterId>().is_err(), "{text}");
    }
}
