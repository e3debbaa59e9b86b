//! Broken and locked files.

use std::path::Path;

use fanal_storage::catalogue::{Catalogue, CatalogueError};

use super::place::{NOW_MS, TestPlace, code};

#[tokio::test]
async fn a_file_that_is_no_catalogue_or_is_damaged_or_too_new_is_refused_with_a_remedy() {
    let place = TestPlace::file();
    let path = place.path();
    std::fs::write(
        &path,
        "this is a text file, not a database, and long enough to be seen as one".repeat(20),
    )
    .unwrap();
    let error = Catalogue::open(&path).await.unwrap_err();
    assert!(matches!(error, CatalogueError::NotOurs(_)), "{error}");
    std::fs::remove_file(&path).unwrap();

    place.with_site().await.close().await;
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    for byte in &mut damaged[4096..] {
        *byte = 0x5a;
    }
    std::fs::write(&path, damaged).unwrap();
    let error = Catalogue::open(&path).await.unwrap_err();
    assert!(matches!(error, CatalogueError::Damaged(_)), "{error}");

    let mut newer = whole;
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&path, newer).unwrap();
    let error = Catalogue::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("upgrade this program"), "{error}");

    let error = Catalogue::open(Path::new("/nowhere/at/all/catalogue.sqlite")).await.unwrap_err();
    assert!(matches!(error, CatalogueError::CannotOpen(_)), "{error}");
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_said_to_be_and_works_afterwards() {
    use sqlx::Connection;
    let place = TestPlace::file();
    let catalogue = place.with_site().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path());
    let mut other = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = catalogue.publish(&code("shop"), None, b"{}", "admin", NOW_MS).await.unwrap_err();
    assert!(matches!(error, CatalogueError::Locked(_)), "{error}");
    assert!(catalogue.configurations().get("shop", None).is_none());
    lock.rollback().await.unwrap();
    catalogue.publish(&code("shop"), None, b"{}", "admin", NOW_MS).await.unwrap();
}
