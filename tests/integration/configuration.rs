//! Configuration: three syntaxes mean the same, and `validate` and `plugins` explain it without connecting to anything.

use std::time::Duration;

use ottla_tests::config;
use ottla_tests::posts::parse;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::worker::Ottla;
use serde_json::Value;

const RUN: Duration = Duration::from_secs(60);

#[test]
fn toml_json_and_properties_mean_the_same() {
    let folder = temp_dir();
    let lake = folder.path().join("lake");
    let worker = config::write(folder.path(), "worker.properties", "bootstrap.servers=embedded\n");
    let posts = config::write(folder.path(), "posts.toml", config::posts("demo", 20));
    let options = [
        ("connector.class", "s3-sink".to_owned()),
        ("topics", "demo.geo,demo.user".to_owned()),
        ("store.url", format!("file:{}", lake.display())),
        ("flush.size", "6".to_owned()),
    ];
    let lines = |bucket: &str| -> String {
        let all = options.iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>();
        format!("{all}s3.bucket.name={bucket}\nname=of-{bucket}\n")
    };
    let object = |bucket: &str| -> Value {
        let mut all: serde_json::Map<String, Value> =
            options.iter().map(|(key, value)| ((*key).to_owned(), Value::from(value.as_str()))).collect();
        all.insert("s3.bucket.name".to_owned(), bucket.into());
        Value::Object(all)
    };
    let toml = format!(
        "[connectors.of-toml]
connector.class = \"s3-sink\"
topics = [\"demo.geo\", \"demo.user\"]
store.url = \"file:{}\"
s3 = {{ bucket = {{ name = \"toml\" }} }}
\"flush.size\" = 6
",
        lake.display()
    );
    let sinks = [
        config::write(folder.path(), "a.properties", lines("properties")),
        config::write(folder.path(), "b.toml", toml),
        config::write(
            folder.path(),
            "c.json",
            serde_json::json!({"name": "of-json", "config": object("json")}).to_string(),
        ),
    ];
    let state = folder.path().join("state").display().to_string();
    let run = Ottla::run([worker, posts].into_iter().chain(sinks)).until_caught_up().arg("--state-dir").arg(state);
    let finished = run.finish(RUN).exits_with(0);
    let [properties, toml, json] = ["properties", "toml", "json"].map(|bucket| folder_objects(&lake.join(bucket)));
    assert_eq!(properties.len(), 8, "{}", finished.report());
    assert_eq!(toml, properties);
    assert_eq!(json, properties);
}

#[test]
fn a_folder_of_files_is_one_configuration() {
    let folder = temp_dir();
    let files = folder.path().join("config");
    std::fs::create_dir(&files).expect("a folder");
    let store = format!("file:{}", folder.path().join("lake").display());
    config::write(&files, "1-worker.toml", config::worker("embedded", &folder.path().join("state")));
    config::write(&files, "2-posts.toml", config::posts("demo", 4));
    config::write(&files, "3-s3.toml", config::sink("s3", "demo.*", &store, "posts", 1));
    Ottla::run([files]).until_caught_up().finish(RUN).exits_with(0);
    assert_eq!(folder_objects(&folder.path().join("lake/posts")).len(), 12);
}

const MISTAKES: &str = "[worker]
bootstrap.server = \"embedded\"

[connectors.posts]
connector.class = \"rds-sourse\"

[connectors.s3]
connector.class = \"s3-sink\"
topics = \"a\"
s3.bucket.name = \"posts\"
flush.size = 0
rotate.interval.mss = 10
transforms = [\"clean\"]
";

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let folder = temp_dir();
    config::write(folder.path(), "wrong.toml", MISTAKES);
    let finished = Ottla::new(["validate", "wrong.toml"]).in_dir(folder.path()).finish(RUN).exits_with(2);
    println!("{}", finished.stderr);
    for (line, key, part) in [
        (2, "worker.bootstrap.server", "'bootstrap.servers'"),
        (5, "connectors.posts.connector.class", "rds-source"),
        (11, "connectors.s3.flush.size", "must be at least 1, found 0"),
        (12, "connectors.s3.rotate.interval.mss", "'rotate.interval.ms'"),
        (13, "connectors.s3.transforms", "'clean' is neither a chain"),
    ] {
        let start = format!("wrong.toml:{line}: {key}: ");
        let found = finished.stderr.lines().find(|found| found.starts_with(&start));
        assert!(found.is_some_and(|found| found.contains(part)), "{start}..{part} is missing; {}", finished.report());
    }
}

#[test]
fn validate_answers_scripts_in_json() {
    let folder = temp_dir();
    let wrong = config::write(folder.path(), "wrong.toml", MISTAKES);
    let finished = Ottla::new(["validate", "--json"]).arg(wrong.display().to_string()).finish(RUN).exits_with(2);
    let answer = parse(&finished.stdout);
    assert_eq!(answer["valid"], false);
    let errors = answer["errors"].as_array().expect("a list");
    let flush = errors.iter().find(|error| error["key"] == "connectors.s3.flush.size").expect("the mistake");
    assert_eq!((flush["line"].as_u64(), &flush["file"]), (Some(11), &Value::from(wrong.display().to_string())));

    let right = config::write(
        folder.path(),
        "right.toml",
        config::worker("embedded", folder.path()) + &config::posts("demo", 1),
    );
    let finished = Ottla::new(["validate", "--json"]).arg(right.display().to_string()).finish(RUN).exits_with(0);
    assert_eq!(parse(&finished.stdout)["valid"], true);
    assert_eq!(parse(&finished.stdout)["connectors"][0]["name"], "posts");
}

#[test]
fn placeholders_are_filled_in_from_the_environment() {
    let folder = temp_dir();
    let text = config::worker("embedded", &folder.path().join("state"))
        + "config.providers = [\"env\"]\n"
        + &config::posts("demo", 3)
        + &config::sink(
            "s3",
            "demo.*",
            &format!("file:{}", folder.path().join("lake").display()),
            "${env:THE_BUCKET}",
            1,
        );
    let file = config::write(folder.path(), "placeholders.toml", text);
    Ottla::run([file]).until_caught_up().env("THE_BUCKET", "posts").finish(RUN).exits_with(0);
    assert_eq!(folder_objects(&folder.path().join("lake/posts")).len(), 9);
}

#[test]
fn every_plugin_that_is_listed_is_described() {
    let listed = Ottla::new(["plugins"]).finish(RUN).exits_with(0);
    for name in ["rds-source", "s3-sink", "file-source", "file-sink", "json", "string", "null-if", "parse-quantity"] {
        assert!(listed.stdout.contains(name), "{name} is not listed; {}", listed.report());
        let described = Ottla::new(["plugins", "describe", name]).finish(RUN).exits_with(0);
        assert!(described.stdout.contains(name), "{}", described.report());
    }
    let sink = Ottla::new(["plugins", "describe", "io.confluent.connect.s3.S3SinkConnector"]).finish(RUN).exits_with(0);
    for option in ["flush.size", "s3.bucket.name", "rotate.schedule.interval.ms", "store.url", "topics.dir"] {
        assert!(sink.stdout.contains(option), "{option} is not described; {}", sink.report());
    }
    Ottla::new(["plugins", "describe", "s3-sinc"]).finish(RUN).exits_with(2).says("s3-sink");
}
