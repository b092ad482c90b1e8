//! Topics: looked into and fed from outside, beside a running worker or without one; several partitions and tasks; and topics
//! that appear later.

use std::path::Path;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::kafka::Kafka;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::{Posts, fields, parse};
use ottla_tests::store::folder_objects;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{Ottla, topic_values};
use ottla_tests::{services, temp_dir, unique};

const RUN: Duration = Duration::from_secs(60);

/// `ottla topics ARGS` on the embedded topics of a state folder.
fn topics(state: &Path, args: &[&str]) -> String {
    let args = args.iter().map(|arg| (*arg).to_owned());
    let place = ["topics".to_owned(), "--state-dir".to_owned(), state.display().to_string()];
    Ottla::new(place.into_iter().chain(args)).finish(RUN).exits_with(0).stdout
}

#[test]
fn topics_show_what_a_run_left_and_what_a_running_worker_adds() {
    let folder = temp_dir();
    let state = folder.path().join("state");
    let store = format!("file:{}", folder.path().join("lake").display());
    let text = config::worker("embedded", &state)
        + &config::posts("demo", 12)
        + &config::sink("s3", r"demo\..*|more", &store, "posts", 1);
    let file = config::write(folder.path(), "topics.toml", text);
    Ottla::run([&file]).until_caught_up().finish(RUN).exits_with(0);

    // Without a worker.
    let rows: Vec<String> = draws(12).iter().map(|draw| Posts::emulated().geo[draw].clone()).collect();
    assert_eq!(topic_values(&state, "demo.geo", None), rows);
    let list = topics(&state, &["list", "--group", "connect-s3"]);
    let geo: Vec<&str> = list
        .lines()
        .find(|line| line.trim_start().starts_with("demo.geo"))
        .expect("the topic")
        .split_whitespace()
        .collect();
    assert_eq!(geo, ["demo.geo", "0", "0", "12", "12", "0"], "{list}");
    let third = topics(&state, &["read", "demo.geo", "--offset", "2", "--max", "1", "--format", "json"]);
    let third = parse(&third);
    assert_eq!(
        (third["partition"].as_i64(), third["offset"].as_i64(), &third["key"]),
        (Some(0), Some(2), &serde_json::Value::Null)
    );
    assert_eq!(third["value"].to_string(), rows[2]);
    assert_eq!(topics(&state, &["tail", "demo.geo", "-n", "2"]), format!("{}\n{}\n", rows[10], rows[11]));

    // Beside a worker, whose sink takes what is written at once, into a topic that it had never seen.
    let mut running = Ottla::run([&file]).start();
    let lines = config::write(folder.path(), "lines.jsonl", "{\"ind\":1}\n{\"ind\":2}\n");
    running.wait_for_log("the worker's topics", SOON, |line| line.message() == "assigned");
    let list = topics(&state, &["list"]);
    assert!(list.contains("demo.user"), "{list}");
    topics(&state, &["write", "more", "--key", "7", "--file", &lines.display().to_string()]);
    assert_eq!(topic_values(&state, "more", None), ["{\"ind\":1}", "{\"ind\":2}"]);
    let mut oracle = Oracle::new();
    Posts::emulated().issue(&mut oracle, "demo", 12);
    oracle.issue("more", 0, 0, "{\"ind\":1}");
    oracle.issue("more", 0, 1, "{\"ind\":2}");
    running.wait_until("the written records' objects", SOON, |_| {
        oracle.check(&folder_objects(&folder.path().join("lake/posts"))).map_err(|mistakes| mistakes.to_string())
    });
    running.stop().exits_with(0);
}

#[test]
fn a_topic_that_is_not_there_is_answered_with_those_that_are() {
    let folder = temp_dir();
    let state = folder.path().join("state");
    let text = config::worker("embedded", &state) + &config::posts("demo", 2);
    let file = config::write(folder.path(), "topics.toml", text);
    Ottla::run([&file]).until_caught_up().finish(RUN).exits_with(0);
    let state = state.display().to_string();
    let read = Ottla::new(["topics", "--state-dir", &state, "read", "demo.ge"]).finish(RUN).exits_with(2);
    read.says("there is no topic 'demo.ge'; there are: demo.geo, demo.pin, demo.user");
}

#[test]
fn partitions_are_shared_by_tasks_and_hold_every_record_once() {
    const ROUNDS: usize = 60;
    let folder = temp_dir();
    let state = folder.path().join("state");
    let store = format!("file:{}", folder.path().join("lake").display());
    let text = config::worker("embedded", &state)
        + "embedded.partitions = 2\n"
        + &config::posts("demo", ROUNDS)
        + &config::sink("s3", &config::posts_regex("demo"), &store, "posts", 7)
        + "tasks.max = 2\n";
    let file = config::write(folder.path(), "partitions.toml", text);
    let finished = Ottla::run([file]).until_caught_up().finish(RUN).exits_with(0);

    // Which record went where is the broker's choice; all of them, each once, in the order of the draws.
    let mut oracle = Oracle::new();
    for table in ["pin", "geo", "user"] {
        let topic = format!("demo.{table}");
        let mut drawn = Vec::new();
        for partition in 0..2 {
            let values = topic_values(&state, &topic, Some(partition));
            for (offset, value) in values.iter().enumerate() {
                oracle.issue(&topic, partition, offset as i64, value.as_str());
            }
            let key = if table == "pin" { "index" } else { "ind" };
            let of_it: Vec<u32> =
                values.iter().map(|value| fields(value)[key].as_u64().expect("a number") as u32).collect();
            let all = draws(ROUNDS);
            let mut rest = all.iter();
            assert!(
                of_it.iter().all(|draw| rest.any(|next| next == draw)),
                "{topic}-{partition} is out of order: {of_it:?}"
            );
            drawn.extend(of_it);
        }
        let mut all = draws(ROUNDS);
        all.sort_unstable();
        drawn.sort_unstable();
        assert_eq!(drawn, all, "{topic}");
    }
    oracle.assert(&folder_objects(&folder.path().join("lake/posts")), &finished.report());

    // Both tasks had work.
    let tasks = finished.log().into_iter().filter(|line| line.message() == "assigned");
    let mut tasks: Vec<String> =
        tasks.map(|line| line.0["span"]["id"].as_str().unwrap_or_default().to_owned()).collect();
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks, ["s3-0", "s3-1"], "{}", finished.report());
}

#[test]
fn a_topic_made_later_on_kafka_is_read_by_a_regular_expression() {
    let folder = temp_dir();
    let kafka = Kafka::connect();
    let prefix = unique("later");
    let (first, second, other) = (format!("{prefix}.first"), format!("{prefix}.second"), format!("not-{prefix}.third"));
    let store = format!("file:{}", folder.path().join("lake").display());
    let text = config::worker(&services::kafka(), &folder.path().join("state"))
        + &config::sink(&unique("s3"), &config::posts_regex(&prefix), &store, "posts", 1)
        + "consumer.override.metadata.max.age.ms = 1000\n";
    let file = config::write(folder.path(), "later.toml", text);

    let mut oracle = Oracle::new();
    let producer = kafka.producer();
    let mut make = |topic: &str, expected: bool| {
        kafka.make_topic(topic, 2);
        for number in 0..6 {
            let line = format!("{{\"topic\":\"{topic}\",\"number\":{number}}}");
            producer.send(topic, number % 2, None, line.as_bytes());
            if expected {
                oracle.issue(topic, number % 2, i64::from(number / 2), line);
            }
        }
        producer.flush();
        oracle.clone()
    };
    let expected = make(&first, true);
    let objects = || folder_objects(&folder.path().join("lake/posts"));
    let mut running = Ottla::run([file]).start();
    running
        .wait_until("the first topic", SOON, |_| expected.check(&objects()).map_err(|mistakes| mistakes.to_string()));

    make(&other, false);
    let expected = make(&second, true);
    running
        .wait_until("the second topic", SOON, |_| expected.check(&objects()).map_err(|mistakes| mistakes.to_string()));
    running.stop().exits_with(0);
}
