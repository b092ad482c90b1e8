//! Kafka Connect's own files, unchanged, against a real Kafka and an S3 endpoint: same names, same group, same offsets.

use std::path::Path;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::kafka::Kafka;
use ottla_tests::oracle::Oracle;
use ottla_tests::store::S3;
use ottla_tests::worker::{Finished, Ottla};
use ottla_tests::{services, temp_dir, unique};

const RUN: Duration = Duration::from_secs(90);

/// The connector as MSK Connect runs it, with its two blanks filled in.
fn msk_connect_file(uid: &str, bucket: &str) -> String {
    format!(
        "connector.class=io.confluent.connect.s3.S3SinkConnector
s3.region=us-east-1
flush.size=1
schema.compatibility=NONE
tasks.max=3
topics.regex={uid}.*
format.class=io.confluent.connect.s3.format.json.JsonFormat
partitioner.class=io.confluent.connect.storage.partitioner.DefaultPartitioner
value.converter.schemas.enable=false
value.converter=org.apache.kafka.connect.json.JsonConverter
storage.class=io.confluent.connect.s3.storage.S3Storage
key.converter=org.apache.kafka.connect.storage.StringConverter
s3.bucket.name={bucket}
"
    )
}

/// A connector, its bucket and its topics, none of which any other test uses.
struct Setup {
    name: String,
    uid: String,
    bucket: String,
    kafka: Kafka,
    s3: S3,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let uid = format!("{:012x}", rand::random::<u64>() & 0xffff_ffff_ffff);
        let bucket = format!("user-{uid}-bucket");
        let s3 = S3::connect();
        s3.make_bucket(&bucket);
        Self { name: unique("s3-sink"), uid, bucket, kafka: Kafka::connect(), s3, folder: temp_dir() }
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.{table}", self.uid)
    }

    fn run(&self) -> Finished {
        let folder: &Path = self.folder.path();
        let connector =
            config::write(folder, &format!("{}.properties", self.name), msk_connect_file(&self.uid, &self.bucket));
        let worker = config::write(
            folder,
            "worker.properties",
            format!("bootstrap.servers={}\nstate.dir={}\n", services::kafka(), folder.join("state").display()),
        );
        let run = Ottla::run([worker, connector]).until_caught_up();
        run.set(format!("connectors.{}.store.url", self.name), services::s3())
            .s3_credentials()
            .finish(RUN)
            .exits_with(0)
    }
}

/// A value as a producer may write it, and as the object must hold it: the same keys and numbers, no blanks, raw UTF-8.
fn record(number: usize) -> (String, String) {
    let written = format!(
        "{{ \"ind\" : {number},  \"price\": 12.30, \"big\": 9007199254740993,\n  \"text\": \"tab\\t \u{fc} \u{1f600} \\\" \", \"none\": null }}"
    );
    let stored = format!(
        "{{\"ind\":{number},\"price\":12.30,\"big\":9007199254740993,\"text\":\"tab\\t \u{fc} \u{1f600} \\\" \",\"none\":null}}"
    );
    (written, stored)
}

#[test]
fn the_msk_connect_file_runs_as_it_stands() {
    let setup = Setup::new();
    let producer = setup.kafka.producer();
    let mut oracle = Oracle::new();
    for (table, partitions) in [("pin", 2), ("geo", 1), ("user", 3)] {
        let topic = setup.topic(table);
        setup.kafka.make_topic(&topic, partitions);
        for number in 0..20 {
            let partition = number % partitions;
            let (written, stored) = record(number as usize);
            producer.send(&topic, partition, Some("a key that is no JSON"), written.as_bytes());
            oracle.issue(&topic, partition, i64::from(number / partitions), stored);
        }
    }
    producer.flush();

    let finished = setup.run();
    let seen = oracle.assert(&setup.s3.objects(&setup.bucket), &finished.report());
    assert_eq!((seen.objects, seen.records), (60, 60), "flush.size=1 gives an object to each record");

    let group = format!("connect-{}", setup.name);
    assert_eq!(setup.kafka.committed(&group, &setup.topic("geo"), 1), [(0, 20)].into());
    assert_eq!(setup.kafka.committed(&group, &setup.topic("pin"), 2), [(0, 10), (1, 10)].into());
    assert_eq!(setup.kafka.committed(&group, &setup.topic("user"), 3), [(0, 7), (1, 7), (2, 6)].into());
}

/// Python's `json.dumps` writes `\\u00e9` unless told otherwise; Confluent's sink, which parses and writes anew, does not.
#[test]
fn escaped_letters_come_out_as_raw_utf_8() {
    let setup = Setup::new();
    let topic = setup.topic("pin");
    setup.kafka.make_topic(&topic, 1);
    let producer = setup.kafka.producer();
    producer.send(&topic, 0, None, br#"{"title": "caf\u00e9 \ud83d\ude00 a\/b \u000a \u001f"}"#);
    producer.flush();
    let mut oracle = Oracle::new();
    oracle.issue(&topic, 0, 0, "{\"title\":\"caf\u{e9} \u{1f600} a/b \\n \\u001F\"}");
    let finished = setup.run();
    oracle.assert(&setup.s3.objects(&setup.bucket), &finished.report());
}

#[test]
fn an_offset_that_another_consumer_committed_is_where_it_begins() {
    let setup = Setup::new();
    let topic = setup.topic("pin");
    setup.kafka.make_topic(&topic, 2);
    let producer = setup.kafka.producer();
    let mut oracle = Oracle::new();
    for number in 0..20 {
        let (written, stored) = record(number as usize);
        producer.send(&topic, number % 2, None, written.as_bytes());
        // Partition 0 is taken over at offset 6; partition 1 was never read.
        if number % 2 == 1 || number / 2 >= 6 {
            oracle.issue(&topic, number % 2, i64::from(number / 2), stored);
        }
    }
    producer.flush();
    setup.kafka.commit(&format!("connect-{}", setup.name), &topic, 0, 6);

    let finished = setup.run();
    let seen = oracle.assert(&setup.s3.objects(&setup.bucket), &finished.report());
    assert_eq!((seen.objects, seen.records), (14, 14));
}

#[test]
fn a_second_run_begins_where_the_first_one_ended() {
    let setup = Setup::new();
    let topic = setup.topic("pin");
    setup.kafka.make_topic(&topic, 1);
    let producer = setup.kafka.producer();
    let mut oracle = Oracle::new();
    let mut reports = String::new();
    for run in 0..2 {
        for number in run * 10..(run + 1) * 10 {
            let (written, stored) = record(number);
            producer.send(&topic, 0, None, written.as_bytes());
            oracle.issue(&topic, 0, number as i64, stored);
        }
        producer.flush();
        reports += &setup.run().report();
        oracle.assert(&setup.s3.objects(&setup.bucket), &reports);
    }
}

#[test]
fn the_example_files_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/msk-connect");
    let files = ["worker.properties", "s3-sink.properties"].map(|file| examples.join(file).display().to_string());
    Ottla::new(["validate".to_owned()].into_iter().chain(files)).finish(RUN).exits_with(0);
    // What stands there is what the test above runs.
    let text = std::fs::read_to_string(examples.join("s3-sink.properties")).expect("the example");
    assert_eq!(text.trim(), msk_connect_file("0a4e65e909bd", "user-0a4e65e909bd-bucket").trim());
}
