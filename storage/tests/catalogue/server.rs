//! What servers do to those who rely on them: they hang, die, come back, show a wrong
//! certificate, break in the middle of a migration.

use std::time::{Duration, Instant};

use fanal_storage::catalogue::{Catalogue, CatalogueError, Server, Site};
use sqlx::{ConnectOptions, Connection};

use super::own_server::OwnServer;
use super::place::{NOW_MS, TestPlace, code};
use super::proxy::Proxy;

/// Messages of a whole opening are fewer than this.
const MESSAGES_MAX: u32 = 200;

fn port(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap()
}

/// The same database by way of the proxy.
fn by_way_of(proxy: &Proxy, url: &str) -> Server {
    let url = url.replace(&format!(":{}/", port(url)), &format!(":{}/", proxy.port));
    Server::parse(&url, None).unwrap()
}

async fn seen(catalogue: &Catalogue, site: &str) -> Duration {
    let began = Instant::now();
    while !catalogue.sites().contains(site) {
        assert!(began.elapsed() < Duration::from_secs(30), "{site} is not seen: {:?}", catalogue.trouble());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn readers_go_on_with_what_they_know_while_the_server_is_killed_and_heal_by_themselves() {
    let mut own = OwnServer::start(tempfile::tempdir().unwrap(), Vec::new()).await;
    let reader = Catalogue::open(own.server()).await.unwrap();
    reader.put_site(&Site::new(code("shop"))).await.unwrap();
    reader.publish(&code("shop"), None, b"{}", "admin", NOW_MS).await.unwrap();
    let following = tokio::spawn({
        let reader = reader.clone();
        async move { reader.follow(std::future::pending()).await }
    });
    own.kill();
    tokio::time::timeout(Duration::from_secs(30), async {
        while reader.trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the loss is never said");
    assert!(reader.sites().contains("shop"));
    assert!(reader.configurations().get("shop", None).is_some());
    let began = Instant::now();
    let error = reader.put_site(&Site::new(code("new"))).await.unwrap_err();
    assert!(matches!(error, CatalogueError::Unreachable { .. }) && error.is_temporary(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(!error.to_string().contains("pass-word"));

    own.start_again().await;
    let writer = Catalogue::open(own.server()).await.unwrap();
    writer.put_site(&Site::new(code("new"))).await.unwrap();
    seen(&reader, "new").await;
    assert!(reader.trouble().is_none());
    following.abort();
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_holds_up_nobody_for_long() {
    let place = TestPlace::database().await;
    let direct = place.with_site().await;
    let proxy = Proxy::to(port(place.url())).await;
    let reader = Catalogue::open(by_way_of(&proxy, place.url())).await.unwrap();
    let following = tokio::spawn({
        let reader = reader.clone();
        async move { reader.follow(std::future::pending()).await }
    });
    for round in 0..2 {
        proxy.hold(true);
        // More pieces of work than there are connections: none may be lost for good.
        let began = Instant::now();
        let work = (0..6).map(|n| {
            let (reader, site) = (reader.clone(), Site::new(code(&format!("held-{round}-{n}"))));
            tokio::spawn(async move { reader.put_site(&site).await })
        });
        for done in work.collect::<Vec<_>>() {
            let error = done.await.unwrap().unwrap_err();
            assert!(error.is_temporary(), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        assert!(reader.sites().contains("shop"), "what was known is forgotten");
        proxy.hold(false);
        let site = format!("after-{round}");
        direct.put_site(&Site::new(code(&site))).await.unwrap();
        seen(&reader, &site).await;
    }
    following.abort();
    place.clean().await;
}

#[tokio::test]
async fn a_migration_that_breaks_at_any_message_is_finished_by_the_next_start() {
    let mut broken = 0;
    for messages in 1..MESSAGES_MAX {
        let place = TestPlace::database().await;
        let proxy = Proxy::to(port(place.url())).await;
        proxy.break_after(messages);
        let opened = Catalogue::open(by_way_of(&proxy, place.url())).await;
        if opened.is_ok() && !proxy.is_broken() {
            place.clean().await;
            break;
        }
        broken += 1;
        drop(opened);
        let catalogue = place.with_site().await;
        catalogue.publish(&code("shop"), None, b"{}", "admin", NOW_MS).await.unwrap();
        catalogue.create_client(&code("shop"), "client-id", "client-secret", NOW_MS).await.unwrap();
        catalogue.close().await;
        place.clean().await;
    }
    assert!((20..MESSAGES_MAX).contains(&broken), "{broken} breaks were tried");
}

#[tokio::test]
async fn many_processes_that_start_at_once_make_the_tables_once() {
    let place = TestPlace::database().await;
    let starts: Vec<_> = (0..8).map(|_| tokio::spawn(Catalogue::open(place.place()))).collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    assert!(place.with_site().await.sites().contains("shop"));
    place.clean().await;
}

#[tokio::test]
async fn tables_of_somebody_else_and_of_a_newer_program_are_left_alone() {
    let place = TestPlace::database().await;
    let options: sqlx::mysql::MySqlConnectOptions = place.url().parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE sites (mine INT)").execute(&mut connection).await.unwrap();
    let error = Catalogue::open(place.place()).await.unwrap_err();
    assert!(matches!(error, CatalogueError::OtherServer { .. }), "{error}");
    sqlx::raw_sql("DROP TABLE sites").execute(&mut connection).await.unwrap();
    place.with_site().await.close().await;
    sqlx::raw_sql("UPDATE migration SET steps = 99").execute(&mut connection).await.unwrap();
    let error = Catalogue::open(place.place()).await.unwrap_err();
    assert!(error.to_string().contains("upgrade this program"), "{error}");
    connection.close().await.unwrap();
    place.clean().await;
}

#[tokio::test]
async fn environments_and_clients_are_told_apart_byte_for_byte() {
    let place = TestPlace::database().await;
    let catalogue = place.with_site().await;
    catalogue.put_site(&Site::new(code("SHOP"))).await.unwrap();
    for (n, environment) in ["staging", "Staging", "staging ", "stäging", "stàging"].into_iter().enumerate()
    {
        let document = format!("{{\"n\":{n}}}");
        catalogue.publish(&code("shop"), Some(environment), document.as_bytes(), "a", NOW_MS).await.unwrap();
        let served = catalogue.configurations().get("shop", Some(environment)).unwrap();
        assert_eq!(served.document, document.as_bytes());
    }
    let again = place.open().await;
    assert_eq!(&again.configurations().get("shop", Some("staging")).unwrap().document[..], b"{\"n\":0}");
    catalogue.create_client(&code("shop"), "one", "client-secret", NOW_MS).await.unwrap();
    for (site, client) in [("SHOP", "one"), ("shop", "One"), ("shop", "one "), ("shop ", "one")] {
        let found = catalogue.verify_client(Some(site), client, "client-secret").await.unwrap();
        assert_eq!(found, None, "{site} {client}");
    }
    place.clean().await;
}

#[tokio::test]
async fn a_large_configuration_passes_and_a_server_that_could_not_take_it_is_refused() {
    let own =
        OwnServer::start(tempfile::tempdir().unwrap(), vec!["--max-allowed-packet=1M".to_owned()]).await;
    let error = Catalogue::open(own.server()).await.unwrap_err();
    assert!(error.to_string().contains("max_allowed_packet"), "{error}");
    let place = TestPlace::database().await;
    let catalogue = place.with_site().await;
    let document = vec![b' '; 8 << 20];
    catalogue.publish(&code("shop"), None, &document, "admin", NOW_MS).await.unwrap();
    assert_eq!(place.open().await.configurations().get("shop", None).unwrap().document.len(), 8 << 20);
    place.clean().await;
}

#[tokio::test]
async fn a_server_is_believed_only_with_a_certificate_of_the_named_ca_for_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (ca_key, other_key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    std::fs::write(at("other.pem"), ca.clone().self_signed(&other_key).unwrap().pem()).unwrap();
    let ca = rcgen::CertifiedIssuer::self_signed(ca, ca_key).unwrap();
    std::fs::write(at("ca.pem"), ca.pem()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    std::fs::write(at("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(at("key.pem"), key.serialize_pem()).unwrap();
    let (ca, other) = (at("ca.pem"), at("other.pem"));
    let options = vec![format!("--ssl-cert={}", at("cert.pem")), format!("--ssl-key={}", at("key.pem"))];
    let own = OwnServer::start(folder, options).await;
    let open = async |host: &str, rest: &str| {
        let url = format!("mysql://fanal@{host}:{}/fanal?{rest}", own.port);
        Catalogue::open(Server::parse(&url, Some("pass-word")).unwrap()).await.map(drop)
    };
    open("localhost", &format!("ssl-mode=verify_identity&ssl-ca={ca}")).await.unwrap();
    open("127.0.0.1", &format!("ssl-mode=verify_ca&ssl-ca={ca}")).await.unwrap();
    for (host, rest) in [
        ("127.0.0.1", format!("ssl-mode=verify_identity&ssl-ca={ca}")),
        ("localhost", format!("ssl-mode=verify_identity&ssl-ca={other}")),
        ("localhost", "ssl-mode=verify_ca".to_owned()),
    ] {
        let error = open(host, &rest).await.unwrap_err();
        assert!(matches!(error, CatalogueError::Untrusted { .. }), "{host} {rest}: {error}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_or_has_no_database_is_told_what_to_do() {
    let place = TestPlace::database().await;
    let (base, _) = place.url().rsplit_once('/').unwrap();
    let missing = Server::parse(&format!("{base}/fanal_no_such_database"), None).unwrap();
    let error = Catalogue::open(missing).await.unwrap_err();
    assert!(error.to_string().contains("CREATE DATABASE"), "{error}");
    let wrong = Server::parse(place.url(), Some("a-wrong-one")).unwrap();
    let error = Catalogue::open(wrong).await.unwrap_err();
    assert!(matches!(error, CatalogueError::Denied { .. }), "{error}");
    assert!(!error.to_string().contains("a-wrong-one"));
    let nobody = Server::parse("mysql://fanal@127.0.0.1:1/fanal", None).unwrap();
    let began = Instant::now();
    let error = Catalogue::open(nobody).await.unwrap_err();
    assert!(matches!(error, CatalogueError::Unreachable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    place.clean().await;
}
