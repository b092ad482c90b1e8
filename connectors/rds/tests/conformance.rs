//! The public suites, over a SQLite file: options, plugins, and the task of each mode.

mod support;

use ottla_testkit::config_suite;
use ottla_testkit::source_suite::SourceSuite;
use support::{connector, emulate, properties, run, sql, task};

#[test]
fn plugins_are_described() {
    config_suite::check_plugins(ottla_connector_rds::PLUGINS);
}

#[tokio::test]
async fn emulate_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("some.db").display());
    let mut statements = Vec::new();
    for table in ["pinterest_data", "geolocation_data", "user_data"] {
        statements.push(format!("CREATE TABLE {table} (ind INTEGER PRIMARY KEY, t TEXT)"));
        // A hole, so that both ways of reading are taken.
        let rows: Vec<String> = (0..20).filter(|n| *n != 7).map(|n| format!("({n}, '{table} {n}')")).collect();
        statements.push(format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
    }
    statements.push("INSERT INTO user_data VALUES (7, 'no hole')".to_owned());
    sql(&url, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;

    for batch in ["1", "7", "500"] {
        let more =
            [("emulate.rounds", "12"), ("emulate.draw.max", "19"), ("emulate.row", "key"), ("batch.max.rows", batch)];
        let properties = emulate(&url, &more);
        let records = run(&properties, folder.path()).await;
        let expected = records.iter().map(|record| record.record.clone()).collect();
        let suite = SourceSuite::new(records.len(), || task(&properties)).expecting(expected).bounded();
        suite.tasks(|max| connector().tasks(&properties, max).unwrap()).run().await;
    }
}

#[tokio::test]
async fn bulk_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("some.db").display());
    let tables = [
        "CREATE TABLE a (id INTEGER PRIMARY KEY)",
        "INSERT INTO a VALUES (1), (5), (9), (12), (13)",
        "CREATE TABLE b (x TEXT, y INTEGER, PRIMARY KEY (x, y)) WITHOUT ROWID",
        "INSERT INTO b VALUES ('p', 2), ('p', 1), ('o', 9), ('q', 0)",
        "CREATE TABLE empty (id INTEGER PRIMARY KEY)",
        "CREATE VIEW v AS SELECT y FROM b",
    ];
    sql(&url, &tables).await;
    let properties = properties(&[
        ("connection.url", &url),
        ("mode", "bulk"),
        ("batch.max.rows", "2"),
        ("topic.prefix", "p."),
        ("table.whitelist", "a,b,empty,v"),
    ]);
    let suite = SourceSuite::new(13, || task(&properties)).bounded();
    suite.tasks(|max| connector().tasks(&properties, max).unwrap()).run().await;
}
