//! kill -9 and zombies on the way into Delta tables, from Kinesis through embedded topics and from Kafka: nothing is lost,
//! nothing doubled, and each key keeps its order, while shards split and merge (G1 to G4).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_tests::delta_log;
use ottla_tests::kafka::Kafka;
use ottla_tests::sequences::{self, Mistakes};
use ottla_tests::stream::Kinesis;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{Finished, LogLine, Ottla, Running};
use ottla_tests::{config, free_port, services, temp_dir, unique};

use crate::dice::{Dice, rounds};

const CAUGHT_UP: Duration = Duration::from_secs(180);
const KEYS: usize = 16;
const PARTITIONS: i32 = 4;

/// The Kinesis that this project brings, in a process of its own that nobody kills.
struct Server {
    _running: Running,
    endpoint: String,
    kinesis: Arc<Kinesis>,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let text = config::worker("embedded", &folder.join("server")) + &format!("kinesis.listener = \"{address}\"\n");
        let file = config::write(folder, "server.toml", text);
        let mut running = Ottla::run([file]).start();
        running.wait_for_log("the listener", SOON, |line| line.message().contains("serving Kinesis"));
        let endpoint = format!("http://{address}");
        Self { _running: running, kinesis: Arc::new(Kinesis::connect(&endpoint)), endpoint }
    }
}

/// Somebody who writes known records until told to stop, and then says how many of each sequence there are.
struct Issuer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, i64>>,
}

impl Issuer {
    /// Calls `issue` until told to stop, and then once `finish`.
    fn start(
        mut issue: impl FnMut(&mut BTreeMap<String, i64>) + Send + 'static,
        finish: impl FnOnce() + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut lengths = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                issue(&mut lengths);
            }
            finish();
            lengths
        });
        Self { stop, thread }
    }

    /// Puts records into a stream, and now and then splits or merges its shards.
    fn into_stream(kinesis: &Arc<Kinesis>, stream: &str, mut dice: Dice) -> Self {
        let (kinesis, stream) = (Arc::clone(kinesis), stream.to_owned());
        let issue = move |lengths: &mut BTreeMap<String, i64>| {
            let batch: Vec<(String, String)> = (0..dice.number(1, 60))
                .map(|_| {
                    let key = format!("key-{}", dice.number(0, KEYS - 1));
                    let number = lengths.entry(key.clone()).or_default();
                    *number += 1;
                    let data = sequences::row(&key, *number - 1);
                    (key, data)
                })
                .collect();
            kinesis.put(&stream, &batch);
            if dice.number(0, 24) == 0 {
                let shards = kinesis.open_shards(&stream);
                if shards.len() < 2 || (shards.len() < 6 && dice.coin()) {
                    kinesis.split(&stream, &shards[dice.number(0, shards.len() - 1)]);
                } else {
                    kinesis.merge(&stream);
                }
            }
            std::thread::sleep(dice.millis(2, 20));
        };
        Self::start(issue, || {})
    }

    /// Writes into all partitions of a Kafka topic, which are its sequences.
    fn into_topic(kafka: &Kafka, topic: &str, per_second: u64) -> Self {
        let (producer, topic) = (Arc::new(kafka.producer()), topic.to_owned());
        let last = Arc::clone(&producer);
        let issue = move |lengths: &mut BTreeMap<String, i64>| {
            for partition in 0..PARTITIONS {
                let sequence = format!("{topic}-{partition}");
                let number = lengths.entry(sequence.clone()).or_default();
                producer.send(&topic, partition, Some("key"), sequences::row(&sequence, *number).as_bytes());
                *number += 1;
            }
            std::thread::sleep(Duration::from_micros(1_000_000 / per_second));
        };
        Self::start(issue, move || last.flush())
    }

    fn finish(self) -> BTreeMap<String, i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("everything was written")
    }
}

/// A sink of these topics into tables below a folder. Small commits, so that there are many to be killed in.
fn delta_sink(name: &str, topics: &str, lake: &Path, flush_size: usize) -> String {
    format!(
        "
[connectors.{name}]
connector.class = \"delta-sink\"
topics = \"{topics}\"
store.url = \"file:{}\"
flush.size = {flush_size}
flush.interval.ms = 150
",
        lake.display()
    )
}

/// A source of one stream into one topic, through the listener of another process.
fn kinesis_source(stream: &str, endpoint: &str, topic: &str) -> String {
    format!(
        "
[connectors.stream]
connector.class = \"kinesis-source\"
kinesis.stream = \"{stream}\"
kinesis.endpoint = \"{endpoint}\"
kinesis.region = \"us-east-1\"
aws.access.key.id = \"test\"
aws.secret.key.id = \"test\"
kafka.topic = \"{topic}\"
value.converter = \"bytes\"
tasks.max = 2
"
    )
}

/// Where the only table below a lake is: named like its topic, with what does not belong into a name replaced.
fn table(lake: &Path, topic: &str) -> std::path::PathBuf {
    lake.join("tables").join(topic.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

fn checked(lake: &Path, topic: &str, lengths: &BTreeMap<String, i64>) -> Result<usize, Mistakes> {
    sequences::check(&delta_log::rows(&table(lake, topic)), lengths)
}

fn assert_whole(lake: &Path, topic: &str, lengths: &BTreeMap<String, i64>, story: &str, last: &Finished) {
    match checked(lake, topic, lengths) {
        Ok(rows) => {
            let commits = delta_log::log(&table(lake, topic)).appends;
            println!("{story}\n  {rows} rows in {commits} commits");
        }
        Err(mistakes) => panic!("{mistakes}\n{story}{}", last.report()),
    }
}

/// Starts the worker and kills it at some moment, a few times over.
fn kill_again_and_again(dice: &mut Dice, run: &Ottla, story: &mut String) {
    for _ in 0..dice.number(2, 4) {
        let after = dice.millis(0, 1500);
        let mut running = run.start();
        // Now and then it dies while it is starting up; mostly while it is writing.
        if dice.number(0, 3) > 0 {
            running.wait_for_log("an assignment", SOON, assigned);
        }
        let from = running.age();
        while running.age() - from < after && running.is_running() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(running.is_running(), "it ended before it was killed; {story}{}", running.report());
        let age = running.age();
        running.kill_9();
        *story += &format!("\n  killed after {} ms", age.as_millis());
    }
}

fn assigned(line: &LogLine) -> bool {
    line.message() == "assigned"
}

/// Where the topics between Kinesis and Delta lie.
#[derive(Clone, Copy, PartialEq)]
enum Through {
    Embedded,
    /// With transactions: records and shard positions are one of them.
    Kafka,
}

fn kill_between_kinesis_and_delta(test: &'static str, through: Through) {
    let mut dice = Dice::of(test);
    let server_folder = temp_dir();
    let server = Server::start(server_folder.path());
    for round in 0..rounds() {
        let folder = temp_dir();
        let lake = folder.path().join("lake");
        let stream = unique("killed");
        server.kinesis.make_stream(&stream, dice.number(1, 3) as i32);
        let flush_size = if round % 2 == 0 { 40 } else { 1000 };
        let partitions = dice.number(1, 4);
        let source = kinesis_source(&stream, &server.endpoint, &stream)
            .replace("[connectors.stream]", &format!("[connectors.{stream}]"));
        let text = match through {
            Through::Embedded => {
                config::worker("embedded", &folder.path().join("state"))
                    + &format!("embedded.partitions = {partitions}\n")
                    + &source
            }
            Through::Kafka => {
                Kafka::connect().make_topic(&stream, partitions as i32);
                config::worker(&services::kafka(), &folder.path().join("state"))
                    + &source
                    + "exactly.once.support = \"required\"\n"
            }
        };
        let text = text + &delta_sink(&unique("lake"), &stream, &lake, flush_size) + "tasks.max = 2\n";
        let file = config::write(folder.path(), "pipeline.toml", text);
        let run = Ottla::run([&file]);
        let mut story = format!("{}\nround {round}: flush.size={flush_size}, {partitions} partitions", dice.replay());
        let issuer = Issuer::into_stream(&server.kinesis, &stream, dice.fork());
        kill_again_and_again(&mut dice, &run, &mut story);
        let lengths = issuer.finish();
        story += &format!("\n  {} shards at the end", server.kinesis.shards(&stream).len());
        let last = run.until_caught_up().finish(CAUGHT_UP).exits_with(0);
        assert_whole(&lake, &stream, &lengths, &story, &last);
        server.kinesis.delete_stream(&stream);
    }
}

#[test]
fn a_killed_pipeline_from_kinesis_to_delta_loses_and_doubles_nothing() {
    let test = "a_killed_pipeline_from_kinesis_to_delta_loses_and_doubles_nothing";
    kill_between_kinesis_and_delta(test, Through::Embedded);
}

#[test]
fn a_killed_pipeline_from_kinesis_through_kafka_to_delta_loses_and_doubles_nothing() {
    let test = "a_killed_pipeline_from_kinesis_through_kafka_to_delta_loses_and_doubles_nothing";
    kill_between_kinesis_and_delta(test, Through::Kafka);
}

#[test]
fn a_killed_sink_from_kafka_to_delta_loses_and_doubles_nothing() {
    let mut dice = Dice::of("a_killed_sink_from_kafka_to_delta_loses_and_doubles_nothing");
    let kafka = Kafka::connect();
    for round in 0..rounds() {
        let folder = temp_dir();
        let lake = folder.path().join("lake");
        let topic = unique("killed");
        kafka.make_topic(&topic, PARTITIONS);
        let flush_size = if round % 2 == 0 { 20 } else { 1000 };
        let text = config::worker(&services::kafka(), &folder.path().join("state"))
            + &delta_sink(&unique("lake"), &topic, &lake, flush_size)
            + "tasks.max = 2\n";
        let file = config::write(folder.path(), "sink.toml", text);
        let run = Ottla::run([&file]);
        let mut story = format!("{}\nround {round}: flush.size={flush_size}", dice.replay());
        let issuer = Issuer::into_topic(&kafka, &topic, 300);
        kill_again_and_again(&mut dice, &run, &mut story);
        let lengths = issuer.finish();
        let last = run.until_caught_up().finish(CAUGHT_UP).exits_with(0);
        assert_whole(&lake, &topic, &lengths, &story, &last);
    }
}

/// How many rows each partition of a topic has in the table, by the transactions in its log.
fn positions(lake: &Path, topic: &str) -> BTreeMap<String, i64> {
    let transactions = delta_log::log(&table(lake, topic)).transactions;
    transactions.into_iter().filter(|(id, _)| !id.contains('#')).collect()
}

#[test]
fn a_zombie_from_kafka_to_delta_loses_and_doubles_nothing() {
    let mut dice = Dice::of("a_zombie_from_kafka_to_delta_loses_and_doubles_nothing");
    let kafka = Kafka::connect();
    for round in 0..rounds() {
        let folder = temp_dir();
        let lake = folder.path().join("lake");
        let (topic, name) = (unique("zombie"), unique("lake"));
        kafka.make_topic(&topic, PARTITIONS);
        let issuer = Issuer::into_topic(&kafka, &topic, 200);
        let sink = delta_sink(&name, &topic, &lake, 100)
            + "consumer.override.session.timeout.ms = 2000
consumer.override.heartbeat.interval.ms = 300
";
        let start = |worker: &str| -> (Ottla, Running) {
            let text = config::worker(&services::kafka(), &folder.path().join(worker)) + &sink;
            let file = config::write(folder.path(), &format!("{worker}.toml"), text);
            let run = Ottla::run([file]);
            let running = run.start();
            (run, running)
        };
        let (run, mut one) = start("one");
        let (_, mut other) = start("other");
        one.wait_for_log("an assignment of the first worker", SOON, assigned);
        other.wait_for_log("an assignment of the second worker", SOON, assigned);

        let mut story = format!("{}\nround {round}", dice.replay());
        for _ in 0..2 {
            // At any moment of its commits.
            let (frozen, awake) = if dice.coin() { (&mut one, &mut other) } else { (&mut other, &mut one) };
            std::thread::sleep(dice.millis(0, 700));
            frozen.freeze();
            let before = positions(&lake, &topic);
            // Until somebody else has moved every partition on, twice: the frozen one has lost its own to others.
            for _ in 0..2 {
                let from = positions(&lake, &topic);
                awake.wait_until("commits by the worker that is awake", SOON, |_| {
                    let now = positions(&lake, &topic);
                    let all_moved = now.len() == PARTITIONS as usize
                        && now.iter().all(|(id, position)| from.get(id).is_none_or(|before| position > before));
                    if all_moved { Ok(()) } else { Err(format!("{from:?}, now {now:?}")) }
                });
            }
            let after = positions(&lake, &topic);
            frozen.go_on();
            std::thread::sleep(dice.millis(0, 1500));
            story += &format!("\n  frozen at {before:?}, woken at {after:?}");
            assert!(one.is_running() && other.is_running(), "{story}{}{}", one.report(), other.report());
        }
        let reports = one.stop().exits_with(0).report() + &other.stop().exits_with(0).report();
        let lengths = issuer.finish();
        let last = run.until_caught_up().finish(CAUGHT_UP).exits_with(0);
        assert_whole(&lake, &topic, &lengths, &(story + &reports), &last);
    }
}

/// On embedded topics the state folder is the fence: nobody else gets in while a frozen worker holds it, and a worker with
/// another folder is refused by the table, because its offsets mean other records.
#[test]
fn a_zombie_from_kinesis_to_delta_loses_and_doubles_nothing() {
    let mut dice = Dice::of("a_zombie_from_kinesis_to_delta_loses_and_doubles_nothing");
    let server_folder = temp_dir();
    let server = Server::start(server_folder.path());
    for round in 0..rounds() {
        let folder = temp_dir();
        let lake = folder.path().join("lake");
        let stream = unique("zombie");
        server.kinesis.make_stream(&stream, 2);
        let pipeline = |state: &str| {
            let text = config::worker("embedded", &folder.path().join(state))
                + &kinesis_source(&stream, &server.endpoint, "events")
                + &delta_sink("lake", "events", &lake, 50);
            Ottla::run([config::write(folder.path(), &format!("{state}.toml"), text)])
        };
        let issuer = Issuer::into_stream(&server.kinesis, &stream, dice.fork());
        let mut zombie = pipeline("state").start();
        zombie.wait_until("rows in the table", SOON, |_| match positions(&lake, "events") {
            none if none.is_empty() => Err("none".to_owned()),
            _ => Ok(()),
        });
        std::thread::sleep(dice.millis(0, 700));
        zombie.freeze();
        let frozen_at = positions(&lake, "events");
        let mut story = format!("{}\nround {round}: frozen at {frozen_at:?}", dice.replay());
        // The same folder: somebody is in there.
        let refused = pipeline("state").until_caught_up().finish(SOON);
        assert_ne!(refused.code, Some(0), "{story}{}", refused.report());
        assert!(refused.stderr.contains("in use"), "{story}{}", refused.report());
        // Another folder, as after a restore on another machine: its topics are not those whose offsets the table holds.
        let refused = pipeline("other-state").until_caught_up().finish(SOON);
        assert_eq!(refused.code, Some(1), "{story}{}", refused.report());
        assert!(refused.stderr.contains("delta.app.id"), "{story}{}", refused.report());
        assert_eq!(positions(&lake, "events"), frozen_at, "{story}{}", refused.report());

        zombie.go_on();
        zombie.wait_until("commits after the thaw", SOON, |_| {
            let now = positions(&lake, "events");
            if now != frozen_at { Ok(()) } else { Err(format!("{now:?}")) }
        });
        story += &format!("\n  went on to {:?}", positions(&lake, "events"));
        let report = zombie.kill_9().report();
        let lengths = issuer.finish();
        let last = pipeline("state").until_caught_up().finish(CAUGHT_UP).exits_with(0);
        assert_whole(&lake, "events", &lengths, &(story + &report), &last);
        server.kinesis.delete_stream(&stream);
    }
}

/// The checker is checked: a sink that does not look at the positions in the table before it commits, killed between its
/// commit and the group's.
fn die_before_the_group_commits(planted: bool) -> (Result<usize, Mistakes>, String) {
    let folder = temp_dir();
    let lake = folder.path().join("lake");
    // A batch of the broker's, of up to 500 records, is one commit at least.
    let rows = 10_000;
    let state = folder.path().join("state");
    let text = config::worker("embedded", &state).replace("ms = 200\n", "ms = 3600000\n")
        + &format!(
            "
[connectors.lines]
connector.class = \"file-source\"
file = \"{}\"
topic = \"events\"
value.converter = \"string\"
",
            folder.path().join("rows.jsonl").display()
        )
        + &delta_sink("lake", "events", &lake, 100);
    let lines: Vec<String> = (0..rows).map(|number| sequences::row("all", number)).collect();
    config::write(folder.path(), "rows.jsonl", lines.join("\n") + "\n");
    let file = config::write(folder.path(), "pipeline.toml", text);
    let run = || {
        let run = Ottla::run([&file]);
        if planted { run.env("OTTLA_FAULT_SKIP_POSITION_CHECK", "1") } else { run }
    };
    let mut first = run().start();
    first.wait_until("three commits", SOON, |_| match delta_log::log(&table(&lake, "events")).appends {
        few @ 0..3 => Err(few.to_string()),
        _ => Ok(()),
    });
    let first = first.kill_9();
    let second = run().until_caught_up().finish(SOON * 2).exits_with(0);
    let lengths = BTreeMap::from([("all".to_owned(), rows)]);
    (checked(&lake, "events", &lengths), first.report() + &second.report())
}

#[test]
fn the_checker_finds_a_sink_that_does_not_look_before_it_commits() {
    let (found, report) = die_before_the_group_commits(true);
    let mistakes = found.expect_err(&format!("the checker found nothing wrong; {report}"));
    assert!(mistakes.duplicated > 0, "{mistakes}; {report}");
    println!("the planted bug was found: {mistakes}");
}

#[test]
fn a_sink_that_looks_before_it_commits_survives_the_same_story() {
    let (found, report) = die_before_the_group_commits(false);
    if let Err(mistakes) = found {
        panic!("{mistakes}; {report}");
    }
}
