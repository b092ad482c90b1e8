//! The same rows from real servers: MariaDB or MySQL, and PostgreSQL.
//!
//! Runs where `OTTLA_TEST_MARIADB` (`mysql://127.0.0.1:PORT/DATABASE`), `OTTLA_TEST_POSTGRES`, `OTTLA_TEST_DB_USER` and
//! `OTTLA_TEST_DB_PASSWORD` are set; each test makes a database of its own.

#![cfg(all(feature = "mysql", feature = "postgres"))]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla_api::prelude::*;
use ottla_connector_rds::demo;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use support::proxy::Proxy;
use support::{Host, drain, emulate, properties, run, started, text, texts};

/// A database of its own on one of the servers; dropped at the end of a test that passes.
struct Server {
    postgres: bool,
    server: String,
    database: String,
    user: String,
    password: String,
}

/// The servers there are, each with a new database.
async fn servers(test: &str) -> Vec<Server> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut servers = Vec::new();
    for (variable, postgres) in [("OTTLA_TEST_MARIADB", false), ("OTTLA_TEST_POSTGRES", true)] {
        let (Some(url), Some(user), Some(password)) =
            (set(variable), set("OTTLA_TEST_DB_USER"), set("OTTLA_TEST_DB_PASSWORD"))
        else {
            eprintln!("{test} skipped: {variable}, OTTLA_TEST_DB_USER or OTTLA_TEST_DB_PASSWORD is unset");
            continue;
        };
        let (server, first) = url.rsplit_once('/').unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("rds_{}_{number}", std::process::id());
        let admin = Server { postgres, server: server.to_owned(), database: first.to_owned(), user, password };
        admin.sql(&[&format!("CREATE DATABASE {database}")]).await;
        servers.push(Server { database, ..admin });
    }
    servers
}

impl Server {
    fn url(&self) -> String {
        format!("{}/{}", self.server, self.database)
    }

    fn with(&self, properties: Properties) -> Properties {
        let mut properties = properties;
        properties.set("connection.user", &self.user);
        properties.set("connection.password", &self.password);
        properties
    }

    fn emulate(&self, more: &[(&str, &str)]) -> Properties {
        self.with(emulate(&self.url(), more))
    }

    fn bulk(&self, more: &[(&str, &str)]) -> Properties {
        let url = self.url();
        let mut all = properties(&[("connection.url", &url), ("mode", "bulk"), ("batch.max.rows", "2")]);
        more.iter().for_each(|(key, value)| all.set(*key, *value));
        self.with(all)
    }

    async fn sql(&self, statements: &[&str]) {
        macro_rules! run {
            ($options:ty) => {{
                let options: $options = self.url().parse().unwrap();
                let options = options.username(&self.user).password(&self.password);
                let mut connection = options.connect().await.unwrap();
                for statement in statements {
                    connection.execute(sqlx::raw_sql(AssertSqlSafe(*statement))).await.unwrap();
                }
                connection.close().await.unwrap();
            }};
        }
        if self.postgres { run!(sqlx::postgres::PgConnectOptions) } else { run!(sqlx::mysql::MySqlConnectOptions) }
    }

    async fn load(&self) {
        let password = Secret::new(&self.password);
        demo::load(&self.url(), Some(&self.user), Some(&password), |_, _, _| {}).await.unwrap();
    }

    async fn drop(self) {
        let Server { database, .. } = &self;
        let force = if self.postgres { " WITH (FORCE)" } else { "" };
        let statement = format!("DROP DATABASE {database}{force}");
        let first = if self.postgres { "postgres" } else { "information_schema" };
        Self { database: first.to_owned(), ..self }.sql(&[&statement]).await;
    }

    async fn fails(&self, properties: &Properties, folder: &Path) -> Error {
        let error = started(properties, &Arc::new(Host::default()), folder).await.err().unwrap();
        assert!(!error.to_string().contains(&self.password), "{error}");
        error
    }
}

#[tokio::test]
async fn the_same_tables_give_the_same_bytes_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    for server in servers("the_same_tables_give_the_same_bytes_everywhere").await {
        server.load().await;
        // Once more: complete tables are left alone.
        server.load().await;
        for more in [
            [("emulate.rounds", "1000"), ("batch.max.rows", "500"), ("datetime.format", "sql")],
            [("emulate.rounds", "10"), ("batch.max.rows", "3"), ("datetime.format", "iso")],
        ] {
            let expected = texts(&run(&emulate("emulator", &more), folder.path()).await);
            let records = run(&server.emulate(&more), folder.path()).await;
            for (record, expected) in records.iter().zip(&expected) {
                assert_eq!(&text(record), expected, "{}", server.url());
            }
            assert_eq!(records.len(), expected.len());
        }
        server.drop().await;
    }
}

#[tokio::test]
async fn single_precision_columns_print_the_same_digits() {
    let folder = tempfile::tempdir().unwrap();
    let more = [("emulate.rounds", "1000")];
    for server in servers("single_precision_columns_print_the_same_digits").await {
        server.load().await;
        let change = if server.postgres {
            "ALTER TABLE geolocation_data ALTER latitude TYPE real, ALTER longitude TYPE real"
        } else {
            "ALTER TABLE geolocation_data MODIFY latitude FLOAT, MODIFY longitude FLOAT"
        };
        server.sql(&[change]).await;
        let expected = texts(&run(&emulate("emulator", &more), folder.path()).await);
        assert!(texts(&run(&server.emulate(&more), folder.path()).await) == expected, "{}", server.url());
        server.drop().await;
    }
}

#[tokio::test]
async fn values_of_all_types_come_as_the_database_prints_them() {
    let folder = tempfile::tempdir().unwrap();
    for server in servers("values_of_all_types_come_as_the_database_prints_them").await {
        let (statements, expected): (&[&str], &str) = if server.postgres {
            (
                &[
                    "SET TimeZone = 'Asia/Tokyo'; CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN age AS int;
                     CREATE TABLE t (i2 int2, i8 int8, d age, f4 real, f8 double precision, n numeric, nan numeric,
                     flag bool, s varchar(9), c char(3), b bytea, day date, at time, ts timestamp, tsp timestamp(3),
                     tz timestamptz, id uuid, js jsonb, list int[], m mood, nothing text);
                     INSERT INTO t VALUES (-5, 9223372036854775807, 7, -88.8298, 0.1, 12.300, 'NaN', true, 'é😀', 'x',
                     '\\x00ff', '2020-08-28', '03:52:47', '2020-08-28 03:52:47', '2020-08-28 03:52:47.250',
                     '2020-08-28 12:52:47+09', '55abcd28-bda1-4453-bbcd-1427fb3aa49b', '{\"a\": [1]}', '{1,2}', 'glad', null)",
                ],
                concat!(
                    r#"t {"i2":-5,"i8":9223372036854775807,"d":7,"f4":-88.8298,"f8":0.1,"n":12.300,"nan":"NaN","#,
                    r#""flag":true,"s":"é😀","c":"x  ","b":"AP8=","day":"2020-08-28","at":"03:52:47","#,
                    r#""ts":"2020-08-28T03:52:47","tsp":"2020-08-28T03:52:47.25","tz":"2020-08-28T03:52:47Z","#,
                    r#""id":"55abcd28-bda1-4453-bbcd-1427fb3aa49b","js":"{\"a\": [1]}","list":"{1,2}","m":"glad","#,
                    r#""nothing":null}"#
                ),
            )
        } else {
            (
                &[
                    "CREATE TABLE t (i1 TINYINT(1), i8 BIGINT, u8 BIGINT UNSIGNED, u4 INT UNSIGNED, f4 FLOAT, f8 DOUBLE,
                     n DECIMAL(9,3), bits BIT(5), s VARCHAR(9), b VARBINARY(9), day DATE, at TIME, y YEAR, ts DATETIME,
                     tsp DATETIME(3), tz TIMESTAMP NULL, js JSON, m ENUM('sad','glad'), nothing TEXT) CHARACTER SET utf8mb4;
                     SET time_zone = '+09:00';
                     INSERT INTO t VALUES (1, -9223372036854775808, 18446744073709551615, 4294967295, -88.8298, 0.1, 12.3,
                     b'101', 'é😀', x'00ff', '2020-08-28', '03:52:47', 2020, '2020-08-28 03:52:47',
                     '2020-08-28 03:52:47.250', '2020-08-28 12:52:47', '{\"a\": [1]}', 'glad', null)",
                ],
                concat!(
                    r#"t {"i1":1,"i8":-9223372036854775808,"u8":18446744073709551615,"u4":4294967295,"f4":-88.8298,"#,
                    r#""f8":0.1,"n":12.300,"bits":5,"s":"é😀","b":"AP8=","day":"2020-08-28","at":"03:52:47","y":2020,"#,
                    r#""ts":"2020-08-28T03:52:47","tsp":"2020-08-28T03:52:47.250","tz":"2020-08-28T03:52:47","#,
                    r#""js":"{\"a\": [1]}","m":"glad","nothing":null}"#
                ),
            )
        };
        server.sql(statements).await;
        let bulk = server.bulk(&[("bulk.topics.t", "t"), ("datetime.format", "iso")]);
        assert_eq!(texts(&run(&bulk, folder.path()).await), [expected]);
        server.drop().await;
    }
}

#[tokio::test]
async fn bulk_pages_through_keys_of_many_types_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    for server in servers("bulk_pages_through_keys_of_many_types_and_resumes").await {
        let mut tables = vec![
            ("ints", "id INT PRIMARY KEY", "(3), (-1), (2), (10), (7)"),
            ("texts", "id VARCHAR(9) PRIMARY KEY", "('b'), ('a'), ('e'), ('c'), ('d')"),
            (
                "decimals",
                "id DECIMAL(20,2) PRIMARY KEY",
                "(1.10), (1.09), (99999999999999999.01), (99999999999999999.02), (5)",
            ),
            ("pairs", "x INT, y VARCHAR(9), PRIMARY KEY (y, x)", "(1, 'b'), (2, 'a'), (1, 'a'), (3, 'c'), (2, 'b')"),
            (
                "moments",
                "id TIMESTAMP(3) PRIMARY KEY",
                "('2020-01-01 00:00:00.001'), ('2020-01-01 00:00:00.002'), ('2021-01-01'), ('2022-01-01'), ('2023-01-01')",
            ),
            ("keyless", "x INT, y VARCHAR(9)", "(1, 'b'), (2, 'a'), (1, 'a'), (1, 'a'), (2, null)"),
            ("floats", "id DOUBLE PRECISION PRIMARY KEY", "(0.1), (0.2), (0.3), (-1), (1e10)"),
        ];
        if server.postgres {
            tables.push(("ids", "id uuid PRIMARY KEY", "(gen_random_uuid()), (gen_random_uuid()), (gen_random_uuid()), (gen_random_uuid()), (gen_random_uuid())"));
            tables.push(("documents", "d jsonb", "('1'), ('{}'), ('[1]'), (null), ('1')"));
        } else {
            tables.push(("moods", "id ENUM('z','y','x','w','v') PRIMARY KEY", "('v'), ('w'), ('x'), ('y'), ('z')"));
            tables.push(("bytes", "id VARBINARY(9) PRIMARY KEY", "(x'00'), (x'ff'), (x'0001'), ('a'), ('A')"));
        }
        for (name, columns, rows) in &tables {
            let create = format!("CREATE TABLE {name} ({columns})");
            server.sql(&[&create, &format!("INSERT INTO {name} VALUES {rows}")]).await;
        }
        let bulk = server.bulk(&[("topic.prefix", "")]);
        let all = run(&bulk, folder.path()).await;
        assert_eq!(all.len(), tables.len() * 5, "{:#?}", texts(&all));
        let mut distinct = texts(&all);
        distinct.sort();
        distinct.dedup();
        let doubles = if server.postgres { 2 } else { 1 };
        assert_eq!(distinct.len(), all.len() - doubles, "{:#?}", texts(&all));
        // Every third: each start asks for all tables.
        for stored in (0..all.len()).step_by(3) {
            let host = Arc::new(Host::default());
            all[..=stored].iter().for_each(|record| host.store(record));
            let mut task = started(&bulk, &host, folder.path()).await.unwrap();
            assert_eq!(texts(&drain(&mut task).await), texts(&all[stored + 1..]), "after row {stored}");
            task.stop().await.unwrap();
        }
        server.drop().await;
    }
}

#[tokio::test]
async fn mistakes_are_told_apart_and_without_passwords() {
    let folder = tempfile::tempdir().unwrap();
    for server in servers("mistakes_are_told_apart_and_without_passwords").await {
        server.load().await;

        let mut wrong = server.emulate(&[]);
        wrong.set("connection.password", "wrong-word");
        let error = server.fails(&wrong, folder.path()).await;
        assert_eq!(error.kind(), ErrorKind::RefreshAuth, "{error}");
        assert!(!error.to_string().contains("wrong-word"), "{error}");
        assert!(error.to_string().starts_with("connect: "), "{error}");

        // Both in the URL.
        let (scheme, host) = server.server.split_once("://").unwrap();
        let url = format!("{scheme}://{}:{}@{host}/{}", server.user, server.password, server.database);
        let records = run(&emulate(&url, &[("emulate.rounds", "1")]), folder.path()).await;
        assert_eq!(records.len(), 3);
        let error = server.fails(&emulate(&format!("{url}_not"), &[]), folder.path()).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(&format!("{}_not", server.database)), "{error}");

        let error = server.fails(&server.emulate(&[("emulate.topics.users_data", "t")]), folder.path()).await;
        let address = server.url();
        assert_eq!(
            (error.kind(), error.to_string()),
            (
                ErrorKind::Config,
                format!(
                    "there is no table 'users_data' in {address}; did you mean 'user_data'?; \
                     there are: geolocation_data, pinterest_data, user_data"
                )
            )
        );
        let error = server.fails(&server.emulate(&[("emulate.key.user_data", "id")]), folder.path()).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");

        // A table that vanishes under a running task.
        let mut task = started(&server.emulate(&[]), &Arc::new(Host::default()), folder.path()).await.unwrap();
        task.poll().await.unwrap();
        server.sql(&["DROP TABLE user_data"]).await;
        let error = task.poll().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("user_data"), "{error}");
        task.stop().await.unwrap();
        server.drop().await;
    }
}

#[tokio::test]
async fn a_database_that_goes_and_comes_back_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for server in servers("a_database_that_goes_and_comes_back_loses_nothing").await {
        server.load().await;
        let more = [("emulate.rounds", "40"), ("batch.max.rows", "12"), ("query.timeout.ms", "3000")];
        let expected = texts(&run(&server.emulate(&more), folder.path()).await);

        let (scheme, host) = server.server.split_once("://").unwrap();
        let mut proxy = Proxy::start(host).await;
        let mut through = server.emulate(&more);
        through.set("connection.url", format!("{scheme}://{}/{}", proxy.address(), server.database));
        let mut task = started(&through, &Arc::new(Host::default()), folder.path()).await.unwrap();
        let (mut records, mut polls) = (Vec::new(), 0);
        loop {
            polls += 1;
            if polls == 3 {
                proxy.cut().await;
                for _ in 0..2 {
                    let error = task.poll().await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
                    assert!(error.to_string().contains("can't be reached"), "{error}");
                }
                proxy.restore().await;
            }
            match task.poll().await {
                Ok(SourcePoll::Records(some)) => records.extend(some),
                Ok(SourcePoll::Finished) => break,
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert!(error.is_retriable(), "{error}"),
            }
            assert!(polls < 100);
        }
        assert_eq!(texts(&records), expected);
        task.stop().await.unwrap();

        // Nobody there at the start.
        proxy.cut().await;
        let error = server.fails(&through, folder.path()).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        server.drop().await;
    }
}

#[tokio::test]
async fn a_database_that_is_silent_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    for server in servers("a_database_that_is_silent_is_given_up_in_time").await {
        // Takes connections, and says nothing.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (scheme, _) = server.server.split_once("://").unwrap();
        let mut silent = server.emulate(&[("query.timeout.ms", "500")]);
        let address = format!("{scheme}://{}/x", listener.local_addr().unwrap());
        silent.set("connection.url", &address);
        let start = std::time::Instant::now();
        let error = server.fails(&silent, folder.path()).await;
        assert_eq!(
            (error.kind(), error.to_string()),
            (
                ErrorKind::Unreachable,
                format!("connect: the database gave no answer within 500 ms (database={address})")
            )
        );
        assert!(start.elapsed() < Duration::from_secs(5));
        server.drop().await;
    }
}

#[tokio::test]
async fn the_rows_of_files_come_out_as_they_are_written() {
    let Ok(data) = std::env::var("OTTLA_SHARED_DATA") else {
        eprintln!("the_rows_of_files_come_out_as_they_are_written skipped: OTTLA_SHARED_DATA is unset");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("rows.db").display());
    demo::load_jsonl(&sqlite, None, None, Path::new(&data), |_, _, _| {}).await.unwrap();
    let more = [("emulate.rounds", "1234"), ("emulate.row", "key")];
    let records = run(&emulate(&sqlite, &more), folder.path()).await;
    assert_eq!(records.len(), 3 * 1234);
    for (file, topic) in [("pin", "t.pin"), ("geo", "t.geo"), ("user", "t.user")] {
        let written = std::fs::read_to_string(format!("{data}/{file}.jsonl")).unwrap();
        let written: std::collections::BTreeSet<String> = written
            .lines()
            .map(|line| ottla_api::data::json::to_string(&ottla_api::data::json::parse(line.as_bytes()).unwrap()))
            .map(|line| format!("{topic} {line}"))
            .collect();
        for record in records.iter().filter(|record| &*record.record.topic == topic) {
            assert!(written.contains(&text(record)), "{}", text(record));
        }
    }
    for server in servers("the_rows_of_files_come_out_as_they_are_written").await {
        let password = Secret::new(&server.password);
        let progress = |_: &str, _: u64, _: u64| {};
        demo::load_jsonl(&server.url(), Some(&server.user), Some(&password), Path::new(&data), progress).await.unwrap();
        assert!(texts(&run(&server.emulate(&more), folder.path()).await) == texts(&records), "{}", server.url());
        server.drop().await;
    }
}
