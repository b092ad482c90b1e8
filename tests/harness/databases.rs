//! Databases of a test's own on the servers that `tests/run` started, and the tables of the posts in them.

use std::process::Command;
use std::time::Duration;

use crate::worker::Ottla;
use crate::{services, unique};

/// How long loading the three tables may take.
const LOAD: Duration = Duration::from_secs(180);

/// A new, empty database on the MariaDB server; its URL.
pub fn new_mariadb() -> String {
    let (user, password) = services::database_account();
    let url = services::mariadb();
    let (base, host, port) = parts(&url);
    let name = unique("test").replace('-', "_");
    let create = format!("CREATE DATABASE {name}");
    run(Command::new("mariadb").env("MYSQL_PWD", password).args([
        "--no-defaults",
        "--protocol=tcp",
        &format!("--host={host}"),
        &format!("--port={port}"),
        &format!("--user={user}"),
        "--execute",
        &create,
    ]));
    format!("{base}/{name}")
}

/// A new, empty database on the PostgreSQL server; its URL.
pub fn new_postgres() -> String {
    let (user, password) = services::database_account();
    let url = services::postgres();
    let (base, host, port) = parts(&url);
    let name = unique("test").replace('-', "_");
    let create = format!("CREATE DATABASE {name}");
    run(Command::new("psql").env("PGPASSWORD", password).args([
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        &format!("--host={host}"),
        &format!("--port={port}"),
        &format!("--username={user}"),
        "--dbname=postgres",
        &format!("--command={create}"),
    ]));
    format!("{base}/{name}")
}

/// Writes the three generated tables into a database, as a user would.
pub fn load(url: &str) {
    let mut load = Ottla::new(["demo", "load", "--url", url]);
    if !url.starts_with("sqlite") {
        let (user, password) = services::database_account();
        load = load.arg("--user").arg(&user).env("OTTLA_DB_PASSWORD", &password);
    }
    load.finish(LOAD).exits_with(0);
}

/// `scheme://host:port`, host and port of a URL.
fn parts(url: &str) -> (&str, &str, &str) {
    let (base, _) = url.rsplit_once('/').expect("a URL with a database");
    let (_, address) = base.split_once("://").expect("a URL with a scheme");
    let (host, port) = address.split_once(':').expect("a URL with a port");
    (base, host, port)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; start with tests/run"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", command.get_program());
}
