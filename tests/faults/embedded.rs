//! kill -9 of a whole pipeline on embedded topics and a folder: from drawing a post to its object, nothing is lost and
//! nothing doubled (G1 to G3).

use std::time::Duration;

use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::worker::{Ottla, topic_values};

use crate::dice::{Dice, rounds};

const CAUGHT_UP: Duration = Duration::from_secs(120);

#[test]
fn a_killed_pipeline_on_embedded_topics_loses_and_doubles_nothing() {
    let mut dice = Dice::of("a_killed_pipeline_on_embedded_topics_loses_and_doubles_nothing");
    let posts = Posts::emulated();
    for round in 0..rounds() {
        let folder = temp_dir();
        let lake = folder.path().join("lake");
        // One object for each record costs a disk flush each, so there are fewer of them.
        let (flush_size, emulated_rounds) = if round % 2 == 0 { (1, 300) } else { (500, 4000) };
        let by_the_clock = dice.coin();
        let pace = if dice.coin() { "none".to_owned() } else { format!("{}/s", emulated_rounds / 3) };
        let mut text = config::worker("embedded", &folder.path().join("state"))
            + &config::posts("demo", emulated_rounds).replace("\"none\"", &format!("\"{pace}\""))
            + &config::sink(
                "s3",
                &config::posts_regex("demo"),
                &format!("file:{}", lake.display()),
                "posts",
                flush_size,
            );
        if by_the_clock {
            text += "rotate.schedule.interval.ms = 200\n";
        }
        let file = config::write(folder.path(), "pipeline.toml", text);

        let mut story = format!(
            "{}\nround {round}: flush.size={flush_size}, pace {pace}, by the clock: {by_the_clock}",
            dice.replay()
        );
        for _ in 0..dice.number(2, 5) {
            let after = dice.millis(0, 1500);
            let mut running = Ottla::run([&file]).start();
            while running.age() < after && running.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(running.is_running(), "it ended before it was killed; {story}{}", running.report());
            running.kill_9();
            let objects = folder_objects(&lake.join("posts")).len();
            story += &format!("\n  killed after {} ms, with {objects} objects", after.as_millis());
        }
        let last = Ottla::run([&file]).until_caught_up().finish(CAUGHT_UP).exits_with(0);

        // First what lies in the topics: the draws, each once and in order, although drawing was cut off again and again.
        for (topic, rows) in [("demo.pin", &posts.pin), ("demo.geo", &posts.geo), ("demo.user", &posts.user)] {
            let expected: Vec<&str> = draws(emulated_rounds).iter().map(|draw| rows[draw].as_str()).collect();
            let found = topic_values(&folder.path().join("state"), topic, None);
            let differ = expected.iter().zip(&found).position(|(expected, found)| expected != found);
            assert!(
                differ.is_none() && found.len() == expected.len(),
                "{topic} holds {} records of {}, the first other one at {differ:?}; {story}{}",
                found.len(),
                expected.len(),
                last.report()
            );
        }
        // Then what became of them.
        let mut oracle = Oracle::new();
        posts.issue(&mut oracle, "demo", emulated_rounds);
        let seen = oracle.assert(&folder_objects(&lake.join("posts")), &(story.clone() + &last.report()));
        println!("{story}\n  {} records in {} objects", seen.records, seen.objects);
    }
}
