//! Chains of transformations: written once, used by several connectors, guarded by predicates.

use std::time::Duration;

use ottla_tests::cleaning::{clean_geo, clean_pin, clean_user};
use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::worker::Ottla;

const ROUNDS: usize = 40;
const RUN: Duration = Duration::from_secs(60);

const CHAINS: &str = r#"
[chains.clean-user]
when = { topic-matches = '.*\.user' }
[[chains.clean-user.transforms]]
type = "concat-fields"
fields = ["first_name", "last_name"]
into = "user_name"
[[chains.clean-user.transforms]]
type = "parse-timestamp"
fields = "date_joined"
[[chains.clean-user.transforms]]
type = "select-fields"
fields = ["ind", "user_name", "age", "date_joined"]
"#;

#[test]
fn one_chain_serves_two_connectors_and_leaves_other_topics_alone() {
    let folder = temp_dir();
    let store = format!("file:{}", folder.path().join("lake").display());
    let sink = |name: &str| {
        config::sink(name, &config::posts_regex("demo"), &store, name, 7)
            + "json.timestamp.format = \"iso\"\ntransforms = [\"clean-user\"]\n"
    };
    let text = config::worker("embedded", &folder.path().join("state"))
        + &config::posts("demo", ROUNDS)
        + &sink("one")
        + &sink("two")
        + CHAINS;
    let file = config::write(folder.path(), "chains.toml", text);
    let finished = Ottla::run([file]).until_caught_up().finish(RUN).exits_with(0);

    let posts = Posts::emulated();
    let mut oracle = Oracle::new();
    for (offset, draw) in draws(ROUNDS).into_iter().enumerate() {
        oracle.issue("demo.pin", 0, offset as i64, posts.pin[&draw].as_str());
        oracle.issue("demo.geo", 0, offset as i64, posts.geo[&draw].as_str());
        oracle.issue("demo.user", 0, offset as i64, clean_user(&posts.user[&draw]));
    }
    for bucket in ["one", "two"] {
        oracle.assert(&folder_objects(&folder.path().join("lake").join(bucket)), &finished.report());
    }
}

#[test]
fn the_example_cleans_the_generated_rows_too() {
    let folder = temp_dir();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/batch.toml");
    let finished = Ottla::run([example])
        .in_dir(folder.path())
        .set("connectors.posts.emulate.rounds", 300)
        .finish(RUN)
        .exits_with(0);
    let posts = Posts::emulated();
    let mut oracle = Oracle::in_dir("cleaned");
    for (offset, draw) in draws(300).into_iter().enumerate() {
        oracle.issue("0a4e65e909bd.pin", 0, offset as i64, clean_pin(&posts.pin[&draw]));
        oracle.issue("0a4e65e909bd.geo", 0, offset as i64, clean_geo(&posts.geo[&draw]));
        oracle.issue("0a4e65e909bd.user", 0, offset as i64, clean_user(&posts.user[&draw]));
    }
    oracle.assert(&folder_objects(&folder.path().join("ottla-lake/posts")), &finished.report());
}

#[test]
fn kafka_connects_own_transformations_and_predicates_work_in_properties() {
    let folder = temp_dir();
    let store = format!("file:{}", folder.path().join("lake").display());
    let worker = config::write(
        folder.path(),
        "worker.properties",
        format!("bootstrap.servers=embedded\nstate.dir={}\n", folder.path().join("state").display()),
    );
    let source = config::write(
        folder.path(),
        "posts.properties",
        "connector.class=rds-source
connection.url=emulator
mode=emulate
emulate.rounds=20
emulate.pace=none
emulate.topics.geolocation_data=demo.geo
emulate.topics.user_data=demo.user
",
    );
    let sink = config::write(
        folder.path(),
        "s3.properties",
        format!(
            "connector.class=io.confluent.connect.s3.S3SinkConnector
topics=demo.geo,demo.user
store.url={store}
s3.bucket.name=posts
flush.size=1
transforms=keep,route
transforms.keep.type=org.apache.kafka.connect.transforms.ReplaceField$Value
transforms.keep.include=ind,country
transforms.keep.predicate=isGeo
transforms.route.type=org.apache.kafka.connect.transforms.RegexRouter
transforms.route.regex=demo\\\\.(.*)
transforms.route.replacement=new-$1
predicates=isGeo
predicates.isGeo.type=org.apache.kafka.connect.transforms.predicates.TopicNameMatches
predicates.isGeo.pattern=.*\\\\.geo
"
        ),
    );
    let finished = Ottla::run([worker, source, sink]).until_caught_up().finish(RUN).exits_with(0);
    let posts = Posts::emulated();
    let mut oracle = Oracle::new();
    for (offset, draw) in draws(20).into_iter().enumerate() {
        let country = ottla_tests::posts::fields(&posts.geo[&draw])["country"].clone();
        oracle.issue("new-geo", 0, offset as i64, format!("{{\"ind\":{draw},\"country\":{country}}}"));
        oracle.issue("new-user", 0, offset as i64, posts.user[&draw].as_str());
    }
    oracle.assert(&folder_objects(&folder.path().join("lake/posts")), &finished.report());
}
