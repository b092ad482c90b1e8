//! Mode `bulk`: each table once, from wherever it stopped, with values of all types.

mod support;

use std::sync::Arc;

use ottla_api::prelude::*;
use support::{Host, drain, properties, run, started, texts};

async fn database(folder: &std::path::Path, statements: &[&str]) -> String {
    let url = format!("sqlite://{}", folder.join("some.db").display());
    support::sql(&url, statements).await;
    url
}

#[tokio::test]
async fn every_table_is_read_once_in_the_order_of_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let url = database(
        folder.path(),
        &[
            "CREATE TABLE b (id INTEGER PRIMARY KEY, name TEXT)",
            "INSERT INTO b VALUES (3, 'c'), (1, 'a'), (2, 'b')",
            "CREATE TABLE a (x TEXT, y INTEGER, PRIMARY KEY (x, y)) WITHOUT ROWID",
            "INSERT INTO a VALUES ('p', 2), ('p', 1), ('o', 9), ('q', 0)",
            "CREATE VIEW v AS SELECT name FROM b",
        ],
    )
    .await;
    let bulk = |more: &[(&str, &str)]| {
        let mut all = properties(&[("connection.url", &url), ("mode", "bulk"), ("batch.max.rows", "2")]);
        more.iter().for_each(|(key, value)| all.set(*key, *value));
        all
    };
    let expected = [
        r#"db-a {"x":"o","y":9}"#,
        r#"db-a {"x":"p","y":1}"#,
        r#"db-a {"x":"p","y":2}"#,
        r#"db-a {"x":"q","y":0}"#,
        r#"db-b {"id":1,"name":"a"}"#,
        r#"db-b {"id":2,"name":"b"}"#,
        r#"db-b {"id":3,"name":"c"}"#,
    ];
    let all = run(&bulk(&[("topic.prefix", "db-")]), folder.path()).await;
    assert_eq!(texts(&all), expected);

    let rest = run(&bulk(&[("topic.prefix", "db-"), ("table.exclude.list", "a")]), folder.path()).await;
    assert_eq!(texts(&rest), expected[4..]);
    let named = run(&bulk(&[("table.include.list", "b"), ("topic.prefix", "db-")]), folder.path()).await;
    assert_eq!(texts(&named), expected[4..]);
    let titled = run(&bulk(&[("bulk.topics.v", "names")]), folder.path()).await;
    assert_eq!(texts(&titled), [r#"names {"name":"a"}"#, r#"names {"name":"b"}"#, r#"names {"name":"c"}"#]);

    for stored in 0..all.len() {
        let host = Arc::new(Host::default());
        all[..=stored].iter().for_each(|record| host.store(record));
        let mut task = started(&bulk(&[("topic.prefix", "db-")]), &host, folder.path()).await.unwrap();
        assert_eq!(texts(&drain(&mut task).await), expected[stored + 1..], "after row {stored}");
    }
}

#[tokio::test]
async fn tables_are_shared_among_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let bulk = properties(&[
        ("connection.url", "emulator"),
        ("mode", "bulk"),
        ("topic.prefix", ""),
        ("table.whitelist", "user_data,pinterest_data,geolocation_data"),
    ]);
    let tasks = support::connector().tasks(&bulk, 2).unwrap();
    let mut counts = Vec::new();
    for mut task in tasks {
        task.start(&SourceTaskContext::new("c", 0, folder.path().to_owned(), Arc::new(Host::default()))).await.unwrap();
        let records = drain(&mut task).await;
        counts.push(records.len());
        task.stop().await.unwrap();
    }
    assert_eq!(counts, [2 * 11_154, 11_154]);
    assert_eq!(support::connector().tasks(&bulk, 9).unwrap().len(), 3);
}

#[tokio::test]
async fn values_of_sqlite_keep_their_types() {
    let folder = tempfile::tempdir().unwrap();
    let url = database(
        folder.path(),
        &[
            "CREATE TABLE t (i INT, r REAL, s TEXT, b BLOB, n TEXT, d DATETIME, u TIMESTAMP, f BOOLEAN, x DECIMAL(9,2))",
            "INSERT INTO t VALUES (9223372036854775807, -88.8298, 'é😀', x'00ff', NULL, '2020-08-28 03:52:47', \
             1598586767, 1, 12.5)",
        ],
    )
    .await;
    let bulk =
        properties(&[("connection.url", &url), ("mode", "bulk"), ("bulk.topics.t", "t"), ("datetime.format", "iso")]);
    assert_eq!(
        texts(&run(&bulk, folder.path()).await),
        [concat!(
            r#"t {"i":9223372036854775807,"r":-88.8298,"s":"é😀","b":"AP8=","n":null,"d":"2020-08-28T03:52:47","#,
            r#""u":1598586767,"f":true,"x":12.5}"#
        )]
    );
}

#[tokio::test]
async fn names_that_need_quotes_are_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let url = database(
        folder.path(),
        &[
            "CREATE TABLE \"my \"\"table\"\"\" (\"a b\" INTEGER, \"select\" TEXT)",
            "INSERT INTO \"my \"\"table\"\"\" VALUES (1, 'x')",
        ],
    )
    .await;
    let bulk = properties(&[("connection.url", &url), ("mode", "bulk"), ("bulk.topics.my \"table\"", "t")]);
    assert_eq!(texts(&run(&bulk, folder.path()).await), [r#"t {"a b":1,"select":"x"}"#]);
    let missing = properties(&[("connection.url", &url), ("mode", "bulk"), ("bulk.topics.x'; DROP TABLE t", "t")]);
    let error = started(&missing, &Arc::new(Host::default()), folder.path()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn rows_of_keys_with_gaps_are_read_by_their_offset() {
    let folder = tempfile::tempdir().unwrap();
    // Keys 10, 20, .. 500, a table with text keys, and one without any key.
    let mut statements = vec![
        "CREATE TABLE gaps (id INTEGER PRIMARY KEY, name TEXT)".to_owned(),
        "CREATE TABLE texts (id TEXT PRIMARY KEY)".to_owned(),
        "CREATE TABLE plain (a INTEGER, b INTEGER)".to_owned(),
    ];
    for number in 1..=50 {
        statements.push(format!("INSERT INTO gaps VALUES ({}, 'g')", number * 10));
        statements.push(format!("INSERT INTO texts VALUES ('k{number:03}')"));
        statements.push(format!("INSERT INTO plain VALUES ({}, {number})", 51 - number));
    }
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    let url = database(folder.path(), &statements).await;
    let emulate = properties(&[
        ("connection.url", &url),
        ("mode", "emulate"),
        ("emulate.topics.gaps", "g"),
        ("emulate.topics.texts", "t"),
        ("emulate.topics.plain", "p"),
        ("emulate.draw.max", "49"),
        ("emulate.rounds", "60"),
        ("emulate.pace", "none"),
    ]);
    let records = run(&emulate, folder.path()).await;
    assert_eq!(records.len(), 180);
    for round in records.chunks(3) {
        let offset = support::field(&round[0], "id").as_i64().unwrap() / 10 - 1;
        assert_eq!(support::field(&round[1], "id"), &Value::from(format!("k{:03}", offset + 1)));
        assert_eq!(support::field(&round[2], "a"), &Value::Int64(offset + 1));
    }

    let mut by_key = emulate.clone();
    by_key.set("emulate.row", "key");
    by_key.set("emulate.key.plain", "b");
    by_key.remove("emulate.topics.texts");
    let host = Arc::new(Host::default());
    let mut task = started(&by_key, &host, folder.path()).await.unwrap();
    let records = drain(&mut task).await;
    assert_eq!(records.len() as u64 + host.count_of("rows.missing"), 120);
    for record in records.iter().filter(|record| &*record.record.topic == "g") {
        assert_eq!(support::field(record, "id").as_i64().unwrap() % 10, 0);
    }
}
