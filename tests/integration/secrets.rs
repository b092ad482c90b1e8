//! Passwords and keys of configurations show nowhere: not in logs at any level, tables, metrics, replies or the state (G8).

use std::path::Path;
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::databases;
use ottla_tests::kafka::Kafka;
use ottla_tests::log_watch::SecretWatch;
use ottla_tests::store::S3;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{Ottla, http_get};
use ottla_tests::{free_port, services, temp_dir, unique};

const RUN: Duration = Duration::from_secs(90);

/// What the product said in one run, for the search.
struct Looked<'a> {
    watch: &'a mut SecretWatch,
    folder: &'a Path,
}

impl Looked<'_> {
    /// Runs to the end with every word it can say, and looks through all of it.
    fn run(&mut self, name: &str, run: Ottla) -> Option<i32> {
        let finished = run.env("OTTLA_LOG", "trace").in_dir(self.folder).finish(RUN);
        self.watch.look(&format!("standard output of {name}"), &finished.stdout);
        self.watch.look(&format!("standard error of {name}"), &finished.stderr);
        finished.code
    }
}

#[test]
fn no_secret_shows_anywhere() {
    let folder = temp_dir();
    let (user, password) = services::database_account();
    let (key, secret) = services::s3_credentials();
    let (sasl_user, sasl_password) =
        (services::variable("OTTLA_TEST_KAFKA_USER"), services::variable("OTTLA_TEST_KAFKA_PASSWORD"));
    let [wrong_password, wrong_secret, wrong_sasl, misspelt, in_a_url] =
        ["password", "secret", "sasl", "misspelt", "url"]
            .map(|what| format!("wr0ng-{what}-{:08x}", rand::random::<u32>()));
    let mut watch = SecretWatch::default()
        .of("the database's password", &password)
        .of("the store's secret", &secret)
        .of("the broker's password", &sasl_password)
        .of("the refused password of the database", &wrong_password)
        .of("the refused secret of the store", &wrong_secret)
        .of("the refused password of the broker", &wrong_sasl)
        .of("the password under a misspelt key", &misspelt)
        .of("the password in a URL", &in_a_url);

    let bucket = unique("secrets");
    S3::connect().make_bucket(&bucket);
    let prefix = unique("secrets");
    let url = databases::new_mariadb();
    let database = |password: &str| {
        format!("connection.url = \"{url}\"\nconnection.user = \"{user}\"\nconnection.password = \"{password}\"")
    };
    let state = folder.path().join("state");
    let listener = format!("127.0.0.1:{}", free_port());
    let pipeline = |password: &str, secret: &str| {
        config::worker("embedded", &state)
            + &format!("metrics.listener = \"{listener}\"\n")
            + &config::posts(&prefix, 10).replace("connection.url = \"emulator\"", &database(password))
            + &config::sink("s3", &config::posts_regex(&prefix), &services::s3(), &bucket, 3)
            + &format!("aws.access.key.id = \"{key}\"\naws.secret.access.key = \"{secret}\"\n")
    };
    let write = |name: &str, text: &str| config::write(folder.path(), name, text);
    let right = write("right.toml", &pipeline(&password, &secret));

    let mut looked = Looked { watch: &mut watch, folder: folder.path() };
    // What succeeds.
    let load = ["demo", "load", "--url", &url, "--user", &user, "--password", &password];
    assert_eq!(looked.run("demo load", Ottla::new(load)), Some(0));
    assert_eq!(looked.run("a whole run", Ottla::run([&right]).until_caught_up()), Some(0));
    assert_eq!(looked.run("validate", Ottla::new(["validate", "right.toml"])), Some(0));
    assert_eq!(looked.run("validate --json", Ottla::new(["validate", "--json", "right.toml"])), Some(0));
    assert_eq!(looked.run("plugins", Ottla::new(["plugins"])), Some(0));
    assert_eq!(looked.run("plugins describe", Ottla::new(["plugins", "describe", "rds-source"])), Some(0));

    // What fails.
    let soon = |file: &Path| Ottla::run([file]).until_caught_up().arg("--give-up-after").arg("1s");
    let refused = write("refused-password.toml", &pipeline(&wrong_password, &secret));
    assert_eq!(looked.run("a refused password", soon(&refused)), Some(3));
    // The topics have their posts, so the sink has something to write.
    let refused = write(
        "refused-secret.toml",
        &pipeline(&password, &wrong_secret).replace("emulate.rounds = 10", "emulate.rounds = 20"),
    );
    assert_eq!(looked.run("a refused secret", soon(&refused)), Some(3));
    let with_user = url.replace("://", &format!("://{user}:{in_a_url}@"));
    let by_url =
        pipeline(&password, &secret).replace(&database(&password), &format!("connection.url = \"{with_user}\""));
    assert_eq!(looked.run("a password in the URL", soon(&write("by-url.toml", &by_url))), Some(3));
    let load = ["demo", "load", "--url", &url, "--user", &user, "--password", &wrong_password];
    assert_eq!(looked.run("demo load, refused", Ottla::new(load)), Some(3));
    let by_set = soon(&right).set("connectors.posts.connection.password", &wrong_password);
    assert_eq!(looked.run("--set, refused", by_set), Some(3));

    // Files with mistakes, near a secret.
    for (name, mistake) in [
        ("a misspelt key", format!("connection.pasword = \"{misspelt}\"")),
        ("a missing quote", format!("connection.password = \"{misspelt}")),
        ("a number too much", format!("connection.password = \"{misspelt}\" 7")),
        ("a list", format!("connection.password = [\"{misspelt}\", \"{misspelt}\"]")),
        ("a table", format!("connection.password = {{ value = \"{misspelt}\" }}")),
        ("twice", format!("connection.password = \"{misspelt}\"\nconnection.password = \"{misspelt}\"")),
    ] {
        let wrong = pipeline(&password, &secret).replace(&format!("connection.password = \"{password}\""), &mistake);
        write("wrong.toml", &wrong);
        for command in ["run", "validate"] {
            let mut wrong = Ottla::new([command, "wrong.toml"]);
            if command == "run" {
                wrong = wrong.until_caught_up().arg("--give-up-after").arg("1s");
            }
            let code = looked.run(&format!("{command} with {name}"), wrong);
            // In a flat key space a list of two is one text, which only the database refuses.
            let expected = match (name, command) {
                ("a list", "run") => 3,
                ("a list", _) => 0,
                _ => 2,
            };
            assert_eq!(code, Some(expected), "{command} with {name}");
        }
    }

    // A broker that asks for a password, and refuses another.
    let topic = unique("secrets");
    let kafka = Kafka::connect();
    kafka.make_topic(&topic, 1);
    let producer = kafka.producer();
    producer.send(&topic, 0, None, b"{\"ind\":1}");
    producer.flush();
    for (name, sasl, code) in
        [("a broker with a password", &sasl_password, 0), ("a broker that refuses", &wrong_sasl, 3)]
    {
        let worker = format!(
            "bootstrap.servers={}
state.dir={}
security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-256
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{sasl_user}\" password=\"{sasl}\";
",
            services::variable("OTTLA_TEST_KAFKA_SASL_PLAINTEXT"),
            folder.path().join("sasl-state").display()
        );
        let worker = write("sasl.properties", &worker);
        let store = format!("file:{}", folder.path().join("lake").display());
        let sink = write("sasl-sink.toml", &config::sink(&unique("s3"), &topic, &store, "posts", 1));
        let run = Ottla::run([worker, sink]).until_caught_up().arg("--give-up-after").arg("2s");
        assert_eq!(looked.run(name, run), Some(code), "{name}");
    }

    // Metrics and health of a running worker.
    let mut running = Ottla::run([&right]).env("OTTLA_LOG", "trace").start();
    let page = running.wait_until("the metrics", SOON, |_| http_get(&listener, "/metrics"));
    looked.watch.look("metrics", &page.1);
    looked.watch.look("health", &http_get(&listener, "/health").expect("an answer").1);
    let stopped = running.stop();
    looked.watch.look("a worker that was stopped", &stopped.stderr);

    watch.look_in(&state);
    watch.look_in(&folder.path().join("sasl-state"));
    watch.finish(100_000);
}
