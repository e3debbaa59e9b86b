//! Compaction, cut off after each of its steps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use fanal_storage::archive::{Archive, Compaction};
use futures_util::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::fixture::{DAY, MINUTE, Place, fill, on_both, partition, rows};

/// The day's end and an hour.
const NOW: u64 = DAY + 25 * 60 * MINUTE;

fn policy() -> Compaction {
    Compaction { target_bytes: 1 << 20, files_min: 2, after_day_ms: 60 * MINUTE }
}

/// A store that lets some changes through and then fails, before a change or, as when
/// an answer is lost, right after it.
#[derive(Debug)]
struct Interrupted {
    store: Arc<dyn ObjectStore>,
    left: Arc<AtomicI64>,
    after: bool,
}

impl Interrupted {
    async fn step<T>(left: &AtomicI64, after: bool, change: impl Future<Output = Result<T>>) -> Result<T> {
        let cut = || Error::Generic { store: "cut", source: "cut off here".into() };
        let remaining = left.fetch_sub(1, Ordering::SeqCst);
        if remaining < 0 || (remaining == 0 && !after) {
            return Err(cut());
        }
        let done = change.await;
        if remaining == 0 { Err(cut()) } else { done }
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupted({})", self.store)
    }
}

#[async_trait]
impl ObjectStore for Interrupted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        Self::step(&self.left, self.after, self.store.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (store, left, after) = (Arc::clone(&self.store), Arc::clone(&self.left), self.after);
        locations
            .then(move |location| {
                let (store, left) = (Arc::clone(&store), Arc::clone(&left));
                async move {
                    let one = futures_util::stream::iter([location]).boxed();
                    let mut deleted = store.delete_stream(one);
                    let deleted = async { deleted.next().await.unwrap() };
                    Self::step(&left, after, deleted).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

async fn compact(archive: &Archive) -> Result<usize, fanal_storage::archive::ArchiveError> {
    let compacted = archive.compact(partition(), &policy(), NOW, u64::MAX, || true).await?;
    Ok(compacted.merged.len())
}

on_both!(
    a_day_of_small_files_becomes_one_with_the_same_rows,
    a_day_of_small_files_becomes_one_with_the_same_rows_on_hdfs,
    one_file
);

async fn one_file(place: fn() -> Place) {
    let place = place();
    let archive = place.archive();
    let parts = fill(&archive, 1, 10).await;
    let before = rows(&archive).await;
    let compacted = archive.compact(partition(), &policy(), NOW, u64::MAX, || true).await.unwrap();
    assert_eq!((compacted.merged.len(), compacted.removed), (1, 9));
    let files = archive.list(partition()).await.unwrap();
    assert_eq!(files, compacted.merged);
    assert_eq!((files[0].first_offset, files[0].last_offset), (parts[0].first_offset, parts[8].last_offset));
    assert_eq!(files[0].min_received_ms, parts[0].min_received_ms);
    assert_eq!(files[0].max_received_ms, parts[8].max_received_ms);
    assert!(files[0].replaced_starts().contains(&parts[1].first_offset));
    assert!(!files[0].replaced_starts().contains(&parts[0].first_offset));
    assert_eq!(rows(&archive).await, before);
    assert_eq!(place.contents().await.len(), 2, "one file of beacons, one of dead letters");
    // The archive goes on behind it, and a finished day is merged once.
    fill(&archive, 10, 12).await;
    assert_eq!(
        archive
            .compact(partition(), &policy(), NOW - MINUTE * 60 - 1, u64::MAX, || true)
            .await
            .unwrap()
            .merged,
        []
    );
    assert_eq!(archive.list(partition()).await.unwrap().len(), 3);
    assert_eq!(archive.compact(partition(), &policy(), NOW, u64::MAX, || false).await.unwrap().merged, []);
    let late = archive.compact(partition(), &policy(), NOW, parts[8].last_offset + 2, || true).await.unwrap();
    assert_eq!(late.merged, [], "only one file ends before this offset");
}

#[tokio::test]
async fn a_compaction_cut_off_at_any_step_is_finished_by_the_next() {
    cut_off_at_any_step(Place::local, 8).await;
}

#[tokio::test]
async fn a_compaction_cut_off_at_any_step_is_finished_by_the_next_on_hdfs() {
    cut_off_at_any_step(Place::hdfs, 3).await;
}

async fn cut_off_at_any_step(place: fn() -> Place, minutes: u64) {
    let whole = Place::local();
    fill(&whole.archive(), 1, 1 + minutes).await;
    let wanted_rows = rows(&whole.archive()).await;
    assert_eq!(compact(&whole.archive()).await.unwrap(), 1);
    let wanted = whole.contents().await;
    let mut cuts = 0;
    for after in [false, true] {
        for steps in 0.. {
            let place = place();
            fill(&place.archive(), 1, 1 + minutes).await;
            let left = Arc::new(AtomicI64::new(steps));
            let store = Interrupted { store: Arc::clone(&place.store), left, after };
            let is_done = compact(&Archive::on(Arc::new(store))).await.is_ok();
            assert_eq!(rows(&place.archive()).await, wanted_rows, "cut off after {steps} changes");
            if is_done {
                break;
            }
            cuts += 1;
            compact(&place.archive()).await.unwrap();
            assert_eq!(place.contents().await, wanted, "cut off after {steps} changes");
            assert_eq!(rows(&place.archive()).await, wanted_rows);
        }
    }
    // Two puts, and two removals of each small file, with and without the answer.
    assert_eq!(cuts, 2 * (2 + 2 * minutes));
}

on_both!(
    a_reader_of_an_old_listing_is_told_to_list_again,
    a_reader_of_an_old_listing_is_told_to_list_again_on_hdfs,
    old_listing
);

async fn old_listing(place: fn() -> Place) {
    let place = place();
    let archive = place.archive();
    let parts = fill(&archive, 0, 3).await;
    assert!(archive.open_dead(&parts[0]).await.unwrap().is_none(), "it has none");
    compact(&archive).await.unwrap();
    for part in &parts {
        assert!(archive.open(part).await.err().unwrap().is_gone());
        assert!(archive.open_dead(part).await.err().unwrap().is_gone());
    }
    // A writer that was thrown out may come back with a part: it does not count.
    let late = Place::local();
    fill(&late.archive(), 0, 3).await;
    let wanted = (place.contents().await, rows(&archive).await);
    for (path, bytes) in late.contents().await {
        place.store.put_opts(&Path::from(path), bytes.into(), PutOptions::default()).await.unwrap();
    }
    assert_eq!(rows(&archive).await, wanted.1);
    compact(&archive).await.unwrap();
    assert_eq!(place.contents().await, wanted.0);
}

#[tokio::test]
async fn a_merged_file_that_is_damaged_removes_nothing() {
    let place = Place::local();
    let archive = place.archive();
    fill(&archive, 0, 4).await;
    let parts = place.contents().await;
    let store = Arc::clone(&place.store);
    // Cut off after the merged file: everything is there twice.
    let left = Arc::new(AtomicI64::new(2));
    compact(&Archive::on(Arc::new(Interrupted { store, left, after: false }))).await.unwrap_err();
    let merged = archive.list(partition()).await.unwrap().remove(0);
    place
        .store
        .put_opts(&Path::from(merged.path()), b"PAR1".to_vec().into(), PutOptions::default())
        .await
        .unwrap();
    let error = compact(&archive).await.unwrap_err().to_string();
    assert!(error.contains(&merged.path()) && error.contains("restore it"), "{error}");
    let left = place.contents().await;
    assert!(parts.iter().all(|part| left.contains(part)));
}
