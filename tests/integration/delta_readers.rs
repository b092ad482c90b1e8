//! Delta tables as other programs see them: deltalake, DuckDB, polars and Spark read the very rows that were written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_tests::cleaning::{clean_geo, clean_pin, clean_user};
use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::posts::{Posts, parse};
use ottla_tests::python::{Reader, Seen, canonical_rows, read};
use ottla_tests::store::{S3, Store};
use ottla_tests::worker::{Finished, Ottla};
use ottla_tests::{temp_dir, unique};
use serde_json::json;

const RUN: Duration = Duration::from_secs(120);

/// The topics and tables of the leg, with the rows that a table must hold after so many rounds.
const TABLES: [&str; 3] = ["pin", "geo", "user"];

/// Emulated posts through embedded topics into three Delta tables, and beside them into JSON objects, both cleaned.
struct Leg {
    folder: tempfile::TempDir,
    store: Store,
    bucket: String,
    /// More options of the sink of the tables.
    options: String,
}

impl Leg {
    fn in_a_folder(options: &str) -> Self {
        let folder = temp_dir();
        let store = Store::Folder(folder.path().join("lake"));
        Self { folder, store, bucket: "lake".to_owned(), options: options.to_owned() }
    }

    fn on_s3(options: &str) -> Self {
        let (s3, bucket) = (S3::connect(), unique("tables"));
        s3.make_bucket(&bucket);
        Self { folder: temp_dir(), store: Store::S3(s3), bucket, options: options.to_owned() }
    }

    /// Runs until so many rounds, counted from the first run, have arrived.
    fn run(&self, rounds: usize) -> Finished {
        Ottla::run([self.configured(rounds)]).until_caught_up().s3_credentials().finish(RUN).exits_with(0)
    }

    fn configured(&self, rounds: usize) -> PathBuf {
        let cleaning = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/cleaning.toml");
        std::fs::copy(cleaning, self.folder.path().join("cleaning.toml")).expect("the chains can be copied");
        let regex = config::posts_regex("leg");
        let chains = "transforms = [\"clean-pin\", \"clean-geo\", \"clean-user\"]\n";
        let text = "include = [\"cleaning.toml\"]\n\n".to_owned()
            + &config::worker("embedded", &self.folder.path().join("state"))
            + &config::posts("leg", rounds)
            + &config::sink("objects", &regex, &self.store.url(), &self.bucket, 25)
            + "json.timestamp.format = \"iso\"\n"
            + chains
            + &format!(
                "
[connectors.tables]
connector.class = \"delta-sink\"
topics.regex = '{regex}'
store.url = \"{}\"
s3.bucket.name = \"{}\"
{}{chains}",
                self.store.url(),
                self.bucket,
                self.options
            );
        config::write(self.folder.path(), "leg.toml", text)
    }

    /// Runs for ever, until `done`, then ends in order.
    fn run_until(&self, rounds: usize, what: &str, done: impl Fn() -> bool) -> Finished {
        let mut running = Ottla::run([self.configured(rounds)]).s3_credentials().start();
        running.wait_until(what, RUN, |_| if done() { Ok(()) } else { Err("not yet".to_owned()) });
        running.stop().exits_with(0)
    }

    /// Where a reader finds a table.
    fn table(&self, of: &str) -> String {
        match &self.store {
            Store::Folder(root) => {
                root.join(&self.bucket).join("tables").join(format!("leg_{of}")).display().to_string()
            }
            Store::S3(_) => format!("s3://{}/tables/leg_{of}", self.bucket),
        }
    }

    /// Where Spark finds the JSON objects of a topic.
    fn objects(&self, of: &str) -> String {
        let root = match &self.store {
            Store::Folder(root) => root.join(&self.bucket).display().to_string(),
            Store::S3(_) => format!("s3://{}", self.bucket),
        };
        format!("json:{root}/topics/leg.{of}/partition=0/*.json")
    }

    /// The newest version of each table.
    fn versions(&self) -> Vec<u64> {
        let seen = read(Reader::Deltalake, &TABLES.map(|of| self.table(of)));
        seen.iter().map(|table| table.version.expect("a table has a version")).collect()
    }
}

/// The cleaned rows of the first rounds, in the form of the readers.
fn posted(of: &str, rounds: usize) -> Vec<String> {
    let posts = Posts::emulated();
    let lines: Vec<String> = draws(rounds)
        .into_iter()
        .map(|draw| match of {
            "pin" => clean_pin(&posts.pin[&draw]),
            "geo" => clean_geo(&posts.geo[&draw]),
            _ => clean_user(&posts.user[&draw]),
        })
        .collect();
    canonical_rows(lines.iter().map(String::as_str))
}

/// The columns of a table in the words of Delta's protocol.
fn columns(of: &str) -> serde_json::Value {
    match of {
        "pin" => json!({
            "ind": "long", "unique_id": "string", "title": "string", "description": "string", "follower_count": "long",
            "poster_name": "string", "tag_list": "string", "is_image_or_video": "string", "image_src": "string",
            "save_location": "string", "category": "string",
        }),
        "geo" => json!({
            "ind": "long", "country": "string",
            "coordinates": {"type": "array", "elementType": "double", "containsNull": true},
            "timestamp": "timestamp",
        }),
        _ => json!({"ind": "long", "user_name": "string", "age": "long", "date_joined": "timestamp"}),
    }
}

#[track_caller]
fn assert_rows(reader: Reader, place: &str, seen: &Seen, expected: &[String]) {
    assert_eq!(seen.rows, expected, "{reader:?} sees other rows in {place} (left) than were posted (right)");
}

/// Two runs, so that there are appends to a table that was loaded and not made. Every reader looks at the newest version and
/// at the last one of the first run.
fn every_reader_sees_what_was_posted(leg: &Leg) {
    let (first, all) = (60, 130);
    leg.run(first);
    let between = leg.versions();
    leg.run(all);
    let newest = leg.versions();

    for reader in Reader::ALL {
        let mut places: Vec<String> = TABLES.map(|of| leg.table(of)).to_vec();
        places.extend(TABLES.iter().zip(&between).map(|(of, version)| format!("{}@{version}", leg.table(of))));
        if reader == Reader::Spark {
            places.extend(TABLES.map(|of| leg.objects(of)));
        }
        let seen = read(reader, &places);
        for (number, of) in TABLES.into_iter().enumerate() {
            assert_rows(reader, &places[number], &seen[number], &posted(of, all));
            assert_eq!(seen[number].version, Some(newest[number]), "{reader:?} {of}");
            assert_rows(reader, &places[3 + number], &seen[3 + number], &posted(of, first));
            if let Some(objects) = seen.get(6 + number) {
                assert_rows(reader, &places[6 + number], objects, &posted(of, all));
            }
            if matches!(reader, Reader::Deltalake | Reader::Spark) {
                let types = serde_json::Value::Object(seen[number].columns.clone());
                assert_eq!(types, columns(of), "{reader:?} sees other columns of {of}");
            }
        }
    }
}

#[test]
fn deltalake_duckdb_polars_and_spark_see_the_posted_rows_in_a_folder() {
    every_reader_sees_what_was_posted(&Leg::in_a_folder("flush.size = 25\n"));
}

#[test]
fn deltalake_duckdb_polars_and_spark_see_the_posted_rows_on_s3() {
    every_reader_sees_what_was_posted(&Leg::on_s3("flush.size = 25\n"));
}

/// The commits of a table in a folder: version and content.
fn commits(table: &Path) -> Vec<(u64, PathBuf, String)> {
    let log = table.join("_delta_log");
    let names = std::fs::read_dir(&log).into_iter().flatten().map(|entry| entry.expect("the log can be listed").path());
    let mut commits: Vec<(u64, PathBuf, String)> = names
        .filter_map(|path| {
            let version = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
            let content = std::fs::read_to_string(&path).ok()?;
            Some((version, path, content))
        })
        .collect();
    commits.sort();
    commits
}

/// The version of the newest checkpoint.
fn checkpoint(table: &Path) -> Option<u64> {
    let told = std::fs::read_to_string(table.join("_delta_log/_last_checkpoint")).ok()?;
    parse(&told)["version"].as_u64()
}

/// Compaction puts the rows into other files, and a checkpoint takes the place of the commits before it: neither may change
/// what a reader sees, also where those commits are gone.
#[test]
fn readers_see_the_same_rows_after_compaction_and_through_a_checkpoint_alone() {
    let rounds = 240;
    // A checkpoint with every commit: who writes one also compacts.
    let mut leg = Leg::in_a_folder("checkpoint.commits = 1\ncompact.interval.ms = 500\n");
    let tables = TABLES.map(|of| PathBuf::from(leg.table(of)));
    let compacted = |table: &PathBuf| commits(table).iter().any(|(_, _, text)| text.contains("\"OPTIMIZE\""));
    leg.run(60);
    leg.run(120);
    let before: Vec<usize> = tables.iter().map(|table| commits(table).len()).collect();
    let grown = |(table, before): (&PathBuf, &usize)| commits(table).len() > *before && compacted(table);
    leg.run_until(180, "new rows in each table, and a compaction", || tables.iter().zip(&before).all(grown));
    // And commits that no checkpoint stands for.
    leg.options = "checkpoint.commits = 1000\n".to_owned();
    leg.run(rounds);

    let mut places: Vec<String> = TABLES.map(|of| leg.table(of)).to_vec();
    for (of, table) in TABLES.iter().zip(&tables) {
        let checkpoint = checkpoint(table).unwrap_or_else(|| panic!("{} has no checkpoint", table.display()));
        let copy = leg.folder.path().join(format!("without-commits-{of}"));
        copy_folder(table, &copy);
        let before: Vec<PathBuf> = commits(&copy)
            .into_iter()
            .filter(|(version, ..)| *version <= checkpoint)
            .map(|(_, path, _)| path)
            .collect();
        assert!(!before.is_empty(), "the checkpoint {checkpoint} of {of} stands for commits");
        for commit in before {
            std::fs::remove_file(commit).expect("a commit can be removed");
        }
        places.push(copy.display().to_string());
    }
    for reader in Reader::ALL {
        for ((place, seen), of) in places.iter().zip(read(reader, &places)).zip(TABLES.iter().cycle()) {
            assert_rows(reader, place, &seen, &posted(of, rounds));
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let path = entry.expect("the folder can be listed").path();
        let copy = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &copy);
        } else {
            std::fs::copy(&path, &copy).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

/// The draws repeat, so a table with one row for each number has fewer rows than there were posts.
#[test]
fn readers_see_one_row_for_each_key_after_upserts() {
    let rounds = 400;
    let leg = Leg::in_a_folder("flush.size = 50\ndelta.mode = \"upsert\"\nupsert.key = \"ind\"\n");
    leg.run(rounds / 2);
    leg.run(rounds);
    let places = TABLES.map(|of| leg.table(of));
    for reader in Reader::ALL {
        for (of, seen) in TABLES.iter().zip(read(reader, &places)) {
            let posts = posted(of, rounds);
            let distinct: Vec<String> = posts.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
            assert!(distinct.len() < posts.len(), "{rounds} rounds have no row twice: this would try nothing");
            assert_rows(reader, &leg.table(of), &seen, &distinct);
        }
    }
}
