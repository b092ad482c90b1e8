//! The batch leg and the streaming leg, both as the examples have them, over the same rows: what they write is the same,
//! because they share one copy of the cleaning rules.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_tests::delta_log::{self, Row};
use ottla_tests::services;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::wait::SOON;
use ottla_tests::worker::Ottla;
use serde_json::Value;

const RUN: Duration = Duration::from_secs(180);
const UID: &str = "0a4e65e909bd";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest").join(name)
}

/// Runs one leg, with everything that it writes below `folder`.
fn run(name: &str, folder: &Path, rounds: usize, database: &str) {
    std::fs::create_dir_all(folder).expect("a folder for the leg");
    Ottla::run([example(name)])
        .in_dir(folder)
        .set("connectors.posts.emulate.rounds", rounds)
        .set("connectors.posts.connection.url", database)
        .set("connectors.posts.emulate.row", "key")
        .finish(RUN)
        .exits_with(0);
}

/// The cleaned rows of one table of the batch leg, in the order of their offsets; null columns left out.
fn batch_rows(folder: &Path, table: &str) -> Vec<Row> {
    let objects = folder_objects(&folder.join("ottla-lake/posts"));
    let prefix = format!("cleaned/{UID}.{table}/partition=0/");
    let of_table = objects.iter().filter(|object| object.key.starts_with(&prefix));
    let parsed = |line: &str| -> Row { serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")) };
    of_table.flat_map(|object| object.text().lines()).map(parsed).map(without_nulls).collect()
}

/// The rows of one table of the streaming leg, in the order in which they were written.
fn streaming_rows(folder: &Path, table: &str) -> Vec<Row> {
    delta_log::rows(&folder.join(format!("ottla-lake/tables/{UID}_{table}_table")))
}

fn without_nulls(row: Row) -> Row {
    row.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, comparable(value))).collect()
}

/// A moment is written as `2018-03-20T12:00:00Z` by one and with a fraction or without the zone by another.
fn comparable(value: Value) -> Value {
    match value {
        Value::String(text) if is_moment(&text) => Value::String(text[..19].to_owned()),
        other => other,
    }
}

fn is_moment(text: &str) -> bool {
    let shape = |(place, byte): (usize, u8)| match place {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    text.len() >= 19
        && text.bytes().take(19).enumerate().all(shape)
        && text[19..].trim_matches(['.', '0', 'Z']).is_empty()
}

fn assert_the_same(rounds: usize, database: &str) {
    let folder = temp_dir();
    let (batch, streaming) = (folder.path().join("batch"), folder.path().join("streaming"));
    run("batch.toml", &batch, rounds, database);
    run("streaming.toml", &streaming, rounds, database);
    for table in ["pin", "geo", "user"] {
        let left = batch_rows(&batch, table);
        let right: Vec<Row> = streaming_rows(&streaming, table).into_iter().map(without_nulls).collect();
        assert_eq!(left.len(), rounds, "rows of {table} in the batch leg");
        let differ = left.iter().zip(&right).position(|(left, right)| left != right);
        assert!(
            differ.is_none() && left.len() == right.len(),
            "{table}: {} rows and {}; row {differ:?}: {:?} and {:?}",
            left.len(),
            right.len(),
            differ.map(|row| &left[row]),
            differ.map(|row| &right[row])
        );
    }
    let over_batch = answers(|table| batch.join(format!("ottla-lake/posts/cleaned/{UID}.{table}")));
    let over_streaming = answers(|table| streaming.join(format!("ottla-lake/tables/{UID}_{table}_table")));
    assert_eq!(over_batch, over_streaming, "answers over the batch leg and over the streaming leg");
}

/// What the ten questions answer over three tables.
fn answers(location: impl Fn(&str) -> PathBuf) -> String {
    let mut query = Ottla::new(["query", "--format", "csv", "-f", &example("questions").display().to_string()]);
    for table in ["pin", "geo", "user"] {
        query = query.arg("--table").arg(format!("{table}={}", location(table).display()));
    }
    let answers = query.finish(SOON).exits_with(0).stdout;
    assert!(answers.lines().count() > 100, "{answers}");
    answers
}

#[test]
fn generated_rows_come_out_of_both_legs_the_same() {
    assert_the_same(300, "emulator");
}

#[test]
fn real_rows_come_out_of_both_legs_the_same() {
    let Some(rows) = services::shared_data("real_rows_come_out_of_both_legs_the_same") else { return };
    let folder = temp_dir();
    let database = format!("sqlite://{}", folder.path().join("posts.sqlite").display());
    let load = Ottla::new(["demo", "load", "--url", &database, "--from", &rows.display().to_string()]);
    load.finish(SOON).exits_with(0);
    assert_the_same(998, &database);
}
