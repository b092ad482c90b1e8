//! Mistakes and refusals: what the user sees, word for word where the words are ours, and which exit code a script gets.

use std::path::Path;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::kafka::Kafka;
use ottla_tests::services;
use ottla_tests::store::S3;
use ottla_tests::worker::{Finished, Ottla};
use ottla_tests::{free_port, temp_dir, unique};

const RUN: Duration = Duration::from_secs(60);

fn pipeline(folder: &Path, store: &str, bucket: &str) -> String {
    config::worker("embedded", &folder.join("state"))
        + &config::posts("demo", 3)
        + &config::sink("s3", &config::posts_regex("demo"), store, bucket, 1)
}

/// Runs to the end, giving up early on what is out of reach. What the user sees is shown with `--nocapture`.
fn run(folder: &Path, text: &str) -> Finished {
    let file = config::write(folder, "pipeline.toml", text);
    let run = Ottla::run([file]).until_caught_up().arg("--give-up-after").arg("2s").s3_credentials();
    let finished = run.in_dir(folder).finish(RUN);
    println!("{}", finished.report());
    finished
}

fn folder_store(folder: &Path) -> String {
    format!("file:{}", folder.join("lake").display())
}

/// The line of a text in a file.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).map(|index| index + 1).expect("the line is there")
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_the_nearest_known_key() {
    let folder = temp_dir();
    let text = pipeline(folder.path(), &folder_store(folder.path()), "posts").replace("flush.size", "flush.sise");
    let place = format!("pipeline.toml:{}: connectors.s3.flush.sise: unknown key", line_of(&text, "flush.sise"));
    let finished = run(folder.path(), &text).exits_with(2).says(&place).says("'flush.size'");
    assert!(!folder.path().join("lake").exists(), "nothing ran; {}", finished.report());
}

#[test]
fn a_wrong_type_says_what_is_expected_and_what_was_found() {
    let folder = temp_dir();
    let text = pipeline(folder.path(), &folder_store(folder.path()), "posts")
        .replace("flush.size = 1", "flush.size = \"many\"")
        .replace("emulate.rounds = 3", "emulate.rounds = -3");
    let place = |part: &str| format!("pipeline.toml:{}: ", line_of(&text, part));
    let finished = run(folder.path(), &text).exits_with(2);
    let finished = finished.says(&(place("many") + "connectors.s3.flush.size: ")).says("found 'many'");
    // Both mistakes at once.
    finished.says(&(place("= -3") + "connectors.posts.emulate.rounds: ")).says("2 mistakes");
}

#[test]
fn a_missing_bucket_is_a_mistake_of_the_configuration() {
    let folder = temp_dir();
    let bucket = unique("missing");
    let finished = run(folder.path(), &pipeline(folder.path(), &services::s3(), &bucket)).exits_with(2);
    finished.reports(&format!("bucket '{bucket}' does not exist at {}", services::s3()));
}

#[test]
fn a_refused_secret_of_the_store_names_bucket_and_reason() {
    let folder = temp_dir();
    let bucket = unique("refused");
    S3::connect().make_bucket(&bucket);
    let (key, _) = services::s3_credentials();
    let text = pipeline(folder.path(), &services::s3(), &bucket)
        + &format!("aws.access.key.id = \"{key}\"\naws.secret.access.key = \"not-the-secret\"\n");
    run(folder.path(), &text).exits_with(3).reports("SignatureDoesNotMatch").reports(&bucket);
}

#[test]
fn missing_credentials_say_so() {
    let folder = temp_dir();
    let bucket = unique("nobody");
    S3::connect().make_bucket(&bucket);
    let file = config::write(folder.path(), "pipeline.toml", pipeline(folder.path(), &services::s3(), &bucket));
    let run = Ottla::run([file])
        .until_caught_up()
        .arg("--give-up-after")
        .arg("2s")
        .env("HOME", folder.path().display().to_string());
    let finished = run.finish(RUN);
    println!("{}", finished.report());
    finished.exits_with(3).reports("no usable credentials");
}

fn refused_password(url: &str, says: &str) {
    let folder = temp_dir();
    let (user, _) = services::database_account();
    let text = pipeline(folder.path(), &folder_store(folder.path()), "posts").replace(
        "connection.url = \"emulator\"",
        &format!(
            "connection.url = \"{url}\"\nconnection.user = \"{user}\"\nconnection.password = \"not-the-password\""
        ),
    );
    let finished = run(folder.path(), &text).exits_with(3).reports(says);
    assert!(!finished.stderr.contains("not-the-password") && !finished.stdout.contains("not-the-password"));
}

#[test]
fn a_refused_password_of_mariadb_names_the_user() {
    refused_password(&services::mariadb(), "Access denied for user 'ottla'");
}

#[test]
fn a_refused_password_of_postgresql_names_the_user() {
    refused_password(&services::postgres(), "password authentication failed for user \"ottla\"");
}

#[test]
fn a_table_that_is_not_there_is_named() {
    let folder = temp_dir();
    let text = pipeline(folder.path(), &folder_store(folder.path()), "posts")
        .replace("emulate.topics.user_data", "emulate.topics.users");
    let finished = run(folder.path(), &text);
    assert!(matches!(finished.code, Some(1 | 2)), "{}", finished.report());
    finished.reports("users");
}

#[test]
fn a_broker_out_of_reach_ends_a_batch_with_exit_code_3() {
    let folder = temp_dir();
    let port = free_port();
    let text = config::worker(&format!("127.0.0.1:{port}"), &folder.path().join("state"))
        + &config::sink("s3", "posts", &folder_store(folder.path()), "posts", 1);
    run(folder.path(), &text).exits_with(3).reports(&format!("127.0.0.1:{port}"));
}

#[test]
fn a_store_out_of_reach_ends_a_batch_with_exit_code_3() {
    let folder = temp_dir();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    run(folder.path(), &pipeline(folder.path(), &endpoint, "posts")).exits_with(3).reports(&endpoint);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let finished = Ottla::run(["no-such-file.toml"]).finish(RUN).exits_with(2);
    finished.says("no-such-file.toml: can't be read");
}

#[test]
fn an_unknown_option_of_the_command_line_is_refused_with_a_hint() {
    Ottla::run(["x.toml"]).arg("--untill").arg("caught-up").finish(RUN).exits_with(2).says("--until");
}

/// A neighbour of a failing connector goes on (G6).
#[test]
fn a_sink_without_its_bucket_does_not_stop_its_neighbour() {
    let folder = temp_dir();
    let kafka = Kafka::connect();
    let topic = unique("neighbours");
    kafka.make_topic(&topic, 1);
    let producer = kafka.producer();
    for number in 0..10 {
        producer.send(&topic, 0, None, format!("{{\"ind\":{number}}}").as_bytes());
    }
    producer.flush();
    let (good, bad) = (unique("good"), unique("bad"));
    let text = config::worker(kafka.servers(), &folder.path().join("state"))
        + &config::sink(&bad, &topic, &services::s3(), &unique("missing"), 1)
        + &config::sink(&good, &topic, &folder_store(folder.path()), "posts", 1);
    let file = config::write(folder.path(), "neighbours.toml", text);
    let mut running = Ottla::run([file]).s3_credentials().start();
    running.wait_until("the good sink's ten objects", RUN, |_| {
        let objects = ottla_tests::store::folder_objects(&folder.path().join("lake/posts"));
        if objects.len() == 10 { Ok(()) } else { Err(format!("{} objects", objects.len())) }
    });
    // The other one is started again and again, and the end says so.
    let failed = |line: &ottla_tests::worker::LogLine| line.message() == "failed" && line.0["restart_in_ms"].is_u64();
    running.wait_for_log("the bad sink's restart", RUN, failed);
    running.stop().exits_with(2).reports(&format!("FAILED {bad}-0: ")).reports("does not exist");
}
