//! Both renderings, as text and before the engine's parser.
//! `GOLDEN=write` writes the texts anew.

use std::path::Path;

use fanal_storage::clickhouse::{ClusterConfig, Layout, MIGRATIONS, base_statements, view_statements};

use crate::served::database;

/// All statements of a layout, each under its place.
pub(crate) fn statements(layout: Layout<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, statements: Vec<String>| {
        all.extend((0..).zip(statements).map(|(n, sql): (u32, String)| (format!("{name} {n}"), sql)));
    };
    add("base", base_statements(layout).unwrap());
    for migration in MIGRATIONS {
        add(migration.name, migration.statements(layout).unwrap());
    }
    add("views", view_statements(layout).unwrap());
    all
}

fn cluster() -> ClusterConfig {
    ClusterConfig::named("main")
}

fn check_golden(file: &str, layout: Layout<'_>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clickhouse_server/golden").join(file);
    let text: String =
        statements(layout).iter().map(|(place, sql)| format!("-- {place}\n{sql};\n\n")).collect();
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "{} is not what is rendered; run this test with GOLDEN=write", path.display());
}

#[test]
fn the_schema_of_a_single_node_is_the_golden_one() {
    check_golden("single.sql", Layout { database: "fanal", cluster: None });
}

#[test]
fn the_schema_of_a_cluster_is_the_golden_one() {
    check_golden("cluster.sql", Layout { database: "fanal", cluster: Some(&cluster()) });
}

#[tokio::test]
async fn the_engines_parser_takes_every_statement_of_both() {
    let server = database("parser");
    let cluster = cluster();
    for cluster in [None, Some(&cluster)] {
        for (place, sql) in statements(Layout { database: "fanal", cluster }) {
            let quoted = sql.replace('\\', "\\\\").replace('\'', "\\'");
            let outside =
                fanal_storage::clickhouse::ClickHouse::new(fanal_storage::clickhouse::ClickHouseConfig {
                    database: "default".to_owned(),
                    ..server.config().clone()
                });
            let formatted: String = outside
                .fetch_one("parse a statement", &format!("SELECT formatQuery('{quoted}')"))
                .await
                .unwrap_or_else(|error| panic!("{place}: {error}\n{sql}"));
            assert_eq!(formatted.contains("ON CLUSTER main"), cluster.is_some(), "{place}: {formatted}");
        }
    }
}
