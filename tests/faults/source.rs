//! kill -9 of a source that writes into a real Kafka: nothing is lost and nothing changes places; only what a kill cut off may
//! be there twice (G1).

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::kafka::Kafka;
use ottla_tests::posts::Posts;
use ottla_tests::worker::Ottla;
use ottla_tests::{services, temp_dir, unique};

use crate::dice::{Dice, rounds};

const ROUNDS: usize = 1500;
const CAUGHT_UP: Duration = Duration::from_secs(120);

/// How often `found` must have gone back for it to be `expected` with repetitions; none where that can't be, because
/// something is missing, was never issued, or stands in another order.
fn times_gone_back(expected: &[&str], found: &[String]) -> Option<usize> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, value) in expected.iter().enumerate() {
        places.entry(value).or_default().push(place);
    }
    // Rows are drawn twice now and then, so there may be several ways to read a sequence: for each place that may come next,
    // the fewest steps back that lead there.
    let mut next = BTreeMap::from([(0, 0)]);
    let mut reached = 0;
    for value in found {
        let fewest = next.values().min().copied()?;
        let mut then = BTreeMap::new();
        for place in places.get(value.as_str())?.iter().filter(|place| **place <= reached) {
            let went_on = next.get(place).copied();
            let went_back = (*place < reached).then_some(fewest + 1);
            if let Some(steps) = went_on.into_iter().chain(went_back).min() {
                then.insert(place + 1, steps);
            }
        }
        reached = reached.max(then.keys().max().copied()?);
        next = then;
    }
    next.get(&expected.len()).copied()
}

#[test]
fn a_reader_of_sequences_knows_repetitions_from_losses() {
    let read = |found: &str| {
        let found: Vec<String> = found.split(' ').map(str::to_owned).collect();
        times_gone_back(&["a", "b", "c", "b", "d"], &found)
    };
    assert_eq!(read("a b c b d"), Some(0));
    assert_eq!(read("a b a b c b d"), Some(1));
    assert_eq!(read("a b c b b c b d"), Some(1));
    for wrong in ["a b c d", "a c b b d", "a b c b", "a b c b d x", "b c b d"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn a_killed_source_on_kafka_loses_nothing_and_keeps_the_order() {
    let mut dice = Dice::of("a_killed_source_on_kafka_loses_nothing_and_keeps_the_order");
    let posts = Posts::emulated();
    let kafka = Kafka::connect();
    for round in 0..rounds() {
        let folder = temp_dir();
        let prefix = unique("source");
        let text = config::worker(&services::kafka(), &folder.path().join("state"))
            + &config::posts(&prefix, ROUNDS).replace("\"none\"", "\"500/s\"");
        let file = config::write(folder.path(), "source.toml", text);
        let mut story = format!("{}\nround {round}", dice.replay());
        let kills = dice.number(2, 4);
        for _ in 0..kills {
            let after = dice.millis(0, 900);
            let mut running = Ottla::run([&file]).start();
            while running.age() < after && running.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(running.is_running(), "it ended before it was killed; {story}{}", running.report());
            running.kill_9();
            story += &format!("\n  killed after {} ms", after.as_millis());
        }
        let last = Ottla::run([&file]).until_caught_up().finish(CAUGHT_UP).exits_with(0);

        for (table, rows) in [("pin", &posts.pin), ("geo", &posts.geo), ("user", &posts.user)] {
            let expected: Vec<&str> = draws(ROUNDS).iter().map(|draw| rows[draw].as_str()).collect();
            let topic = format!("{prefix}.{table}");
            let found: Vec<String> = kafka.read(&topic).into_values().flatten().map(|record| record.text()).collect();
            let back = times_gone_back(&expected, &found);
            assert!(
                back.is_some_and(|times| times <= kills),
                "{topic} holds {} records for {} draws, and went back {back:?} times for {kills} kills; {story}{}",
                found.len(),
                expected.len(),
                last.report()
            );
            story += &format!("\n  {topic}: {} records for {ROUNDS} draws", found.len());
        }
        println!("{story}");
    }
}
