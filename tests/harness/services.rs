//! Where the services are that `tests/run` has started.

use std::path::PathBuf;

/// The value of a variable that `tests/run` sets.
///
/// # Panics
///
/// Where it is not set. A test that passed without its service would say that something works which nobody tried.
pub fn variable(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{name} is not set: start with tests/run (or source what `tests/run --services` prints)"),
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    let path = PathBuf::from(variable("OTTLA_BIN"));
    assert!(
        path.is_file(),
        "OTTLA_BIN names {}, which is not there: start with tests/run, or build first",
        path.display()
    );
    path
}

/// `host:port` of the Kafka broker.
pub fn kafka() -> String {
    variable("OTTLA_TEST_KAFKA")
}

/// URL of the S3 endpoint.
pub fn s3() -> String {
    variable("OTTLA_TEST_S3")
}

/// Key id and secret of the S3 endpoint.
pub fn s3_credentials() -> (String, String) {
    (variable("OTTLA_TEST_S3_KEY"), variable("OTTLA_TEST_S3_SECRET"))
}

/// User and password of both databases.
pub fn database_account() -> (String, String) {
    (variable("OTTLA_TEST_DB_USER"), variable("OTTLA_TEST_DB_PASSWORD"))
}

/// URL of the MariaDB database.
pub fn mariadb() -> String {
    variable("OTTLA_TEST_MARIADB")
}

/// URL of the PostgreSQL database.
pub fn postgres() -> String {
    variable("OTTLA_TEST_POSTGRES")
}

/// URL of the Kinesis server that knows resharding and consumers: kinesis-local. It takes any keys.
pub fn kinesis() -> String {
    variable("OTTLA_TEST_KINESIS")
}

/// URL of the Kinesis server that bears volume: kinesalite. It takes any keys.
pub fn kinesalite() -> String {
    variable("OTTLA_TEST_KINESALITE")
}

/// A Python with clients and readers by others: `requests`, `boto3`, `pyarrow`, `deltalake`, `polars`, `duckdb`.
pub fn python() -> PathBuf {
    PathBuf::from(variable("OTTLA_TEST_PYTHON"))
}

/// A Python with Spark, and the folder of jars that Spark needs for Delta tables and S3.
pub fn spark() -> (PathBuf, PathBuf) {
    (PathBuf::from(variable("OTTLA_TEST_SPARK")), PathBuf::from(variable("OTTLA_TEST_SPARK_JARS")))
}

/// The program `airflow`, which not every machine's Python can run. Without it the caller skips, and says so.
pub fn airflow(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("OTTLA_TEST_AIRFLOW").map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    if found.is_none() {
        eprintln!("SKIPPED {test}: OTTLA_TEST_AIRFLOW is not set (Airflow 2.11 needs Python 3.10, 3.11 or 3.12)");
    }
    found
}

/// The folder with real rows (`pin.jsonl`, `geo.jsonl`, `user.jsonl`, `seed100_draws.json`), which not every machine has.
/// Without it the caller skips, and says so.
pub fn shared_data(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("OTTLA_SHARED_DATA").map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    if found.is_none() {
        eprintln!(
            "SKIPPED {test}: OTTLA_SHARED_DATA is not set (a folder with pin.jsonl, geo.jsonl, user.jsonl, seed100_draws.json)"
        );
    }
    found
}
