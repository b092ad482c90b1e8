//! The whole batch leg against a real database, a real Kafka and an S3 endpoint: the commented example, with other addresses.

use std::path::Path;
use std::time::Duration;

use ottla_tests::cleaning::{clean_geo, clean_pin, clean_user};
use ottla_tests::config;
use ottla_tests::databases;
use ottla_tests::draws::draws;
use ottla_tests::kafka::Kafka;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::Posts;
use ottla_tests::store::S3;
use ottla_tests::worker::Ottla;
use ottla_tests::{services, temp_dir, unique};

const ROUNDS: usize = 200;
const RUN: Duration = Duration::from_secs(180);

#[test]
fn posts_of_a_database_go_through_kafka_into_s3_raw_and_cleaned() {
    let folder = temp_dir();
    let (bucket, prefix) = (unique("posts"), unique("leg"));
    let s3 = S3::connect();
    s3.make_bucket(&bucket);
    let url = databases::new_mariadb();
    databases::load(&url);

    // The example as it stands, but for names that another run on the same services may have used.
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest");
    let read =
        |file: &str| std::fs::read_to_string(examples.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let text = read("batch-services.toml")
        .replace("0a4e65e909bd", &prefix)
        .replace("[connectors.raw]", &format!("[connectors.{prefix}-raw]"))
        .replace("[connectors.cleaned]", &format!("[connectors.{prefix}-cleaned]"))
        .replace("posts-dead-letters", &format!("{prefix}-dead-letters"));
    let file = config::write(folder.path(), "batch-services.toml", text);
    config::write(folder.path(), "cleaning.toml", read("cleaning.toml"));
    let (user, password) = services::database_account();
    let mut run = Ottla::run([file])
        .in_dir(folder.path())
        .s3_credentials()
        .env("OTTLA_DB_PASSWORD", password)
        .set("worker.bootstrap.servers", services::kafka())
        .set("connectors.posts.connection.url", url)
        .set("connectors.posts.connection.user", user)
        .set("connectors.posts.emulate.rounds", ROUNDS);
    for sink in ["raw", "cleaned"] {
        run = run
            .set(format!("connectors.{prefix}-{sink}.store.url"), services::s3())
            .set(format!("connectors.{prefix}-{sink}.s3.bucket.name"), &bucket);
    }
    let finished = run.finish(RUN).exits_with(0);

    let posts = Posts::emulated();
    let (mut raw, mut cleaned) = (Oracle::in_dir("topics"), Oracle::in_dir("cleaned"));
    posts.issue(&mut raw, &prefix, ROUNDS);
    for (offset, draw) in draws(ROUNDS).into_iter().enumerate() {
        cleaned.issue(&format!("{prefix}.pin"), 0, offset as i64, clean_pin(&posts.pin[&draw]));
        cleaned.issue(&format!("{prefix}.geo"), 0, offset as i64, clean_geo(&posts.geo[&draw]));
        cleaned.issue(&format!("{prefix}.user"), 0, offset as i64, clean_user(&posts.user[&draw]));
    }
    let objects = s3.objects(&bucket);
    raw.assert(&objects, &finished.report());
    cleaned.assert(&objects, &finished.report());
    let group = format!("connect-{prefix}-cleaned");
    assert_eq!(Kafka::connect().committed(&group, &format!("{prefix}.geo"), 1), [(0, ROUNDS as i64)].into());
}
