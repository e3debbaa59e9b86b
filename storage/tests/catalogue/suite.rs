//! What holds for a catalogue wherever it lies: each test runs on a SQLite file and on
//! a database of a real MariaDB server.

use std::time::Duration;

use fanal_model::{AddressPolicy, SiteCode};
use fanal_storage::catalogue::{Catalogue, CatalogueError, Change, Site, VisitorCookie};

use super::place::{NOW_MS, TestPlace, code};

macro_rules! on_both {
    ($($name:ident)*) => {
        mod file {
            $(#[tokio::test] async fn $name() { super::$name(&super::TestPlace::file()).await; })*
        }
        mod server {
            $(#[tokio::test] async fn $name() {
                let place = super::TestPlace::database().await;
                super::$name(&place).await;
                place.clean().await;
            })*
        }
    };
}

on_both! {
    a_site_survives_a_restart_as_it_was_given
    a_publication_is_served_byte_for_byte_and_survives_a_restart
    publications_within_one_second_have_increasing_times_over_all_environments
    an_environment_without_a_configuration_of_its_own_gets_the_default
    another_handle_sees_changes_within_two_seconds
    two_writers_at_once_lose_nothing
    only_the_right_secret_of_the_right_site_is_accepted
    what_is_done_to_an_unknown_site_is_refused_by_name
    a_refused_change_leaves_the_site_as_it_was
}

async fn a_site_survives_a_restart_as_it_was_given(place: &TestPlace) {
    let catalogue = place.open().await;
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

    let sites = place.open().await.sites();
    assert_eq!(*sites.get("shop").unwrap(), site);
    assert!(sites.get("other").is_none());
    assert_eq!(sites.all().len(), 1);
}

async fn a_publication_is_served_byte_for_byte_and_survives_a_restart(place: &TestPlace) {
    let catalogue = place.with_site().await;
    let document = b"{ \"a\" :1.0,\n\t\"b\":\"\\u00e9\"}\n";
    let published = catalogue.publish(&code("shop"), None, document, "admin", NOW_MS).await.unwrap();
    assert_eq!(published.last_modified_s, NOW_MS / 1000);
    drop(catalogue);
    let served = place.open().await.configurations().get("shop", None).unwrap();
    assert_eq!(&served.document[..], document);
    assert_eq!(served.published_at_ms, NOW_MS);
}

async fn publications_within_one_second_have_increasing_times_over_all_environments(place: &TestPlace) {
    let catalogue = place.with_site().await;
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

async fn an_environment_without_a_configuration_of_its_own_gets_the_default(place: &TestPlace) {
    let catalogue = place.with_site().await;
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

async fn another_handle_sees_changes_within_two_seconds(place: &TestPlace) {
    let writer = place.open().await;
    let reader = place.open().await;
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

async fn two_writers_at_once_lose_nothing(place: &TestPlace) {
    let (one, two) = (place.with_site().await, place.open().await);
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

async fn only_the_right_secret_of_the_right_site_is_accepted(place: &TestPlace) {
    let catalogue = place.with_site().await;
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
    assert!(place.holds(b"client-id").await);
    assert!(!place.holds(b"client-secret").await, "the secret itself was stored");
}

async fn what_is_done_to_an_unknown_site_is_refused_by_name(place: &TestPlace) {
    let catalogue = place.open().await;
    let error = catalogue.publish(&code("nope"), None, b"{}", "admin", NOW_MS).await.unwrap_err();
    assert!(error.to_string().contains("PUT /api/v1/sites/nope"), "{error}");
    let error = catalogue.create_client(&code("nope"), "c", "s", NOW_MS).await.unwrap_err();
    assert!(matches!(error, CatalogueError::UnknownSite(_)));
}

async fn a_refused_change_leaves_the_site_as_it_was(place: &TestPlace) {
    let catalogue = place.with_site().await;
    let change = |site: &mut Site| {
        site.name = "changed".to_owned();
        Err::<(), _>("refused")
    };
    assert_eq!(catalogue.change_site(&code("shop"), change).await.unwrap(), Err("refused"));
    assert_eq!(catalogue.change_site(&code("new"), change).await.unwrap(), Err("refused"));
    assert_eq!(catalogue.sites().get("shop").unwrap().name, "shop");
    assert!(!catalogue.sites().contains("new"));
}
