//! The checker is checked: with a bug planted into the product (objects are overwritten, existing ones not looked at), the
//! same oracle that guards the other tests must find it.

use ottla_tests::config;
use ottla_tests::oracle::{Mistakes, Oracle, Seen};
use ottla_tests::posts::Posts;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::wait::SOON;
use ottla_tests::worker::Ottla;

const ROUNDS: usize = 150;

/// A worker dies between making objects durable and committing their offsets, and its successor cuts files elsewhere.
///
/// The first one cuts by the clock while posts trickle in, and never gets to commit. The second one finds all posts at
/// once, so its first file would be longer than the first one's.
fn die_before_the_commit(planted: bool) -> (Result<Seen, Mistakes>, String) {
    let folder = temp_dir();
    let lake = folder.path().join("lake");
    let text = config::worker("embedded", &folder.path().join("state")).replace("ms = 200\n", "ms = 3600000\n")
        + &config::posts("demo", ROUNDS).replace("\"none\"", "\"50/s\"")
        + &config::sink("s3", &config::posts_regex("demo"), &format!("file:{}", lake.display()), "posts", 1_000_000)
        + "rotate.schedule.interval.ms = 200\n"
        // The bug shows in the sink's own probe, which would refuse to start.
        + "exactly.once.required = false\n";
    let file = config::write(folder.path(), "pipeline.toml", text);
    let run = || {
        let run = Ottla::run([&file]);
        if planted { run.env("OTTLA_FAULT_OVERWRITE", "1") } else { run }
    };

    let mut first = run().start();
    first.wait_until("three objects of a topic", SOON, |_| {
        let objects = folder_objects(&lake.join("posts"));
        let of_one = objects.iter().filter(|object| object.key.contains("demo.geo")).count();
        if of_one >= 3 { Ok(()) } else { Err(format!("{of_one}")) }
    });
    let first = first.kill_9();
    let second = run().until_caught_up().finish(SOON * 2).exits_with(0);

    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", ROUNDS);
    (oracle.check(&folder_objects(&lake.join("posts"))), first.report() + &second.report())
}

#[test]
fn the_checker_finds_a_planted_overwrite() {
    let (found, report) = die_before_the_commit(true);
    let mistakes =
        found.expect_err(&format!("the checker found nothing wrong with objects that were overwritten; {report}"));
    assert!(mistakes.duplicated + mistakes.lost > 0, "{mistakes}; {report}");
    println!("the planted bug was found: {mistakes}");
}

#[test]
fn without_the_planted_bug_the_same_story_ends_well() {
    let (found, report) = die_before_the_commit(false);
    if let Err(mistakes) = found {
        panic!("{mistakes}; {report}");
    }
}
