//! What both stores do, each test on both.

use std::time::Duration;

use crate::support::{Store, ended, gone, limits, link, now_ms, unique, visit};
use fanal_profiles::{Limits, ProfileBatch};

/// Runs each async function below on the embedded store and on Cassandra.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::embedded).await })*
        }
        mod cassandra {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::cassandra).await })*
        }
    };
}

on_both_stores!(
    visits_come_back_newest_first,
    the_newest_version_wins_in_any_order,
    a_removed_visit_stays_removed,
    of_one_version_the_ended_visit_wins_and_the_removal_over_both,
    only_the_last_visits_are_shown,
    a_removed_visit_keeps_its_slot,
    links_are_read_from_both_ends_last_linked_first,
    an_older_link_changes_nothing,
    an_erased_visitor_stays_erased,
    a_newer_visit_begins_a_new_profile_after_an_erasure,
    a_removed_site_leaves_others_alone,
    what_is_older_than_the_retention_is_not_stored,
    visits_and_links_expire,
    any_code_that_an_sdk_sends_is_a_key,
    codes_that_cannot_be_a_key_are_left_out,
    parts_of_a_key_do_not_run_into_each_other,
    an_empty_batch_and_an_unknown_visitor_are_fine,
    a_large_batch_is_written_whole,
);

type Open = fn(Limits) -> Store;

async fn visits_come_back_newest_first(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let visits = [1, 2, 3].map(|i| visit(&site, "v", i, now - 10_000 + i, 10 * i));
    store.write_visits(&[&visits[1], &visits[0], &visits[2]]).await;
    let profile = store.profiles.visitor(&site, "v").await.unwrap().unwrap();
    assert_eq!((profile.site_code.as_str(), profile.visitor_code.as_str()), (site.as_str(), "v"));
    let [first, second, third] = visits;
    assert_eq!(profile.visits, [third, second, first]);
}

async fn the_newest_version_wins_in_any_order(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let versions = [5, 6, 7].map(|version| visit(&site, "v", 1, now, version));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 1], [2, 0, 2]] {
        for i in order {
            store.write_visits(&[&versions[i]]).await;
        }
        assert_eq!(store.visits(&site, "v").await, [versions[2].clone()], "{order:?}");
    }
    store.write_visits(&[&versions[1], &versions[2], &versions[0]]).await;
    assert_eq!(store.visits(&site, "v").await, [versions[2].clone()]);
}

async fn a_removed_visit_stays_removed(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let (old, newer) = (visit(&site, "v", 1, now, 5), visit(&site, "v", 1, now, 9));
    store.write_gone(gone(&old, 7)).await;
    store.write_visits(&[&old]).await;
    assert_eq!(store.visits(&site, "v").await, []);
    store.write_visits(&[&newer]).await;
    store.write_gone(gone(&old, 7)).await;
    assert_eq!(store.visits(&site, "v").await, [newer]);
}

async fn of_one_version_the_ended_visit_wins_and_the_removal_over_both(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let still_open = visit(&site, "v", 1, now, 8);
    let over = ended(still_open.clone());
    store.write_visits(&[&over]).await;
    store.write_visits(&[&still_open]).await;
    assert_eq!(store.visits(&site, "v").await, std::slice::from_ref(&over));
    store.write_gone(gone(&over, 8)).await;
    store.write_visits(&[&over]).await;
    assert_eq!(store.visits(&site, "v").await, []);
}

async fn only_the_last_visits_are_shown(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let visits: Vec<_> = (0..40).map(|i| visit(&site, "v", i, now + i, i)).collect();
    // The newest in the middle, so that older ones come when there is no room.
    for i in (20..40).chain(0..20) {
        store.write_visits(&[&visits[i]]).await;
    }
    let newest: Vec<_> = visits[36..].iter().rev().cloned().collect();
    assert_eq!(store.visits(&site, "v").await, newest);
}

async fn a_removed_visit_keeps_its_slot(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let visits: Vec<_> = (0..5).map(|i| visit(&site, "v", i, now + i, 1)).collect();
    store.write_visits(&visits.iter().collect::<Vec<_>>()).await;
    store.write_gone(gone(&visits[4], 2)).await;
    // The first visit dropped out when the last one came; it does not come back.
    store.write_visits(&[&visits[0]]).await;
    let shown: Vec<_> = visits[1..4].iter().rev().cloned().collect();
    assert_eq!(store.visits(&site, "v").await, shown);
}

async fn links_are_read_from_both_ends_last_linked_first(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let links = [
        link(&site, "user", "a", now),
        link(&site, "user", "b", now + 5),
        link(&site, "other", "a", now + 9),
    ];
    store.write_links(&links).await;
    assert_eq!(store.linked(&site, "user").await, [("b".to_owned(), now + 5), ("a".to_owned(), now)]);
    assert_eq!(store.links_of(&site, "a").await, [("other".to_owned(), now + 9), ("user".to_owned(), now)]);
    assert_eq!(store.linked(&site, "a").await, []);
}

async fn an_older_link_changes_nothing(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    store.write_links(&[link(&site, "user", "a", now), link(&site, "user", "a", now + 7)]).await;
    store.write_links(&[link(&site, "user", "a", now + 3)]).await;
    assert_eq!(store.linked(&site, "user").await, [("a".to_owned(), now + 7)]);
    assert_eq!(store.links_of(&site, "a").await, [("user".to_owned(), now + 7)]);
}

async fn an_erased_visitor_stays_erased(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let (one, other) = (visit(&site, "v", 1, now, 6), visit(&site, "w", 1, now, 6));
    let links = [link(&site, "user", "v", now), link(&site, "user", "w", now)];
    store.write_visits(&[&one, &other]).await;
    store.write_links(&links).await;
    store.profiles.erase(&site, "v", 8, now + 1).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.visits(&site, "v").await, []);
        assert_eq!(store.links_of(&site, "v").await, []);
        assert_eq!(store.linked(&site, "user").await, [("w".to_owned(), now)]);
        assert_eq!(store.visits(&site, "w").await, std::slice::from_ref(&other));
        // A flush that comes twice, and a writer that was away for a while.
        store.write_visits(&[&one, &ended(visit(&site, "v", 2, now + 1, 8))]).await;
        store.write_links(&links).await;
    }
}

async fn a_newer_visit_begins_a_new_profile_after_an_erasure(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    store.write_visits(&[&visit(&site, "v", 1, now, 6)]).await;
    store.profiles.erase(&site, "v", 6, now).await.unwrap();
    let next = visit(&site, "v", 2, now + 1, 7);
    store.write_visits(&[&next]).await;
    store.write_links(&[link(&site, "user", "v", now + 1)]).await;
    assert_eq!(store.visits(&site, "v").await, [next]);
    assert_eq!(store.linked(&site, "user").await, [("v".to_owned(), now + 1)]);
}

async fn a_removed_site_leaves_others_alone(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let kept_site = format!("{site}-2");
    let kept = visit(&kept_site, "v", 1, now, 6);
    let removed: Vec<_> = (0..50).map(|i| visit(&site, &format!("v{i}"), i, now, 6)).collect();
    store.write_visits(&removed.iter().collect::<Vec<_>>()).await;
    store.write_visits(&[&kept]).await;
    store.write_links(&[link(&site, "user", "v1", now), link(&kept_site, "user", "v", now)]).await;
    store.profiles.remove_site(&site).await.unwrap();
    for removed in &removed {
        assert_eq!(store.visits(&site, &removed.visit.visitor_code).await, []);
    }
    assert_eq!((store.linked(&site, "user").await, store.links_of(&site, "v1").await), (vec![], vec![]));
    assert_eq!(store.visits(&kept_site, "v").await, [kept]);
    assert_eq!(store.linked(&kept_site, "user").await, [("v".to_owned(), now)]);
    // A site of that code may begin anew.
    let again = visit(&site, "v1", 9, now + 1, 7);
    store.write_visits(&[&again]).await;
    assert_eq!(store.visits(&site, "v1").await, [again]);
}

async fn what_is_older_than_the_retention_is_not_stored(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let day_ms = 86_400_000;
    let fresh = visit(&site, "v", 2, now - day_ms + 60_000, 6);
    store.write_visits(&[&visit(&site, "v", 1, now - day_ms - 1, 6), &fresh]).await;
    store.write_links(&[link(&site, "user", "v", now - day_ms - 1)]).await;
    assert_eq!(store.visits(&site, "v").await, [fresh]);
    assert_eq!(store.linked(&site, "user").await, []);
}

async fn visits_and_links_expire(open: Open) {
    let (short, site, now) = (Duration::from_secs(3), unique("site"), now_ms());
    let store = open(Limits { retention: short, ..limits() });
    let (first, second) = (visit(&site, "v", 1, now, 6), visit(&site, "v", 2, now + 60_000, 6));
    store.write_visits(&[&first, &second]).await;
    store.write_links(&[link(&site, "user", "v", now), link(&site, "user", "w", now + 60_000)]).await;
    assert_eq!(store.visits(&site, "v").await, [second.clone(), first.clone()]);
    tokio::time::sleep(short + Duration::from_millis(1200)).await;
    // Late enough for the hour of the first ones to be over.
    let later = now + 2 * 3_600_000;
    while !store.profiles.sweep(later).await.unwrap().is_done {}
    store.write_visits(&[&first]).await;
    if let fanal_profiles::Profiles::Cassandra(_) = store.profiles {
        assert_eq!(store.visits(&site, "v").await, [second]);
        assert_eq!(store.linked(&site, "user").await, [("w".to_owned(), now + 60_000)]);
    }
    assert!(!store.visits(&site, "v").await.iter().any(|kept| kept.visit.visit_id == 1));
    assert!(!store.linked(&site, "user").await.iter().any(|(visitor, _)| visitor == "v"));
}

async fn any_code_that_an_sdk_sends_is_a_key(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let long = "🦀".repeat(255);
    for code in ["élève 7", "user@example.com", "a\0b", "'; DROP TABLE visits; --", &long] {
        let stored = visit(&site, code, 1, now, 6);
        store.write_visits(&[&stored]).await;
        store.write_links(&[link(&site, code, code, now)]).await;
        assert_eq!(store.visits(&site, code).await, [stored]);
        assert_eq!(store.linked(&site, code).await, [(code.to_owned(), now)]);
        assert_eq!(store.links_of(&site, code).await, [(code.to_owned(), now)]);
    }
}

async fn codes_that_cannot_be_a_key_are_left_out(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let endless = "x".repeat(100_000);
    let good = visit(&site, "v", 1, now, 6);
    let batch = ProfileBatch {
        visits: vec![visit(&site, &endless, 1, now, 6), good.clone(), visit(&site, "", 1, now, 6)],
        gone: vec![gone(&visit(&site, &endless, 1, now, 6), 7)],
        links: vec![
            link(&site, &endless, "v", now),
            link(&site, "", "v", now),
            link(&site, "user", "v", now),
        ],
    };
    store.profiles.write(&batch).await.unwrap();
    assert_eq!(store.visits(&site, "v").await, [good]);
    assert_eq!(store.links_of(&site, "v").await, [("user".to_owned(), now)]);
    assert_eq!(store.visits(&site, &endless).await, []);
    assert_eq!(store.linked(&site, "").await, []);
    store.profiles.erase(&site, "", 1, now).await.unwrap();
}

async fn parts_of_a_key_do_not_run_into_each_other(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let visits =
        [visit(&site, "ab", 1, now, 6), visit(&site, "abc", 2, now, 6), visit(&site, "a", 3, now, 6)];
    store.write_visits(&visits.iter().collect::<Vec<_>>()).await;
    for one in &visits {
        assert_eq!(store.visits(&site, &one.visit.visitor_code).await, std::slice::from_ref(one));
    }
    assert_eq!(store.visits(&format!("{site}a"), "b").await, []);
}

async fn an_empty_batch_and_an_unknown_visitor_are_fine(open: Open) {
    let (store, site) = (open(limits()), unique("site"));
    store.profiles.write(&ProfileBatch::default()).await.unwrap();
    store.profiles.flush_to_disk().await.unwrap();
    store.profiles.ping().await.unwrap();
    assert!(store.profiles.visitor(&site, "nobody").await.unwrap().is_none());
    assert!(store.profiles.linked(&site, "nobody").await.unwrap().is_empty());
}

async fn a_large_batch_is_written_whole(open: Open) {
    let (store, site, now) = (open(limits()), unique("site"), now_ms());
    let visits: Vec<_> = (0..1500).map(|i| visit(&site, &format!("v{}", i % 700), i, now + i, 6)).collect();
    store.write_visits(&visits.iter().collect::<Vec<_>>()).await;
    for i in (0..700).step_by(7) {
        let expected: Vec<_> = visits.iter().skip(i).step_by(700).rev().cloned().collect();
        assert_eq!(store.visits(&site, &format!("v{i}")).await, expected);
    }
}
