//! The same three tables in SQLite, MariaDB and PostgreSQL give the same objects as the generated database.

use std::path::Path;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::databases;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::services;
use ottla_tests::store::{Object, folder_objects};
use ottla_tests::temp_dir;
use ottla_tests::worker::Ottla;

const ROUNDS: usize = 60;
const RUN: Duration = Duration::from_secs(180);

/// Loads the tables, runs the rounds, and gives all objects.
fn objects_of(url: &str, folder: &Path) -> (Vec<Object>, String) {
    let store = format!("file:{}", folder.join("lake").display());
    let mut posts = config::posts("demo", ROUNDS).replace("\"emulator\"", &format!("\"{url}\""));
    databases::load(url);
    if !url.starts_with("sqlite") {
        let (user, password) = services::database_account();
        posts += &format!("connection.user = \"{user}\"\nconnection.password = \"{password}\"\n");
    }
    let text = config::worker("embedded", &folder.join("state"))
        + &posts
        + &config::sink("s3", &config::posts_regex("demo"), &store, "posts", 7);
    let run = Ottla::run([config::write(folder, "batch.toml", text)]).until_caught_up();
    let finished = run.finish(RUN).exits_with(0);
    (folder_objects(&folder.join("lake/posts")), finished.report())
}

fn gives_the_generated_rows(url: &str) {
    let folder = temp_dir();
    let (objects, report) = objects_of(url, folder.path());
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", ROUNDS);
    oracle.assert(&objects, &report);
}

#[test]
fn sqlite_gives_the_same_objects() {
    let folder = temp_dir();
    gives_the_generated_rows(&format!("sqlite://{}", folder.path().join("posts.sqlite").display()));
}

#[test]
fn mariadb_gives_the_same_objects() {
    gives_the_generated_rows(&databases::new_mariadb());
}

#[test]
fn postgresql_gives_the_same_objects() {
    gives_the_generated_rows(&databases::new_postgres());
}
