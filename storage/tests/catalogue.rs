//! The catalogue on real files: restarts, two processes' handles, broken files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

use std::path::Path;
use std::time::Duration;

use fanal_model::{AddressPolicy, SiteCode};
use fanal_storage::catalogue::{Catalogue, CatalogueError, Change, Site, VisitorCookie};

const NOW_MS: u64 = 1_700_000_000_123;

fn code(text: &str) -> SiteCode {
    SiteCode::parse(text).unwrap()
}

async fn open(folder: &Path) -> Catalogue {
    Catalogue::open(&folder.join("catalogue.sqlite")).await.unwrap()
}

async fn with_site(folder: &Path) -> Catalogue {
    let catalogue = open(folder).await;
    catalogue.put_site(&Site::new(code("shop"))).await.unwrap();
    catalogue
}

#[tokio::test]
async fn a_site_survives_a_restart_as_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = open(folder.path()).await;
    let mut site = Site {
        name: "Shop, été".to_owned(),
        address_policy: AddressPolicy::Hash,
        session_timeout_ms: 60_000,
        visitor_cookie: Some(VisitorCookie { domain: Some("shop.test".to_owned()) }),
        heartbeat_extends: true,
        time_zone: "Europe/Paris".to_owned(),
        ..Site::new(code("shop"))
    };
    assert_eq!(catalogue.put_site(&site).await.unwrap(), Change::Created);
    site.visitor_cookie = Some(VisitorCookie { domain: None });
    assert_eq!(catalogue.put_site(&site).await.unwrap(), Change::Changed);
    catalogue.close().await;

    let sites = open(folder.path()).await.sites();
    assert_eq!(*sites.get("shop").unwrap(), site);
    assert!(sites.get("other").is_none());
    assert_eq!(sites.all().len(), 1);
}

#[tokio::test]
async fn a_publication_is_served_byte_for_byte_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = with_site(folder.path()).await;
    let document = b"{ \"a\" :1.0,\n\t\"b\":\"\\u00e9\"}\n";
    let published = catalogue.publish(&code("shop"), None, document, "admin", NOW_MS).await.unwrap();
    assert_eq!(published.last_modified_s, NOW_MS / 1000);
    drop(catalogue);
    let served = open(folder.path()).await.configurations().get("shop", None).unwrap();
    assert_eq!(&served.document[..], document);
    assert_eq!(served.published_at_ms, NOW_MS);
}

#[tokio::test]
async fn publications_within_one_second_have_increasing_times_over_all_environments() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = with_site(folder.path()).await;
    let shop = code("shop");
    let mut last = 0;
    // The clock may even go back.
    for (n, environment) in [None, Some("staging"), None, Some("staging"), None].into_iter().enumerate() {
        let now_ms = NOW_MS - 5_000 * n as u64;
        let published = catalogue.publish(&shop, environment, b"{}", "admin", now_ms).await.unwrap();
        assert!(published.last_modified_s > last);
        last = published.last_modified_s;
    }
    assert_eq!(last, NOW_MS / 1000 + 4);
}

#[tokio::test]
async fn an_environment_without_a_configuration_of_its_own_gets_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = with_site(folder.path()).await;
    let shop = code("shop");
    let served = |environment| {
        catalogue.configurations().get("shop", environment).map(|served| served.document.clone())
    };
    catalogue.publish(&shop, Some("staging"), b"staging", "admin", NOW_MS).await.unwrap();
    assert_eq!(served(None), None);
    catalogue.publish(&shop, None, b"default", "admin", NOW_MS).await.unwrap();
    assert_eq!(served(Some("staging")).unwrap(), "staging");
    assert_eq!(served(Some("preview")).unwrap(), "default");
    assert_eq!(served(None).unwrap(), "default");
}

#[tokio::test]
async fn another_handle_on_the_file_sees_changes_within_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let writer = open(folder.path()).await;
    let reader = open(folder.path()).await;
    let following = tokio::spawn({
        let reader = reader.clone();
        async move { reader.follow(std::future::pending()).await }
    });
    let mut publications = reader.publications();
    writer.put_site(&Site::new(code("shop"))).await.unwrap();
    writer.publish(&code("shop"), Some("e"), b"{}", "admin", NOW_MS).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(5), publications.recv()).await.unwrap().unwrap();
    assert_eq!((heard.site.as_str(), heard.environment.as_deref()), ("shop", Some("e")));
    assert!(reader.configurations().get("shop", Some("e")).is_some(), "told before it was served");
    assert!(reader.sites().contains("shop"));
    following.abort();
}

#[tokio::test]
async fn two_writers_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (with_site(folder.path()).await, open(folder.path()).await);
    let publish = |catalogue: Catalogue| async move {
        for _ in 0..20 {
            catalogue.publish(&code("shop"), None, b"{}", "admin", NOW_MS).await.unwrap();
        }
    };
    tokio::join!(publish(one.clone()), publish(two));
    one.refresh().await.unwrap();
    let served = one.configurations().get("shop", None).unwrap();
    assert_eq!(served.last_modified_s, NOW_MS / 1000 + 39);
}

#[tokio::test]
async fn only_the_right_secret_of_the_right_site_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = with_site(folder.path()).await;
    catalogue.put_site(&Site::new(code("other"))).await.unwrap();
    catalogue.create_client(&code("shop"), "client-id", "client-secret", NOW_MS).await.unwrap();
    let error = catalogue.create_client(&code("shop"), "client-id", "x", NOW_MS).await.unwrap_err();
    assert!(matches!(error, CatalogueError::ClientExists { .. }), "{error}");
    for (site, client, secret, expected) in [
        (Some("shop"), "client-id", "client-secret", Some("shop")),
        (None, "client-id", "client-secret", Some("shop")),
        (Some("other"), "client-id", "client-secret", None),
        (Some("shop"), "client-id", "client-secreT", None),
        (Some("shop"), "client-id", "", None),
        (Some("shop"), "nobody", "client-secret", None),
    ] {
        let found = catalogue.verify_client(site, client, secret).await.unwrap();
        assert_eq!(found.as_ref().map(SiteCode::as_str), expected, "{site:?} {client} {secret}");
    }
    let file = std::fs::read(folder.path().join("catalogue.sqlite-wal")).unwrap();
    assert!(!file.windows(13).any(|bytes| bytes == b"client-secret"), "the secret itself was stored");
}

#[tokio::test]
async fn what_is_done_to_an_unknown_site_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = open(folder.path()).await;
    let error = catalogue.publish(&code("nope"), None, b"{}", "admin", NOW_MS).await.unwrap_err();
    assert!(error.to_string().contains("PUT /api/v1/sites/nope"), "{error}");
    let error = catalogue.create_client(&code("nope"), "c", "s", NOW_MS).await.unwrap_err();
    assert!(matches!(error, CatalogueError::UnknownSite(_)));
}

#[tokio::test]
async fn a_file_that_is_no_catalogue_or_is_damaged_or_too_new_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.sqlite");
    std::fs::write(
        &path,
        "this is a text file, not a database, and long enough to be seen as one".repeat(20),
    )
    .unwrap();
    let error = Catalogue::open(&path).await.unwrap_err();
    assert!(matches!(error, CatalogueError::NotOurs(_)), "{error}");
    std::fs::remove_file(&path).unwrap();

    with_site(folder.path()).await.close().await;
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
    let folder = tempfile::tempdir().unwrap();
    let catalogue = with_site(folder.path()).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("catalogue.sqlite"));
    let mut other = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = catalogue.publish(&code("shop"), None, b"{}", "admin", NOW_MS).await.unwrap_err();
    assert!(matches!(error, CatalogueError::Locked(_)), "{error}");
    assert!(catalogue.configurations().get("shop", None).is_none());
    lock.rollback().await.unwrap();
    catalogue.publish(&code("shop"), None, b"{}", "admin", NOW_MS).await.unwrap();
}

#[tokio::test]
async fn a_refused_change_leaves_the_site_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = with_site(folder.path()).await;
    let change = |site: &mut Site| {
        site.name = "changed".to_owned();
        Err::<(), _>("refused")
    };
    assert_eq!(catalogue.change_site(&code("shop"), change).await.unwrap(), Err("refused"));
    assert_eq!(catalogue.change_site(&code("new"), change).await.unwrap(), Err("refused"));
    assert_eq!(catalogue.sites().get("shop").unwrap().name, "shop");
    assert!(!catalogue.sites().contains("new"));
}
