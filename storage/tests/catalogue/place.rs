//! A catalogue of its own for each test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use fanal_model::SiteCode;
use fanal_storage::catalogue::{Catalogue, Place, Server, Site};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

pub(crate) const NOW_MS: u64 = 1_700_000_000_123;

pub(crate) fn code(text: &str) -> SiteCode {
    SiteCode::parse(text).unwrap()
}

pub(crate) struct TestPlace {
    kind: Kind,
    folder: TempDir,
}

enum Kind {
    File,
    /// The URL of a database that is made for this test and dropped after it.
    Database(String),
}

impl TestPlace {
    pub(crate) fn file() -> Self {
        Self { kind: Kind::File, folder: tempfile::tempdir().unwrap() }
    }

    /// A fresh database on the server that `FANAL_STACK_MARIADB` names.
    pub(crate) async fn database() -> Self {
        let stack = std::env::var("FANAL_STACK_MARIADB").expect(
            "FANAL_STACK_MARIADB is not set: run `scripts/stack.sh start mariadb` and export what \
             `scripts/stack.sh env` prints, or run `make test`",
        );
        let database = Self { kind: Kind::Database(fresh(&stack)), folder: tempfile::tempdir().unwrap() };
        database.run("CREATE DATABASE").await;
        database
    }

    /// The database's URL.
    pub(crate) fn url(&self) -> &str {
        match &self.kind {
            Kind::File => panic!("a file has no URL"),
            Kind::Database(url) => url,
        }
    }

    /// The catalogue's file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("catalogue.sqlite")
    }

    pub(crate) fn place(&self) -> Place {
        match &self.kind {
            Kind::File => Place::File(self.path()),
            Kind::Database(url) => Place::Server(Server::parse(url, None).unwrap()),
        }
    }

    pub(crate) async fn open(&self) -> Catalogue {
        Catalogue::open(self.place()).await.unwrap()
    }

    pub(crate) async fn with_site(&self) -> Catalogue {
        let catalogue = self.open().await;
        catalogue.put_site(&Site::new(code("shop"))).await.unwrap();
        catalogue
    }

    /// Whether these bytes stand anywhere in the catalogue.
    pub(crate) async fn holds(&self, bytes: &[u8]) -> bool {
        let found = |content: &[u8]| content.windows(bytes.len()).any(|window| window == bytes);
        match &self.kind {
            Kind::File => found(&std::fs::read(self.path().with_extension("sqlite-wal")).unwrap()),
            Kind::Database(url) => {
                let options: sqlx::mysql::MySqlConnectOptions = url.parse().unwrap();
                let mut connection = options.connect().await.unwrap();
                let rows: Vec<(String, String, String)> =
                    sqlx::query_as("SELECT site_code, client_id, secret_hash FROM clients")
                        .fetch_all(&mut connection)
                        .await
                        .unwrap();
                connection.close().await.unwrap();
                rows.iter().any(|row| found(format!("{row:?}").as_bytes()))
            }
        }
    }

    /// Drops the database; a failed test keeps it for a look.
    pub(crate) async fn clean(self) {
        if matches!(self.kind, Kind::Database(_)) {
            self.run("DROP DATABASE").await;
        }
    }

    async fn run(&self, verb: &str) {
        let (base, name) = self.url().rsplit_once('/').unwrap();
        let options: sqlx::mysql::MySqlConnectOptions = base.parse().unwrap();
        let mut connection = options.connect().await.expect("the server of FANAL_STACK_MARIADB");
        let statement = AssertSqlSafe(format!("{verb} `{name}`"));
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .expect("its user needs all rights on `fanal_%`");
        connection.close().await.unwrap();
    }
}

/// The URL of a database that nobody else uses.
fn fresh(stack: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let random = u64::from_le_bytes(std::array::from_fn(|_| rand_byte()));
    let (base, _) = stack.rsplit_once('/').expect("FANAL_STACK_MARIADB is a URL with a database");
    format!("{base}/fanal_test_{random:016x}_{number}")
}

fn rand_byte() -> u8 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish().to_le_bytes()[0]
}
