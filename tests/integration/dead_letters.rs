//! Records that fail: the task stops, or skips them, or puts them into the dead letter queue, as configured, and never
//! silently (G5).

use std::time::Duration;

use ottla_tests::config;
use ottla_tests::kafka::{Kafka, Stored};
use ottla_tests::oracle::Oracle;
use ottla_tests::services;
use ottla_tests::store::folder_objects;
use ottla_tests::worker::{Finished, Ottla};
use ottla_tests::{temp_dir, unique};

const RUN: Duration = Duration::from_secs(90);
/// The offset of the broken record, among ten.
const BROKEN: usize = 4;
const BROKEN_TEXT: &str = "{\"ind\": 4, \"text\": broken}";

/// A topic with a broken record, and what a sink with these further options made of it.
struct Outcome {
    connector: String,
    topic: String,
    folder: tempfile::TempDir,
    finished: Finished,
}

fn run(options: &str) -> Outcome {
    let kafka = Kafka::connect();
    let topic = unique("broken");
    kafka.make_topic(&topic, 1);
    let producer = kafka.producer();
    for number in 0..10 {
        let text = if number == BROKEN { BROKEN_TEXT.to_owned() } else { format!("{{\"ind\":{number}}}") };
        producer.send(&topic, 0, Some("the key"), text.as_bytes());
    }
    producer.flush();
    let folder = temp_dir();
    let store = format!("file:{}", folder.path().join("lake").display());
    let connector = unique("s3");
    let text = config::worker(&services::kafka(), &folder.path().join("state"))
        + &config::sink(&connector, &topic, &store, "posts", 1)
        + &options.replace("<topic>", &topic);
    let file = config::write(folder.path(), "broken.toml", text);
    let finished = Ottla::run([file]).until_caught_up().finish(RUN);
    Outcome { connector, topic, folder, finished }
}

/// The good records' oracle: all but the broken one, or only those before it.
fn assert_objects(outcome: &Outcome, all: bool) {
    let mut oracle = Oracle::new();
    for number in (0..10).filter(|number| *number != BROKEN && (all || *number < BROKEN)) {
        oracle.issue(&outcome.topic, 0, number as i64, format!("{{\"ind\":{number}}}"));
    }
    oracle.assert(&folder_objects(&outcome.folder.path().join("lake/posts")), &outcome.finished.report());
}

fn committed(outcome: &Outcome) -> Option<i64> {
    let group = format!("connect-{}", outcome.connector);
    Kafka::connect().committed(&group, &outcome.topic, 1).get(&0).copied()
}

#[test]
fn a_broken_record_stops_the_task_unless_told_otherwise() {
    let outcome = run("");
    let finished = outcome.finished.clone().exits_with(1);
    let words = format!("json failed at {}-0 offset {BROKEN} (VALUE_CONVERTER): ", outcome.topic);
    let finished = finished.reports(&format!("FAILED {}-0: ", outcome.connector)).reports(&words);
    finished
        .reports("repair or skip the record, or set errors.tolerance=all, best with errors.deadletterqueue.topic.name");
    // Nothing behind it was delivered, and its offset was not passed (G2).
    let objects = folder_objects(&outcome.folder.path().join("lake/posts"));
    assert!(objects.len() <= BROKEN, "{objects:?}");
    assert!(committed(&outcome).is_none_or(|offset| offset <= BROKEN as i64), "{:?}", committed(&outcome));
}

#[test]
fn a_broken_record_is_skipped_and_counted_with_tolerance_all() {
    let outcome = run("errors.tolerance = \"all\"\nerrors.log.enable = true\nerrors.log.include.messages = true\n");
    let finished = outcome.finished.clone().exits_with(0);
    assert_objects(&outcome, true);
    assert_eq!(committed(&outcome), Some(10));
    let line = finished
        .log()
        .into_iter()
        .find(|line| line.message() == "record failed")
        .unwrap_or_else(|| panic!("no log line; {}", finished.report()));
    assert_eq!(
        (line.level(), line.field("stage"), line.field("topic")),
        ("ERROR", "VALUE_CONVERTER", outcome.topic.as_str())
    );
    assert_eq!((line.0["partition"].as_i64(), line.0["offset"].as_i64()), (Some(0), Some(BROKEN as i64)));
    assert!(!finished.stderr.contains("\"text\\\": broken"), "the record's contents are nobody's business in a log");
}

fn dead_letters(topic: &str) -> Vec<Stored> {
    Kafka::connect().read(topic).into_values().flatten().collect()
}

#[test]
fn a_broken_record_lies_in_the_dead_letter_queue_as_it_came_and_says_why() {
    let outcome = run("errors.tolerance = \"all\"
errors.deadletterqueue.topic.name = \"<topic>-dead\"
errors.deadletterqueue.topic.replication.factor = 1
errors.deadletterqueue.context.headers.enable = true
");
    let dead = format!("{}-dead", outcome.topic);
    let finished = outcome.finished.clone().exits_with(0).reports(&format!("ottla topics read {dead} --format json"));
    assert_objects(&outcome, true);
    assert_eq!(committed(&outcome), Some(10));

    let letters = dead_letters(&dead);
    assert_eq!(letters.len(), 1, "{letters:?}; {}", finished.report());
    let letter = &letters[0];
    assert_eq!((letter.text().as_str(), letter.key.as_deref()), (BROKEN_TEXT, Some(b"the key".as_slice())));
    let header =
        |name: &str| letter.header(&format!("__connect.errors.{name}")).unwrap_or_else(|| panic!("{name}: {letter:?}"));
    let place = ["topic", "partition", "offset", "connector.name", "task.id", "stage"].map(header);
    assert_eq!(place, [&outcome.topic, "0", "4", &outcome.connector, "0", "VALUE_CONVERTER"]);
    assert!(!header("exception.message").is_empty() && !header("exception.class.name").is_empty());
}

#[test]
fn the_record_that_stops_the_task_is_in_the_dead_letter_queue_too() {
    let outcome = run("errors.deadletterqueue.topic.name = \"<topic>-dead\"
errors.deadletterqueue.topic.replication.factor = 1
");
    outcome.finished.clone().exits_with(1).reports("the record is in the dead letter queue too");
    let letters = dead_letters(&format!("{}-dead", outcome.topic));
    assert_eq!(letters.iter().map(Stored::text).collect::<Vec<_>>(), [BROKEN_TEXT]);
    assert!(letters[0].headers.is_empty(), "headers were not asked for: {:?}", letters[0].headers);
}

#[test]
fn embedded_topics_have_a_dead_letter_queue_too_and_its_letters_can_be_read() {
    let folder = temp_dir();
    let state = folder.path().join("state");
    let store = format!("file:{}", folder.path().join("lake").display());
    let text = config::worker("embedded", &state)
        + &config::sink("s3", "posts", &store, "posts", 1)
        + "errors.tolerance = \"all\"
errors.deadletterqueue.topic.name = \"dead\"
errors.deadletterqueue.context.headers.enable = true
";
    let file = config::write(folder.path(), "dead.toml", text);
    let lines = config::write(folder.path(), "lines", format!("{{\"ind\":0}}\n{BROKEN_TEXT}\n{{\"ind\":2}}\n"));
    let state = state.display().to_string();
    let write = ["topics", "--state-dir", &state, "write", "posts", "--file", &lines.display().to_string()];
    Ottla::new(write).finish(RUN).exits_with(0);
    let finished = Ottla::run([file]).until_caught_up().finish(RUN).exits_with(0);

    let mut oracle = Oracle::new();
    oracle.issue("posts", 0, 0, "{\"ind\":0}");
    oracle.issue("posts", 0, 2, "{\"ind\":2}");
    oracle.assert(&folder_objects(&folder.path().join("lake/posts")), &finished.report());

    // With the command that the table at the end names.
    let finished =
        finished.reports("s3: 1 record is in the dead letter queue; to look: ottla topics read dead --format json");
    let read =
        Ottla::new(["topics", "--state-dir", &state, "read", "dead", "--format", "json"]).finish(RUN).exits_with(0);
    let letter = ottla_tests::posts::parse(&read.stdout);
    assert_eq!(letter["value"], BROKEN_TEXT, "{}", finished.report());
    let headers = letter["headers"].as_array().expect("headers");
    let header = |name: &str| {
        headers
            .iter()
            .find(|header| header["key"] == format!("__connect.errors.{name}"))
            .map(|header| header["value"].clone())
    };
    assert_eq!(header("topic"), Some("posts".into()));
    assert_eq!(header("offset"), Some("1".into()));
    assert_eq!(header("stage"), Some("VALUE_CONVERTER".into()));
}
