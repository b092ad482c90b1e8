//! A real Kafka and an S3 endpoint, while somebody else goes on producing: killed workers, and zombies (G2 to G4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::kafka::Kafka;
use ottla_tests::oracle::Oracle;
use ottla_tests::services;
use ottla_tests::store::S3;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{LogLine, Ottla, Running};
use ottla_tests::{temp_dir, unique};

use crate::dice::{Dice, rounds};

const PARTITIONS: i32 = 4;
const CAUGHT_UP: Duration = Duration::from_secs(120);

/// An independent producer that writes known records into all partitions of a topic until it is told to stop.
struct Issuer {
    topic: String,
    stop: Arc<AtomicBool>,
    /// Gives how many records each partition got.
    thread: JoinHandle<i64>,
}

fn line(topic: &str, partition: i32, number: i64) -> String {
    // Some are short, some are long, none is like another.
    let pad = "x".repeat((number as usize * 37 + partition as usize * 11) % 300);
    format!("{{\"topic\":\"{topic}\",\"partition\":{partition},\"number\":{number},\"pad\":\"{pad}\"}}")
}

impl Issuer {
    /// Begins to write so many records a second into each partition.
    fn start(kafka: &Kafka, per_second: u64) -> Self {
        let topic = unique("issued");
        kafka.make_topic(&topic, PARTITIONS);
        let stop = Arc::new(AtomicBool::new(false));
        let (producer, stopped, to) = (kafka.producer(), Arc::clone(&stop), topic.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                for partition in 0..PARTITIONS {
                    producer.send(&to, partition, Some("key"), line(&to, partition, number).as_bytes());
                }
                number += 1;
                std::thread::sleep(Duration::from_micros(1_000_000 / per_second));
            }
            producer.flush();
            number
        });
        Self { topic, stop, thread }
    }

    /// Ends the writing, and checks that the topic holds what was written: what follows judges the worker, not the producer.
    fn finish(self, kafka: &Kafka) -> Oracle {
        self.stop.store(true, Ordering::Relaxed);
        let issued = self.thread.join().expect("the producer wrote everything");
        let mut oracle = Oracle::new();
        for ((topic, partition), records) in kafka.read(&self.topic) {
            assert_eq!(records.len() as i64, issued, "records in {topic}-{partition}");
            for (number, record) in (0..).zip(records) {
                assert_eq!(record.text(), line(&topic, partition, number), "{topic}-{partition}@{}", record.offset);
                oracle.issue(&topic, partition, record.offset, record.text());
            }
        }
        oracle
    }
}

#[test]
fn a_killed_sink_on_kafka_and_s3_loses_and_doubles_nothing() {
    let mut dice = Dice::of("a_killed_sink_on_kafka_and_s3_loses_and_doubles_nothing");
    let (kafka, s3) = (Kafka::connect(), S3::connect());
    for round in 0..rounds() {
        let folder = temp_dir();
        let (bucket, name) = (unique("killed"), unique("s3"));
        s3.make_bucket(&bucket);
        let (flush_size, per_second) = if round % 2 == 0 { (1, 40) } else { (500, 1000) };
        let issuer = Issuer::start(&kafka, per_second);
        let mut text = config::worker(&services::kafka(), &folder.path().join("state"))
            + &config::sink(&name, &issuer.topic, &services::s3(), &bucket, flush_size)
            + "tasks.max = 2\n";
        let by_the_clock = flush_size > 1 && dice.coin();
        if by_the_clock {
            text += "rotate.schedule.interval.ms = 200\n";
        }
        let file = config::write(folder.path(), "sink.toml", text);
        let mut story =
            format!("{}\nround {round}: flush.size={flush_size}, by the clock: {by_the_clock}", dice.replay());
        for _ in 0..dice.number(2, 4) {
            let after = dice.millis(0, 1500);
            let mut running = Ottla::run([&file]).s3_credentials().start();
            // Now and then it dies while it is starting up; mostly while it is writing.
            if dice.number(0, 3) > 0 {
                running.wait_for_log("an assignment", SOON, |line| line.message() == "assigned");
            }
            let from = running.age();
            while running.age() - from < after && running.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(running.is_running(), "it ended before it was killed; {story}{}", running.report());
            let age = running.age();
            running.kill_9();
            story += &format!("\n  killed after {} ms, with {} objects", age.as_millis(), s3.count(&bucket));
        }
        let oracle = issuer.finish(&kafka);
        let last = Ottla::run([&file]).s3_credentials().until_caught_up().finish(CAUGHT_UP).exits_with(0);
        let seen = oracle.assert(&s3.objects(&bucket), &(story.clone() + &last.report()));
        println!("{story}\n  {} records in {} objects", seen.records, seen.objects);
    }
}

/// The offset up to which each partition is committed; 0 where nothing is.
fn committed(kafka: &Kafka, name: &str, topic: &str) -> Vec<i64> {
    let known = kafka.committed(&format!("connect-{name}"), topic, PARTITIONS);
    (0..PARTITIONS).map(|partition| known.get(&partition).copied().unwrap_or(0)).collect()
}

fn assigned(line: &LogLine) -> bool {
    line.message() == "assigned"
}

#[test]
fn a_worker_that_comes_back_as_a_zombie_loses_and_doubles_nothing() {
    let mut dice = Dice::of("a_worker_that_comes_back_as_a_zombie_loses_and_doubles_nothing");
    let (kafka, s3) = (Kafka::connect(), S3::connect());
    for round in 0..rounds() {
        let folder = temp_dir();
        let (bucket, name) = (unique("zombie"), unique("s3"));
        s3.make_bucket(&bucket);
        let flush_size = if round % 2 == 0 { 50 } else { 1_000_000 };
        let issuer = Issuer::start(&kafka, 200);
        let sink = config::sink(&name, &issuer.topic, &services::s3(), &bucket, flush_size)
            + "rotate.schedule.interval.ms = 300
consumer.override.session.timeout.ms = 2000
consumer.override.heartbeat.interval.ms = 300
";
        let start = |worker: &str| -> (Ottla, Running) {
            let text = config::worker(&services::kafka(), &folder.path().join(worker)) + &sink;
            let file = config::write(folder.path(), &format!("{worker}.toml"), text);
            let run = Ottla::run([file]).s3_credentials();
            let running = run.start();
            (run, running)
        };
        let (run, mut one) = start("one");
        let (_, mut other) = start("other");
        one.wait_for_log("an assignment of the first worker", SOON, assigned);
        other.wait_for_log("an assignment of the second worker", SOON, assigned);

        let mut story = format!("{}\nround {round}: flush.size={flush_size}", dice.replay());
        for _ in 0..2 {
            // At any moment of its rotation.
            let (frozen, awake) = if dice.coin() { (&mut one, &mut other) } else { (&mut other, &mut one) };
            std::thread::sleep(dice.millis(0, 700));
            frozen.freeze();
            let before = committed(&kafka, &name, &issuer.topic);
            // Until somebody else has moved every partition on, twice: the frozen one has lost its own to others.
            for _ in 0..2 {
                let from = committed(&kafka, &name, &issuer.topic);
                awake.wait_until("commits by the worker that is awake", SOON, |_| {
                    let now = committed(&kafka, &name, &issuer.topic);
                    if now.iter().zip(&from).all(|(now, from)| now > from) {
                        Ok(())
                    } else {
                        Err(format!("{from:?}, now {now:?}"))
                    }
                });
            }
            let after = committed(&kafka, &name, &issuer.topic);
            frozen.go_on();
            std::thread::sleep(dice.millis(0, 1500));
            story += &format!("\n  frozen with {before:?} committed, woken with {after:?}");
            assert!(one.is_running() && other.is_running(), "{story}{}{}", one.report(), other.report());
        }
        let reports = one.stop().exits_with(0).report() + &other.stop().exits_with(0).report();
        let oracle = issuer.finish(&kafka);
        let last = run.until_caught_up().finish(CAUGHT_UP).exits_with(0);
        let seen = oracle.assert(&s3.objects(&bucket), &format!("{story}{reports}{}", last.report()));
        println!("{story}\n  {} records in {} objects", seen.records, seen.objects);
    }
}
