//! Writing: whole, once, the same bytes on every store.

use fanal_storage::archive::ArchiveError;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::fixture::{Place, fill, on_both, partition, records, resume, rows};

#[tokio::test]
async fn files_are_the_same_bytes_on_hdfs_as_in_a_local_folder() {
    let (local, hdfs) = (Place::local(), Place::hdfs());
    let files = fill(&local.archive(), 0, 7).await;
    assert_eq!(fill(&hdfs.archive(), 0, 7).await, files);
    assert_eq!(files.len(), 7);
    let contents = local.contents().await;
    assert_eq!(contents.len(), 9, "seven files of beacons, two of dead letters");
    assert_eq!(hdfs.contents().await, contents);
    assert_eq!(hdfs.archive().list(partition()).await.unwrap(), files);
    assert_eq!(hdfs.archive().partitions().await.unwrap(), [partition()]);
    let read = rows(&hdfs.archive()).await;
    assert_eq!(read, rows(&local.archive()).await);
    assert_eq!(read.len(), 7 * 2 + 2 + 7 * 2);
}

on_both!(
    two_writers_of_one_range_leave_one_file,
    two_writers_of_one_range_leave_one_file_on_hdfs,
    two_writers
);

async fn two_writers(place: fn() -> Place) {
    let (place, alone) = (place(), Place::local());
    let archive = place.archive();
    // Both begin at the same border: neither knows of the other.
    let (mut first, mut second) = (resume(&archive).await, resume(&archive).await);
    let records = records(0, 5);
    let (one, two) = tokio::join!(first.write(&records), second.write(&records));
    assert_eq!(one.unwrap(), two.unwrap());
    fill(&alone.archive(), 0, 5).await;
    assert_eq!(place.contents().await, alone.contents().await);
}

on_both!(
    a_name_with_other_contents_is_an_error_once,
    a_name_with_other_contents_is_an_error_once_on_hdfs,
    conflict
);

async fn conflict(place: fn() -> Place) {
    let place = place();
    let archive = place.archive();
    let mut writer = resume(&archive).await;
    let elsewhere = Place::local();
    let expected = fill(&elsewhere.archive(), 1, 3).await;
    let (other, dead) = (Path::from(expected[1].path()), Path::from(expected[0].dead_path()));
    // Dead letters without their beacons are of a writer that got no further: replaced.
    place.store.put(&dead, vec![1, 2, 3].into()).await.unwrap();
    place.store.put(&other, vec![1, 2, 3].into()).await.unwrap();
    let error = writer.write(&records(1, 3)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Conflict { there: 3, .. }), "{error}");
    assert_eq!(archive.list(partition()).await.unwrap()[0], expected[0]);
    assert_eq!(resume(&archive).await.next_offset(), expected[1].last_offset + 1);
    let letters = |file| async move { archive.open_dead(file).await.unwrap().unwrap().row_count() };
    assert_eq!(letters(&expected[0]).await, 1);
}

on_both!(a_put_keeps_its_promises, a_put_keeps_its_promises_on_hdfs, promises);

async fn promises(place: fn() -> Place) {
    let store = place().store;
    let path = Path::from("a/b");
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    // Over several blocks, in uneven pieces.
    let bytes: Vec<u8> = (0..2_500_000_u32).map(|number| (number % 251) as u8).collect();
    store.put_opts(&path, bytes.clone().into(), create()).await.unwrap();
    let again = store.put_opts(&path, vec![1].into(), create()).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
    let part = store.get_range(&path, 1_048_000..1_049_000).await.unwrap();
    assert_eq!(part, &bytes[1_048_000..1_049_000]);
    assert_eq!(store.head(&path).await.unwrap().size, bytes.len() as u64);
    store.put(&path, vec![7].into()).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), vec![7]);
    let listed = store.list_with_delimiter(None).await.unwrap();
    assert!(listed.common_prefixes.contains(&Path::from("a")), "{listed:?}");
    store.delete(&path).await.unwrap();
    for missing in [store.head(&path).await.unwrap_err(), store.get(&path).await.unwrap_err()] {
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    }
    assert!(store.list_with_delimiter(Some(&Path::from("nowhere"))).await.unwrap().objects.is_empty());
}
