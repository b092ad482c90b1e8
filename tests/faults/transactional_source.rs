//! kill -9, and a zombie, for sources that write into a real Kafka within transactions: a reader of committed records finds every
//! record once and in order. With offsets planted outside of the transactions the same checker finds what that does.

use std::time::{Duration, Instant};

use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::kafka::Kafka;
use ottla_tests::posts::Posts;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{LogLine, Ottla};
use ottla_tests::{services, temp_dir, unique};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::dice::{Dice, rounds};

const ROUNDS: usize = 1000;
const CAUGHT_UP: Duration = Duration::from_secs(120);

/// One source and its topics; more than one process may run it.
struct Stage {
    folder: tempfile::TempDir,
    prefix: String,
    offsets: String,
    boundary: &'static str,
}

impl Stage {
    fn new(boundary: &'static str) -> Self {
        let prefix = unique("once");
        let offsets = format!("{prefix}-offsets");
        let stage = Self { folder: temp_dir(), prefix, offsets, boundary };
        for topic in stage.topics() {
            Kafka::connect().make_topic(&topic, 1);
        }
        stage
    }

    fn topics(&self) -> [String; 3] {
        ["pin", "geo", "user"].map(|table| format!("{}.{table}", self.prefix))
    }

    /// A worker with a state folder of its own: all that it shares with others lies in Kafka.
    fn worker(&self, name: &str) -> Ottla {
        let text = config::worker(&services::kafka(), &self.folder.path().join(name))
            + &format!("group.id = \"{}\"\noffset.storage.topic = \"{}\"\n", self.prefix, self.offsets)
            + "offset.storage.partitions = 3\n"
            + &config::posts(&self.prefix, ROUNDS).replace("\"none\"", "\"500/s\"")
            + "exactly.once.support = \"required\"\nproducer.override.transaction.timeout.ms = 5000\n"
            + self.boundary;
        let file = config::write(self.folder.path(), &format!("{name}.toml"), text);
        Ottla::run([&file])
    }

    /// How many records a reader of committed records sees in all topics.
    fn count(&self) -> usize {
        self.topics().iter().map(|topic| read_committed(topic).len()).sum()
    }

    /// What is wrong with the topics; nothing where each holds its posts once and in order.
    fn check(&self, posts: &Posts) -> Result<usize, String> {
        let mut mistakes = String::new();
        for (topic, rows) in self.topics().iter().zip([&posts.pin, &posts.geo, &posts.user]) {
            let expected: Vec<&str> = draws(ROUNDS).iter().map(|draw| rows[draw].as_str()).collect();
            let found = read_committed(topic);
            if let Some(mistake) = difference(&expected, &found) {
                mistakes += &format!("\n  {topic}: {mistake}");
            }
        }
        if mistakes.is_empty() { Ok(3 * ROUNDS) } else { Err(mistakes) }
    }
}

/// Where the records found depart from the expected ones.
fn difference(expected: &[&str], found: &[String]) -> Option<String> {
    if found == expected {
        return None;
    }
    let same = expected.iter().zip(found).take_while(|(expected, found)| expected == found).count();
    let back = found.get(same).and_then(|value| expected[..same].iter().rposition(|earlier| earlier == value));
    let ahead = found.get(same).and_then(|value| expected[same..].iter().position(|later| later == value));
    Some(format!(
        "{} records for {}; number {same} is {}",
        found.len(),
        expected.len(),
        match (back, ahead) {
            _ if found.len() == same => "missing, and so is what follows".to_owned(),
            (_, Some(steps)) if found.len() < expected.len() => format!("the one {steps} later: some are lost"),
            (Some(place), _) => format!("number {place} once more: repeated"),
            (None, Some(steps)) => format!("the one {steps} later: out of order"),
            (None, None) => "none of the expected ones".to_owned(),
        }
    ))
}

#[test]
fn a_checker_of_sequences_knows_what_is_wrong() {
    let found = |found: &str| {
        let found: Vec<String> = found.split_whitespace().map(str::to_owned).collect();
        difference(&["a", "b", "c", "d"], &found)
    };
    assert_eq!(found("a b c d"), None);
    for (records, wrong) in [
        ("a b", "missing"),
        ("a b d", "lost"),
        ("a b c b c d", "number 1 once more"),
        ("a b c d d", "number 3 once more"),
        ("a c b d", "out of order"),
        ("a b c x", "none of the expected"),
    ] {
        let said = found(records).unwrap_or_default();
        assert!(said.contains(wrong), "{records}: {said}");
    }
}

/// The values of a topic's only partition, as a reader of committed records sees them.
fn read_committed(topic: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", services::kafka())
        .set("group.id", unique("reader"))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a reader");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("an assignment");
    let mut found = Vec::new();
    let deadline = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < deadline, "read {topic}: its end was not reached");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let value = message.payload().unwrap_or_default().to_vec();
                found.push(String::from_utf8(value).expect("a text"));
            }
            // Behind the last record lie markers of transactions, so no offset can say that this is all.
            Some(Err(KafkaError::PartitionEOF(_))) => return found,
            Some(Err(error)) => panic!("read {topic}: {error}"),
            None => {}
        }
    }
}

/// A connector has its offsets, and begins.
fn taken_over(line: &LogLine) -> bool {
    line.message().starts_with("taken over")
}

/// Each batch is a transaction; or what a fraction of a second brings.
fn boundary(dice: &mut Dice) -> &'static str {
    match dice.coin() {
        true => "",
        false => "transaction.boundary = \"interval\"\n\"transaction.boundary.interval.ms\" = 150\n",
    }
}

#[test]
fn a_killed_source_within_transactions_delivers_exactly_once() {
    let mut dice = Dice::of("a_killed_source_within_transactions_delivers_exactly_once");
    let posts = Posts::emulated();
    for round in 0..rounds() {
        let stage = Stage::new(boundary(&mut dice));
        let mut story = format!("{}\nround {round}, {:?}", dice.replay(), stage.boundary);
        for kill in 0..dice.number(2, 4) {
            // Its successor may run elsewhere, with an empty state folder.
            let worker = if dice.coin() { "one".to_owned() } else { format!("elsewhere-{kill}") };
            let mut running = stage.worker(&worker).start();
            // Now and then it dies while it takes over; mostly while it is writing.
            if dice.number(0, 3) > 0 {
                running.wait_for_log("the connector's start", SOON, taken_over);
            }
            let (from, after) = (running.age(), dice.millis(0, 900));
            while running.age() - from < after && running.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(running.is_running(), "it ended before it was killed; {story}{}", running.report());
            let age = running.age();
            running.kill_9();
            story += &format!("\n  {worker} killed after {} ms, {} records", age.as_millis(), stage.count());
        }
        let last = stage.worker("last").until_caught_up().finish(CAUGHT_UP).exits_with(0);
        match stage.check(posts) {
            Ok(records) => println!("{story}\n  {records} records, each once"),
            Err(mistakes) => panic!("{story}{mistakes}{}", last.report()),
        }
    }
}

#[test]
fn a_source_that_comes_back_as_a_zombie_writes_nothing_more() {
    let mut dice = Dice::of("a_source_that_comes_back_as_a_zombie_writes_nothing_more");
    let posts = Posts::emulated();
    for round in 0..rounds() {
        let stage = Stage::new(boundary(&mut dice));
        let mut story = format!("{}\nround {round}, {:?}", dice.replay(), stage.boundary);
        let mut zombie = stage.worker("zombie").start();
        zombie.wait_for_log("its start", SOON, taken_over);
        // It has work for five seconds.
        std::thread::sleep(dice.millis(100, 1500));
        zombie.freeze();
        // Now and then for longer than its transaction lasts.
        if dice.number(0, 2) == 0 {
            std::thread::sleep(Duration::from_millis(6000));
            story += "\n  frozen past its transaction's timeout";
        }
        let mut successor = stage.worker("successor").until_caught_up().start();
        successor.wait_for_log("the successor", SOON, taken_over);
        // It wakes up in the midst of its successor's work.
        std::thread::sleep(dice.millis(0, 800));
        zombie.go_on();
        let successor = successor.wait(CAUGHT_UP).exits_with(0);
        zombie.wait_for_log("that it hears of its successor", SOON, |line| {
            line.level() == "ERROR" && line.field("error").contains("another process runs connector")
        });
        // It does not come back: its pauses before a restart are shorter than this.
        std::thread::sleep(Duration::from_millis(2500));
        assert!(zombie.is_running(), "{}", zombie.report());
        let zombie = zombie.stop().exits_with(1);
        match stage.check(posts) {
            Ok(records) => println!("{story}\n  {records} records, each once"),
            Err(mistakes) => panic!("{story}{mistakes}{}{}", successor.report(), zombie.report()),
        }
    }
}

#[test]
fn the_checker_finds_offsets_outside_of_the_transaction() {
    let stage = Stage::new("");
    let mut first = stage.worker("one").env("OTTLA_FAULT_OFFSETS_OUTSIDE", "1").start();
    first.wait_for_log("its start", SOON, taken_over);
    // The bug holds offsets back for longer than this.
    std::thread::sleep(Duration::from_secs(1));
    let first = first.kill_9();
    let written = stage.count();
    assert!(written > 0, "nothing was written before the kill; {}", first.report());
    let second = stage.worker("one").until_caught_up().finish(CAUGHT_UP).exits_with(0);
    let mistakes = stage.check(Posts::emulated()).expect_err(&format!(
        "the checker found nothing wrong with offsets outside of the transaction; {}{}",
        first.report(),
        second.report()
    ));
    assert!(mistakes.contains("repeated"), "{mistakes}");
    println!("the planted bug was found: {mistakes}");
}
