//! Stopping and going on: an orderly stop at any moment loses nothing and repeats nothing.

use std::time::Duration;

use ottla_tests::config;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::wait::SOON;
use ottla_tests::worker::Ottla;

#[test]
fn what_a_stop_leaves_is_delivered_by_the_next_run() {
    const ROUNDS: usize = 120;
    let folder = temp_dir();
    let lake = folder.path().join("lake");
    let text = config::worker("embedded", &folder.path().join("state"))
        + &config::posts("demo", ROUNDS).replace("\"none\"", "\"50/s\"")
        + &config::sink("s3", &config::posts_regex("demo"), &format!("file:{}", lake.display()), "posts", 7);
    let file = config::write(folder.path(), "stop.toml", text);
    let count = || folder_objects(&lake.join("posts")).len();

    let mut reports = String::new();
    for at_least in [3, 12, 24] {
        let mut running = Ottla::run([&file]).start();
        running.wait_until("more objects", SOON, |_| {
            if count() >= at_least { Ok(()) } else { Err(format!("{}", count())) }
        });
        let stopped = running.stop().exits_with(0).reports("Done in");
        reports += &stopped.report();
        assert!(stopped.took < SOON);
    }
    let before = count();
    assert!(before < 3 * ROUNDS.div_ceil(7), "the stops came while there was work: {before} objects");

    let last = Ottla::run([&file]).until_caught_up().finish(SOON).exits_with(0);
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", ROUNDS);
    oracle.assert(&folder_objects(&lake.join("posts")), &(reports + &last.report()));
}

#[test]
fn a_run_for_a_time_ends_by_itself_and_in_order() {
    let folder = temp_dir();
    let text = config::worker("embedded", &folder.path().join("state")) + &config::posts("demo", 5);
    let file = config::write(folder.path(), "short.toml", text);
    let finished = Ottla::run([file]).arg("--until").arg("500ms").finish(SOON).exits_with(0);
    assert!(finished.took >= Duration::from_millis(500), "{:?}", finished.took);
}
