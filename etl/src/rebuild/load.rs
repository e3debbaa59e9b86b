//! One shard of the archive's beacons in memory, sorted by visitor and time.

use std::collections::BTreeSet;

use fanal_model::Beacon;
use fanal_storage::archive::{Archive, ArchiveError, FileInfo, Filter};
use fanal_storage::log::Partition;
use xxhash_rust::xxh3::xxh3_64;

use super::build::Window;

/// Which visitors a pass takes. ClickHouse computes the same with `xxh3`.
pub(super) struct Part<'p> {
    pub(super) shard: u64,
    pub(super) shards: u64,
    pub(super) sites: Option<&'p BTreeSet<String>>,
}

impl Part<'_> {
    fn takes(&self, site_code: &str, visitor_hash: u64) -> bool {
        visitor_hash % self.shards == self.shard && self.sites.is_none_or(|sites| sites.contains(site_code))
    }
}

/// Encoded beacons, and where each lies.
#[derive(Default)]
pub(super) struct Loaded {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    visitor_hash: u64,
    at_ms: u64,
    line_number: u32,
    len: u32,
    start: usize,
    at: RecordPlace,
}

/// Where a record stands in the event log.
pub(super) type RecordPlace = (Partition, u64);

impl Loaded {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Runs of beacons whose visitors share a hash: nearly always one visitor of
    /// one site. Sorted by time and line number.
    pub(super) fn visitors(&self) -> impl Iterator<Item = impl Iterator<Item = (RecordPlace, &[u8])>> {
        self.places.chunk_by(|a, b| a.visitor_hash == b.visitor_hash).map(|run| {
            run.iter().map(|place| (place.at, &self.bytes[place.start..place.start + place.len as usize]))
        })
    }

    fn push(&mut self, visitor_hash: u64, at: RecordPlace, beacon: &Beacon<'_>) {
        let start = self.bytes.len();
        beacon.encode(&mut self.bytes);
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        let (at_ms, line_number) = (beacon.received_at_ms, beacon.line_number);
        self.places.push(Place { visitor_hash, at_ms, line_number, len, start, at });
    }
}

pub(super) async fn load(
    archive: &Archive,
    files: &[&FileInfo],
    part: &Part<'_>,
    window: &Window,
    mut progress: impl FnMut(usize),
) -> Result<Loaded, ArchiveError> {
    let filter = Filter { site_code: None, received_ms: Some((window.read_from_ms, window.read_to_ms)) };
    let mut loaded = Loaded::default();
    for (done, file) in files.iter().enumerate() {
        progress(done);
        let opened = archive.open(file).await?;
        for rows in opened.groups(&filter) {
            let rows = rows?;
            for archived in rows.beacons(&filter) {
                let beacon = &archived.beacon;
                let visitor_hash = xxh3_64(beacon.visitor().as_bytes());
                if part.takes(beacon.site_code, visitor_hash) {
                    loaded.push(visitor_hash, (file.partition, archived.log_offset), beacon);
                }
            }
        }
    }
    progress(files.len());
    loaded
        .places
        .sort_unstable_by_key(|place| (place.visitor_hash, place.at_ms, place.line_number, place.at));
    Ok(loaded)
}
