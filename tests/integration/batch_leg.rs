//! The batch leg on embedded topics and a folder: posts of three tables become objects, each record once.

use std::path::Path;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::log_watch::only_announced;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::store::{Object, folder_objects};
use ottla_tests::temp_dir;
use ottla_tests::worker::{Finished, Ottla};

/// How long a run of some dozens of rounds may take on a busy machine.
const RUN: Duration = Duration::from_secs(60);

fn run(folder: &Path, rounds: usize, flush_size: usize) -> Finished {
    let store = format!("file:{}", folder.join("lake").display());
    let text = config::worker("embedded", &folder.join("state"))
        + &config::posts("demo", rounds)
        + &config::sink("s3", &config::posts_regex("demo"), &store, "posts", flush_size);
    Ottla::run([config::write(folder, "batch.toml", text)]).until_caught_up().finish(RUN).exits_with(0)
}

fn objects(folder: &Path) -> Vec<Object> {
    folder_objects(&folder.join("lake/posts"))
}

#[test]
fn every_post_is_an_object_of_its_own_with_flush_size_1() {
    let folder = temp_dir();
    let finished = run(folder.path(), 50, 1);
    only_announced(&finished.log(), &[]);

    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", 50);
    let seen = oracle.assert(&objects(folder.path()), &finished.report());
    assert_eq!((seen.objects, seen.records), (150, 150));

    let first = objects(folder.path()).into_iter().find(|object| object.key.contains("demo.geo")).expect("an object");
    assert_eq!(first.key, "topics/demo.geo/partition=0/demo.geo+0+0000000000.json");
    assert!(first.text().starts_with("{\"ind\":7528,\"timestamp\":\""), "{first:?}");
}

#[test]
fn objects_hold_flush_size_records_and_the_last_one_the_rest() {
    let folder = temp_dir();
    let finished = run(folder.path(), 50, 7);
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", 50);
    oracle.assert(&objects(folder.path()), &finished.report());

    let of_geo = objects(folder.path()).into_iter().filter(|object| object.key.contains("demo.geo"));
    let sizes: Vec<usize> = of_geo.map(|object| object.text().lines().count()).collect();
    assert_eq!(sizes, [7, 7, 7, 7, 7, 7, 7, 1]);
}

#[test]
fn the_table_at_the_end_says_what_moved_and_where_it_lies() {
    let folder = temp_dir();
    let finished = run(folder.path(), 50, 7);
    let lies = format!("s3: data lies in file:{}", folder.path().join("lake/posts/topics").display());
    let finished = finished.reports(&lies);
    // 150 records read and written; 8 objects for each of the three topics.
    let row =
        finished.stdout.lines().find(|line| line.trim_start().starts_with("s3 ")).expect("a row for s3").to_owned();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..6], ["s3", "150", "0", "0", "150", "24"], "{row}");
    // The first line of one object of each topic.
    for (topic, start) in [("pin", "{\"index\":7528,"), ("geo", "{\"ind\":7528,"), ("user", "{\"ind\":7528,")] {
        let place = format!("demo.{topic}/partition=0/demo.{topic}+0+0000000000.json");
        let at = finished.stdout.find(&place).unwrap_or_else(|| panic!("{place} is not shown; {}", finished.report()));
        assert!(finished.stdout[at..].lines().nth(1).is_some_and(|line| line.contains(start)), "{}", finished.report());
    }
}

#[test]
fn a_second_run_moves_nothing_once_the_rounds_are_done() {
    let folder = temp_dir();
    run(folder.path(), 50, 7);
    let before = objects(folder.path());
    let again = run(folder.path(), 50, 7);
    assert_eq!(objects(folder.path()), before);
    let posts =
        again.stdout.lines().find(|line| line.trim_start().starts_with("posts ")).expect("a row for posts").to_owned();
    assert_eq!(posts.split_whitespace().nth(2), Some("0"), "{posts}");
}

#[test]
fn a_second_run_with_more_rounds_goes_on_after_the_last_draw() {
    let folder = temp_dir();
    run(folder.path(), 30, 1);
    let finished = run(folder.path(), 50, 1);
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", 50);
    let seen = oracle.assert(&objects(folder.path()), &finished.report());
    assert_eq!(seen.objects, 150);
}

#[test]
fn files_are_finished_by_the_clock_where_a_schedule_is_set() {
    let folder = temp_dir();
    let store = format!("file:{}", folder.path().join("lake").display());
    let text = config::worker("embedded", &folder.path().join("state"))
        + &config::posts("demo", 40)
        + &config::sink("s3", &config::posts_regex("demo"), &store, "posts", 1_000_000)
        + "rotate.schedule.interval.ms = 200\n";
    let file = config::write(folder.path(), "clock.toml", text);
    // It is not told to catch up: only the clock can finish a file here.
    let mut running = Ottla::run([file]).start();
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", 40);
    running.wait_until("all records in objects", RUN, |_| {
        oracle.check(&objects(folder.path())).map_err(|mistakes| mistakes.to_string())
    });
    running.stop().exits_with(0);
}

#[test]
fn the_commented_example_runs_as_it_is() {
    let folder = temp_dir();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/batch.toml");
    let finished = Ottla::run([example]).in_dir(folder.path()).finish(Duration::from_secs(120)).exits_with(0);
    let mut oracle = Oracle::in_dir("topics");
    Posts::emulated().issue(&mut oracle, "0a4e65e909bd", 1000);
    let lake = folder_objects(&folder.path().join("ottla-lake/posts"));
    let seen = oracle.assert(&lake, &finished.report());
    assert_eq!((seen.objects, seen.records), (30, 3000));
}
