//! Configuration files as users write them: what is understood, and every mistake with its exact words.

use std::path::PathBuf;

use ottla_api::config::{Config as _, Properties};
use ottla_runtime::broker::{StartPosition, Subscription};
use ottla_runtime::config::{ByteSize, Configuration, Diagnostics, Tolerance, load, reference};
use ottla_runtime::plugins::{Registry, builtin};
use proptest::prelude::*;
use tempfile::TempDir;

/// Stand-ins for real plugins, with options of the same names.
#[allow(dead_code)] // Not every option is read back.
mod stubs {
    use async_trait::async_trait;
    use ottla_api::config::ConfigValue;
    use ottla_api::prelude::*;

    /// The most common keys of the S3 sink.
    #[derive(Debug, Config)]
    pub(crate) struct S3Config {
        /// Bucket.
        #[config(name = "s3.bucket.name")]
        pub(crate) bucket: String,
        /// Region.
        #[config(name = "s3.region", default = "us-west-2")]
        pub(crate) region: String,
        /// Records of an object.
        #[config(name = "flush.size", min = 1)]
        pub(crate) flush_size: u64,
        /// Time of an object.
        #[config(name = "rotate.interval.ms", default = "-1", min = -1)]
        pub(crate) rotate_interval: i64,
        /// Where.
        #[config(name = "store.url")]
        pub(crate) store_url: Option<String>,
        /// Schema rule.
        #[config(name = "schema.compatibility", default = "NONE")]
        pub(crate) schema_compatibility: Compatibility,
        /// Format.
        #[config(name = "format.class", default = "json")]
        pub(crate) format: String,
        /// Partitioner.
        #[config(name = "partitioner.class", default = "default")]
        pub(crate) partitioner: String,
        /// Storage.
        #[config(name = "storage.class")]
        pub(crate) storage: Option<String>,
        /// Secret of the key.
        #[config(name = "aws.secret.access.key")]
        pub(crate) secret: Option<Secret>,
    }

    #[derive(Debug, Clone, Copy, ConfigValue)]
    pub(crate) enum Compatibility {
        #[config(name = "NONE")]
        None,
        #[config(name = "BACKWARD")]
        Backward,
    }

    struct S3Sink;

    impl SinkConnector for S3Sink {
        fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
            match S3Config::from_properties(properties) {
                Ok(config) if config.rotate_interval == 7 => {
                    vec![ConfigError::new("rotate.interval.ms", "seven is not for rotation")]
                }
                Ok(_) => Vec::new(),
                Err(errors) => errors.0,
            }
        }

        fn task(&self, _: &Properties) -> Result<Box<dyn SinkTask>> {
            Err(Error::fatal("a stub"))
        }
    }

    /// Options of a source.
    #[derive(Debug, Config)]
    pub(crate) struct RowsConfig {
        /// Database.
        #[config(name = "connection.url")]
        pub(crate) url: String,
        /// Password.
        #[config(name = "connection.password")]
        pub(crate) password: Option<Secret>,
        /// Rows in a batch.
        #[config(name = "batch.max.rows", default = "100", min = 1)]
        pub(crate) rows: u32,
        /// Topic of each table.
        #[config(prefix = "emulate.topics.")]
        pub(crate) topics: Vec<(String, String)>,
    }

    struct Rows;

    #[async_trait]
    impl SourceConnector for Rows {
        fn tasks(&self, _: &Properties, _: usize) -> Result<Vec<Box<dyn SourceTask>>> {
            Err(Error::fatal("a stub"))
        }
    }

    /// Options of `null-if`.
    #[derive(Debug, Config)]
    pub(crate) struct NullIfConfig {
        /// Fields.
        #[config(name = "fields", default = "*")]
        pub(crate) fields: Vec<String>,
        /// Values that become null.
        #[config(name = "values")]
        pub(crate) values: Vec<String>,
    }

    /// Options of `regex-router`.
    #[derive(Debug, Config)]
    pub(crate) struct RouterConfig {
        /// Pattern.
        #[config(name = "regex")]
        pub(crate) regex: String,
        /// Replacement.
        #[config(name = "replacement")]
        pub(crate) replacement: String,
    }

    struct Identity;

    impl Transformation for Identity {
        fn apply(&mut self, record: Record) -> Result<Option<Record>> {
            Ok(Some(record))
        }
    }

    fn plugin(
        name: &'static str,
        aliases: &'static [&'static str],
        definition: ottla_api::plugin::Function<dyn Fn() -> ConfigDef + Send + Sync>,
        constructor: Constructor,
    ) -> Plugin {
        Plugin { name, aliases, version: "1", doc: "A stand-in.", definition, constructor }
    }

    pub(crate) fn plugins() -> Vec<Plugin> {
        vec![
            plugin(
                "s3-sink",
                &["io.confluent.connect.s3.S3SinkConnector"],
                &S3Config::definition,
                Constructor::Sink(&|| Box::new(S3Sink)),
            ),
            plugin("rds-source", &[], &RowsConfig::definition, Constructor::Source(&|| Box::new(Rows))),
            plugin(
                "regex-router",
                &["org.apache.kafka.connect.transforms.RegexRouter"],
                &RouterConfig::definition,
                Constructor::Transformation(&|properties| {
                    let config = RouterConfig::from_properties(properties)?;
                    regex::Regex::new(&config.regex).map_err(|_| Error::config("regex: is no regular expression"))?;
                    Ok(Box::new(Identity))
                }),
            ),
            plugin(
                "null-if",
                &[],
                &NullIfConfig::definition,
                Constructor::Transformation(&|properties| {
                    NullIfConfig::from_properties(properties)?;
                    Ok(Box::new(Identity))
                }),
            ),
        ]
    }
}

/// Stand-ins for what does I/O; the real predicates and converters.
fn registry() -> Registry {
    let mut plugins = stubs::plugins();
    let taken = plugins.iter().map(|plugin| plugin.name).collect::<Vec<_>>();
    plugins.extend(ottla_transforms::plugins().into_iter().filter(|plugin| !taken.contains(&plugin.name)));
    plugins.extend(ottla_converters::plugins());
    plugins.extend(builtin());
    Registry::new(plugins)
}

/// A folder with files, and what they are loaded as.
struct Files {
    folder: TempDir,
    paths: Vec<PathBuf>,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        });
        Self { paths: paths.collect(), folder }
    }

    fn load(&self, overrides: &[(&str, &str)]) -> Result<Configuration, Diagnostics> {
        let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        load(&self.paths, &overrides.collect::<Vec<_>>(), &registry())
    }

    /// Without the folder's path.
    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    /// The mistakes, one a line, without the closing line.
    fn mistakes(&self, overrides: &[(&str, &str)]) -> String {
        let text = self.load(overrides).expect_err("a mistake was expected").to_string();
        let lines = text.lines().collect::<Vec<_>>();
        self.short(&lines[..lines.len() - 1].join("\n"))
    }
}

fn understood(files: &[(&str, &str)]) -> Configuration {
    Files::new(files).load(&[]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn mistakes(files: &[(&str, &str)]) -> String {
    Files::new(files).mistakes(&[])
}

fn warnings(files: &[(&str, &str)]) -> String {
    let files = Files::new(files);
    let configuration = files.load(&[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    files.short(&configuration.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// What is wrong with a sink's options beside those that it needs; the options stand on line 5 and below.
fn sink_mistakes(options: &str) -> String {
    let sink = "connector.class=s3-sink\ns3.bucket.name=b\nflush.size=1\nname=s3\n";
    mistakes(&[("w.properties", "bootstrap.servers=embedded\n"), ("s3.properties", &format!("{sink}{options}"))])
}

fn sink_warnings(options: &str) -> String {
    let sink = "connector.class=s3-sink\ns3.bucket.name=b\nflush.size=1\nname=s3\n";
    warnings(&[("w.properties", "bootstrap.servers=embedded\n"), ("s3.properties", &format!("{sink}{options}"))])
}

const WORKER: &str = "bootstrap.servers=broker:9092
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=false
";

/// As MSK Connect runs it, to the letter.
const MSK: &str = "connector.class=io.confluent.connect.s3.S3SinkConnector
s3.region=us-east-1
flush.size=1
schema.compatibility=NONE
tasks.max=3
topics.regex=<uid>.*
format.class=io.confluent.connect.s3.format.json.JsonFormat
partitioner.class=io.confluent.connect.storage.partitioner.DefaultPartitioner
value.converter.schemas.enable=false
value.converter=org.apache.kafka.connect.json.JsonConverter
storage.class=io.confluent.connect.s3.storage.S3Storage
key.converter=org.apache.kafka.connect.storage.StringConverter
s3.bucket.name=<bucket>
";

const MSK_CLIENT: &str = r#"security.protocol=SASL_SSL
sasl.mechanism=AWS_MSK_IAM
sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required awsRoleArn="arn:aws:iam::1:role/x";
sasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler
"#;

#[test]
fn the_file_of_msk_connect_is_taken_as_it_stands() {
    let configuration = understood(&[
        ("worker.properties", WORKER),
        ("client.properties", MSK_CLIENT),
        ("msk-s3-sink.properties", MSK),
    ]);
    assert_eq!(configuration.warnings, []);
    assert_eq!(configuration.worker.bootstrap_servers, "broker:9092");
    let client = configuration.client.keys().collect::<Vec<_>>();
    assert_eq!(
        client,
        ["security.protocol", "sasl.mechanism", "sasl.jaas.config", "sasl.client.callback.handler.class"]
    );
    let connector = &configuration.connectors[0];
    assert_eq!(connector.name, "msk-s3-sink");
    assert_eq!(connector.plugin.name, "s3-sink");
    assert_eq!(connector.tasks_max, 3);
    assert_eq!(connector.key_converter.plugin.name, "string");
    assert_eq!(connector.value_converter.plugin.name, "json");
    assert_eq!(connector.value_converter.properties, Properties::from_iter([("schemas.enable", "false")]));
    let sink = connector.sink.as_ref().unwrap();
    assert_eq!(sink.group, "connect-msk-s3-sink");
    assert_eq!(sink.start, StartPosition::Earliest);
    assert!(sink.subscription.matches("<uid>.pin") && !sink.subscription.matches("x<uid>.pin"));
    assert_eq!(connector.properties.get("s3.bucket.name"), Some("<bucket>"));
    assert_eq!(connector.properties.keys().next(), Some("connector.class"), "in the order of the file");
}

const PIPELINE: &str = r#"
[worker]
bootstrap.servers = "embedded"
worker.memory.max = "64MiB"

[connectors.posts]
connector.class = "rds-source"
connection.url = "emulator"
emulate.topics.pin = "p.pin"
emulate.topics."geo.data" = "p.geo"

[connectors.s3]
connector.class = "s3-sink"
topics.regex = "p\\..*"
store.url = "file:./lake"
s3.bucket.name = "posts"
flush.size = 100
value.converter = { class = "json", schemas.enable = true }
transforms = ["clean-pin", { type = "regex-router", regex = "(.*)", replacement = "x-$1", when = { not = { tombstone = true } } }]

[chains.clean-pin]
when = { topic-matches = ".*\\.pin" }
[[chains.clean-pin.transforms]]
type = "null-if"
name = "garbage"
values = ["User Info Error", "N,o, ,T,a,g,s", "Local save in ", ""]
[[chains.clean-pin.transforms]]
type = "null-if"
fields = ["title", "description"]
values = ["Untitled"]
[[chains.clean-pin.transforms]]
type = "null-if"
values = "No Title"
"#;

#[test]
fn a_pipeline_in_toml_is_understood() {
    let configuration = understood(&[("batch.toml", PIPELINE)]);
    assert_eq!(configuration.warnings, []);
    assert_eq!(configuration.worker.memory_max, ByteSize(64 << 20));
    let [posts, s3] = &configuration.connectors[..] else { panic!("two connectors") };
    assert_eq!(posts.properties.get("emulate.topics.geo.data"), Some("p.geo"));
    assert!(posts.sink.is_none());
    assert_eq!(posts.key_converter.plugin.name, "string");
    assert_eq!(posts.value_converter.properties.get("schemas.enable"), Some("false"), "the native default");
    assert_eq!(s3.value_converter.properties.get("schemas.enable"), Some("true"));
    let stages = s3.chain.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>();
    assert_eq!(stages, ["clean-pin/garbage", "clean-pin/null-if", "clean-pin/null-if#2", "regex-router"]);
    let garbage = stubs::NullIfConfig::from_properties(&s3.chain[0].transformation.properties).unwrap();
    assert_eq!(garbage.values, ["User Info Error", "N,o, ,T,a,g,s", "Local save in ", ""]);
    assert_eq!(s3.chain[0].guards[0].predicate.properties.get("pattern"), Some(r".*\.pin"));
    assert!(!s3.chain[0].guards[0].negate && s3.chain[3].guards[0].negate);
    assert_eq!(s3.chain[3].transformation.properties.keys().collect::<Vec<_>>(), ["regex", "replacement"]);
}

/// The same worker, chain and connector in Kafka Connect's flat form.
#[test]
fn chains_predicates_and_transformations_are_understood_in_properties_too() {
    let worker = r"bootstrap.servers=embedded
chains.clean.when.topic-matches=.*\\.pin
chains.clean.transforms=nulls
chains.clean.transforms.nulls.type=null-if
chains.clean.transforms.nulls.values=Untitled, N\\,o\\, \\,T, 'x'
";
    let sink = r"name=s3
connector.class=S3Sink
s3.bucket.name=b
flush.size=1
topics=a.pin, b.pin
transforms=clean,route
transforms.route.type=RegexRouter
transforms.route.regex=(.*)
transforms.route.replacement=x-$1
transforms.route.predicate=is-pin
transforms.route.negate=true
predicates=is-pin
predicates.is-pin.type=org.apache.kafka.connect.transforms.predicates.TopicNameMatches
predicates.is-pin.pattern=.*pin
errors.tolerance=all
errors.deadletterqueue.topic.name=dead
consumer.override.group.id=mine
consumer.override.auto.offset.reset=latest
consumer.override.fetch.min.bytes=1
";
    let configuration = understood(&[("worker.properties", worker), ("s3.properties", sink)]);
    assert_eq!(configuration.warnings, []);
    let s3 = &configuration.connectors[0];
    let stages = s3.chain.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>();
    assert_eq!(stages, ["clean/nulls", "route"]);
    let nulls = stubs::NullIfConfig::from_properties(&s3.chain[0].transformation.properties).unwrap();
    assert_eq!(nulls.values, ["Untitled", "N,o, ,T", "'x'"]);
    assert_eq!(s3.chain[0].guards[0].predicate.properties.get("pattern"), Some(r".*\.pin"));
    assert!(s3.chain[1].guards[0].negate);
    assert_eq!(s3.chain[1].guards[0].predicate.plugin.name, "topic-name-matches");
    assert_eq!(s3.errors.tolerance, Tolerance::All);
    assert_eq!(s3.errors.dead_letter_topic.as_deref(), Some("dead"));
    let sink = s3.sink.as_ref().unwrap();
    assert_eq!((sink.group.as_str(), sink.start), ("mine", StartPosition::Latest));
    assert!(matches!(&sink.subscription, Subscription::Topics(topics) if topics == &["a.pin", "b.pin"]));
    assert_eq!(s3.client.keys().collect::<Vec<_>>(), ["group.id", "auto.offset.reset", "fetch.min.bytes"]);
}

#[test]
fn a_request_in_json_is_understood() {
    let request = r#"{
  "name": "s3",
  "config": {
    "connector.class": "S3SinkConnector",
    "s3.bucket.name": "b",
    "flush.size": 3,
    "topics": ["a", "b"],
    "value.converter": "JsonConverter",
    "value.converter.schemas.enable": false
  }
}"#;
    let configuration = understood(&[("w.properties", "bootstrap.servers=embedded"), ("s3.json", request)]);
    let s3 = &configuration.connectors[0];
    assert_eq!(s3.name, "s3");
    assert_eq!(s3.properties.get("topics"), Some("a,b"));
    assert_eq!(s3.value_converter.properties.get("schemas.enable"), Some("false"));
}

#[test]
fn a_folder_is_its_files_in_the_order_of_their_names() {
    let sink = |name: &str| format!("name={name}\nconnector.class=s3-sink\ns3.bucket.name=b\nflush.size=1\ntopics=t\n");
    let files = Files::new(&[
        ("all/2.properties", &sink("second")),
        ("all/1.properties", &sink("first")),
        ("all/0-worker.toml", "[worker]\nbootstrap.servers = 'embedded'\n"),
        ("all/readme.txt", "not a configuration"),
    ]);
    let configuration = load(&[files.folder.path().join("all")], &[], &registry()).unwrap();
    let names = configuration.connectors.iter().map(|connector| connector.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn a_file_includes_others_that_lie_beside_it_once() {
    let pipeline = |name: &str| {
        format!(
            "include = ['rules/clean.toml']\n[connectors.{name}]\nconnector.class = 's3-sink'\ns3.bucket.name = 'b'\n\
             flush.size = 1\ntopics = 't'\ntransforms = ['clean']\n"
        )
    };
    let files = Files::new(&[
        ("one.toml", &format!("{}[worker]\nbootstrap.servers = 'embedded'\n", pipeline("one"))),
        ("two.toml", &pipeline("two")),
        ("rules/clean.toml", "[chains.clean]\ntransforms = [{ type = 'null-if', values = 'a' }]\n"),
    ]);
    let configuration = files.load(&[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(configuration.connectors.iter().map(|connector| connector.chain.len()).collect::<Vec<_>>(), [1, 1]);

    let missing = [("w.toml", "include = 'none.toml'\n[worker]\nbootstrap.servers = 'embedded'\n")];
    assert_eq!(mistakes(&missing), "w.toml:1: include: must name files beside this one; 'none.toml' is none");
}

#[test]
fn what_is_set_on_the_command_line_goes_before_the_files() {
    let files = Files::new(&[("batch.toml", PIPELINE)]);
    let configuration = files
        .load(&[
            ("worker.state.dir", "/tmp/elsewhere"),
            ("connectors.s3.flush.size", "7"),
            ("connectors.s3.value.converter.schemas.enable", "false"),
            ("chains.clean-pin.when.topic-matches", "other"),
        ])
        .unwrap();
    assert_eq!(configuration.worker.state_dir, PathBuf::from("/tmp/elsewhere"));
    let s3 = &configuration.connectors[1];
    assert_eq!(s3.properties.get("flush.size"), Some("7"));
    assert_eq!(s3.properties.keys().nth(4), Some("flush.size"), "in its place");
    assert_eq!(s3.value_converter.properties.get("schemas.enable"), Some("false"));
    assert_eq!(s3.chain[0].guards[0].predicate.properties.get("pattern"), Some("other"));
    assert_eq!(
        files.mistakes(&[("connectors.s3.flush.size", "none"), ("flush.size", "1"), ("worker.stat.dir", "x")]),
        "--set: flush.size: must begin with worker., gateway., connectors.<name>. or chains.<name>.
--set: worker.stat.dir: unknown key; did you mean 'state.dir'?
--set: connectors.s3.flush.size: must be a whole number, found 'none'"
    );
}

#[test]
fn a_lone_connector_says_how_to_give_it_a_worker() {
    let files = Files::new(&[("msk.properties", MSK)]);
    assert_eq!(
        files.mistakes(&[]),
        "no worker configuration: add a file that sets 'bootstrap.servers', \
         or --set worker.bootstrap.servers=HOST:PORT (or =embedded)"
    );
    assert!(files.load(&[("worker.bootstrap.servers", "embedded")]).is_ok());
}

/// One of each, so that nobody has to run it ten times to see ten mistakes.
#[test]
fn every_mistake_of_a_toml_file_is_reported_at_once_with_its_line() {
    let text = r#"[worker]
bootstrap.servers = "embedded"
stat.dir = "x"
embedded.partitions = 0
errors.tolerance = "all"

[connectors.s3]
connector.class = "s3-sink"
topics = ["a", "dead"]
s3.bucket.nme = "b"
flush.size = "many"
schema.compatibility = "FORWARD"
tasks.max = 0
errors.tolerance = "some"
errors.deadletterqueue.topic.name = "dead"
offset.flush.interval.ms = 5
value.converter = { class = "json", schema.enable = true }
key.converter = "strnig"
transforms = ["clean", "cleen", { type = "regex-router", regex = "(", replacement = "x" }, { type = "null-iff" }]
consumer.override.fetch.min.byte = 1

[connectors.gone]
connector.class = "s3-snk"

[chains.clean]
when = { topic-match = "x", has-header = "h" }
[[chains.clean.transforms]]
type = "null-if"
value = ["a"]

[conectors.x]
"#;
    assert_eq!(
        mistakes(&[("batch.toml", text)]),
        "batch.toml:3: worker.stat.dir: unknown key; did you mean 'state.dir'?
batch.toml:4: worker.embedded.partitions: must be at least 1, found 0
batch.toml:5: worker.errors.tolerance: is an option of connectors, not of the worker
batch.toml:10: connectors.s3.s3.bucket.nme: unknown key; did you mean 's3.bucket.name'?
batch.toml:11: connectors.s3.flush.size: must be a whole number, found 'many'
batch.toml:12: connectors.s3.schema.compatibility: must be one of NONE, BACKWARD, found 'FORWARD'
batch.toml:13: connectors.s3.tasks.max: must be at least 1, found 0
batch.toml:14: connectors.s3.errors.tolerance: must be one of none, all, found 'some'
batch.toml:15: connectors.s3.errors.deadletterqueue.topic.name: The DLQ topic 'dead' may not be included in the list of topics \
('topics=[a, dead]') consumed by the connector
batch.toml:16: connectors.s3.offset.flush.interval.ms: is an option of the worker, not of a connector
batch.toml:17: connectors.s3.value.converter.schema.enable: unknown key; did you mean 'value.converter.schemas.enable'?
batch.toml:18: connectors.s3.key.converter: no converter is called 'strnig'; did you mean 'string'?
batch.toml:19: connectors.s3.transforms: 'cleen' is neither a chain ([chains.cleen]) nor a transformation here \
('transforms.cleen.type'); did you mean 'clean'?
batch.toml:19: connectors.s3.transforms.regex-router.regex: is no regular expression
batch.toml:19: connectors.s3.transforms.null-iff.type: no transformation is called 'null-iff'; did you mean 'null-if'?
batch.toml:20: connectors.s3.consumer.override.fetch.min.byte: unknown setting of Kafka clients; did you mean \
'consumer.override.fetch.min.bytes'?
batch.toml:23: connectors.gone.connector.class: no connector is called 's3-snk'; did you mean 's3-sink'?
batch.toml:26: chains.clean.when.topic-match: unknown question; did you mean 'topic-matches'? (there are topic-matches, \
has-header, tombstone, expression, not)
batch.toml:29: chains.clean.transforms.null-if.value: unknown key; did you mean 'transforms.null-if.values'?
batch.toml:31: conectors: unknown table; did you mean 'connectors'? (there are [worker], [gateway], [connectors.<name>] and [chains.<name>], and include = [..] above them)"
    );
}

#[test]
fn names_of_topics_and_times_are_checked_before_anything_runs() {
    let text = r#"
[worker]
bootstrap.servers = "embedded"
run.until = "soon"
metrics.listener = "0.0.0.0:9464"
[connectors.s3]
connector.class = "s3-sink"
topics = ["fine", "not fine"]
s3.bucket.name = "b"
flush.size = 1
errors.deadletterqueue.topic.name = "dead/letters"
"#;
    let rules = "must have 1 to 249 characters, only a to z, A to Z, digits, '.', '_' and '-', and not be '.' or '..', as a topic's name";
    assert_eq!(
        mistakes(&[("x.toml", text)]),
        format!(
            "x.toml:4: worker.run.until: must be caught-up or a time such as 30s, 5m or 2h, found 'soon'
x.toml:5: worker.metrics.listener: must be a loopback address, because the listener does not ask who calls, found '0.0.0.0:9464'
x.toml:8: connectors.s3.topics: {rules}, found 'not fine'
x.toml:11: connectors.s3.errors.deadletterqueue.topic.name: {rules}, found 'dead/letters'"
        )
    );
}

#[test]
fn an_override_of_a_connector_that_is_not_there_says_so() {
    let text = "
[worker]
bootstrap.servers = \"embedded\"
[connectors.lake]
connector.class = \"s3-sink\"
topics = \"a\"
s3.bucket.name = \"b\"
flush.size = 1
";
    let files = Files::new(&[("x.toml", text)]);
    assert_eq!(
        files.mistakes(&[("connectors.lakes.flush.size", "2")]),
        "--set: connectors.lakes.flush.size: no connector is called 'lakes', there are: lake; did you mean 'lake'?"
    );
}

#[test]
fn every_mistake_of_properties_files_is_reported_at_once_with_its_line() {
    let worker = "# the worker
bootstrap.servers=broker:9092
  security.protocoll : SSL
producer.acks=all
producer.ack=1
group.id=connect
plugin.path=/opt/\\
  plugins
offset.storage.file.filename=/tmp/x
config.providers=vault
chains.x.when.tombstone=maybe
chains.x.transforms=a
value.converter.schemas.enable=false
plugin.discovery=hybrid_warn
";
    let sink = "connector.class=s3-sink
name=s3
s3.bucket.name=b
s3.bucket.name=c
flush.size=0
topics=a
topics.regex=b
transforms=a,a
transforms.a.type=null-if
transforms.a.negate=true
transforms.b.type=null-if
predicates.p.name=x
\\u00zz=1
";
    let files = Files::new(&[("worker.properties", worker), ("s3.properties", sink)]);
    assert_eq!(
        files.mistakes(&[]),
        "worker.properties:3: security.protocoll: unknown key; did you mean 'security.protocol'?
worker.properties:5: producer.ack: unknown setting of Kafka clients; did you mean 'producer.acks'?
worker.properties:10: config.providers.vault.class: is required and has no default
worker.properties:11: chains.x.when.tombstone: must be true or false, found 'maybe'
worker.properties:12: chains.x.transforms: 'a' is neither a chain ([chains.a]) nor a transformation here ('transforms.a.type')
worker.properties:13: value.converter.schemas.enable: has no effect without 'value.converter'
s3.properties:4: s3.bucket.name: is set twice, first in line 3
s3.properties:5: flush.size: must be at least 1, found 0
s3.properties:6: topics: topics and topics.regex are mutually exclusive options, but both are set.
s3.properties:8: transforms: names 'a' twice
s3.properties:9: transforms.a.values: is required and has no default
s3.properties:10: transforms.a.negate: there is no config 'transforms.a.predicate' defining a predicate to be negated
s3.properties:12: predicates.p.name: belongs to no predicate: its '.type' is not set
s3.properties:13: malformed \\uxxxx: four hexadecimal digits must follow"
    );
    let found = files.load(&[]).unwrap_err();
    assert_eq!(
        files.short(&found.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        "worker.properties:7: plugin.path: /opt/plugins: there is no such file or folder
worker.properties:9: offset.storage.file.filename: not used by a standalone worker; nor plugin.discovery (line 14)
worker.properties:11: chains.x: no connector uses this chain
s3.properties:11: transforms.b.type: not used: 'transforms' does not name 'b'"
    );
}

#[test]
fn every_mistake_of_a_json_file_is_reported_at_once_with_its_line() {
    let request = r#"{
  "name": "s3",
  "confg": {},
  "config": {
    "connector.class": "s3-sink",
    "name": "other",
    "s3.bucket.name": null,
    "flush.size": 1.5,
    "topics": [["a"]],
    "rotate.interval.ms": 7,
    "colour": "red",
    "colour": "blue"
  }
}"#;
    assert_eq!(
        mistakes(&[("w.properties", "bootstrap.servers=embedded"), ("s3.json", request)]),
        "s3.json:3: confg: unknown key; did you mean 'config'?
s3.json:6: name: is 'other' here and 's3' in line 2
s3.json:7: s3.bucket.name: is null; leave the key out instead
s3.json:8: flush.size: must be a whole number, found '1.5'
s3.json:9: topics: must be a list of texts, found tables or lists in it
s3.json:11: colour: unknown key; `ottla plugins describe s3-sink` lists what there is
s3.json:12: colour: is set twice, first in line 11"
    );
}

#[test]
fn what_is_no_toml_or_json_is_reported_with_its_line_and_without_its_values() {
    assert_eq!(
        mistakes(&[
            ("a.toml", "[worker]\nbootstrap.servers = \"embedded\"\npassword = \"s3cret\n"),
            ("b.toml", "[connectors.x]\nflush.size = 1\n# c\nflush.size = 2\n"),
            ("c.toml", "[connectors.x]\nvalue.converter = \"json\"\nvalue.converter.schemas.enable = false\n"),
            ("d.json", "{\"name\": \"x\",\n \"password\": s3cret}"),
            ("e.yaml", "a: b"),
        ]),
        "a.toml:3: invalid basic string, expected `\"`
b.toml:4: flush.size is set twice, first in line 2
c.toml:3: cannot extend value of type string with a dotted key; a key that has a value can't have keys below it: write \
value.converter = { class = \"json\", schemas.enable = false } and transforms = [\"chain\", { type = \"..\" }], or put the \
longer key in quotes
d.json:2: not JSON: expected value
e.yaml: must end in .toml, .properties or .json, which says how it is read"
    );
}

#[test]
fn what_is_misspelt_is_not_missing_as_well() {
    let sink = "connector.class=s3-sink\nname=s3\ntopics=t\ns3.bucket.nam=b\nflush.sice=1\n";
    assert_eq!(
        mistakes(&[("w.toml", "[worker]\nbootstrap.server = 'embedded'\n"), ("s3.properties", sink)]),
        "w.toml:2: worker.bootstrap.server: unknown key; did you mean 'bootstrap.servers'?
s3.properties:4: s3.bucket.nam: unknown key; did you mean 's3.bucket.name'?
s3.properties:5: flush.sice: unknown key; did you mean 'flush.size'?"
    );
}

#[test]
fn names_that_are_taken_are_reported_with_both_places() {
    let sink = "name=s3\nconnector.class=s3-sink\ns3.bucket.name=b\nflush.size=1\ntopics=t\n";
    let toml = "[worker]\nbootstrap.servers = 'embedded'\n\"state.dir\" = 'a'\nstate.dir = 'b'\n[connectors.s3]\n";
    let other = "bootstrap.servers=broker:9092\n";
    assert_eq!(
        mistakes(&[("a.properties", sink), ("b.toml", toml), ("c.properties", other)]),
        "b.toml:4: worker.state.dir: is set twice, first in line 3
b.toml:5: connector 's3' is configured twice, first in a.properties:1
c.properties:1: bootstrap.servers: is set otherwise in b.toml:2"
    );
}

#[test]
fn a_sink_has_kafka_connects_rules_with_its_words() {
    assert_eq!(sink_mistakes(""), "s3.properties:1: topics: Must configure one of topics or topics.regex");
    assert_eq!(
        sink_mistakes("topics.regex=a.*\nerrors.deadletterqueue.topic.name=ab\n"),
        "s3.properties:6: errors.deadletterqueue.topic.name: The DLQ topic 'ab' may not be matched by the regex for the topics \
         ('topics.regex=a.*') consumed by the connector"
    );
    assert_eq!(
        sink_mistakes("topics.regex=(?!__).*\n"),
        "s3.properties:5: topics.regex: uses a lookahead, which regular expressions here don't have"
    );
    assert_eq!(
        sink_mistakes("topics=t\nconsumer.override.auto.offset.reset=never\n"),
        "s3.properties:6: consumer.override.auto.offset.reset: must be one of earliest, latest, none, found 'never'"
    );
    assert_eq!(
        sink_mistakes("topics=t\nrotate.interval.ms=7\n"),
        "s3.properties:6: rotate.interval.ms: seven is not for rotation",
        "what the connector itself says"
    );
    assert_eq!(
        sink_mistakes(
            "topics=t\ntransforms=a\ntransforms.a.type=null-if\ntransforms.a.values=x\ntransforms.a.predicate=p\n"
        ),
        "s3.properties:9: transforms.a.predicate: no predicate is called 'p' here: 'predicates.p.type' is not set"
    );
}

#[test]
fn a_source_has_kafka_connects_rules() {
    let source = "name=rows
connector.class=rds-source
connection.url=x
topics=t
exactly.once.support=required
transaction.boundary=connector
topic.creation.groups=big
topic.creation.big.partitions=0
topic.creation.small.include=.*
topic.creation.default.partitions=-1
errors.deadletterqueue.topic.name=dead
";
    assert_eq!(
        mistakes(&[("w.properties", WORKER), ("rows.properties", source)]),
        "rows.properties:1: topic.creation.default.replication.factor: is required as soon as any 'topic.creation.*' is set
rows.properties:1: topic.creation.big.include: is required: which topics are in the group
rows.properties:4: topics: unknown key; `ottla plugins describe rds-source` lists what there is
rows.properties:6: transaction.boundary: can't be 'connector': no source here says where its transactions end; use 'poll' \
or 'interval'
rows.properties:8: topic.creation.big.partitions: must be at least 1, or -1 for the broker's default, found '0'
rows.properties:9: topic.creation.small.include: belongs to no group: 'topic.creation.groups' does not name it"
    );
}

#[test]
fn what_has_no_effect_is_said() {
    assert_eq!(
        sink_warnings(
            "topics=a\\.b\nheader.converter=org.apache.kafka.connect.json.JsonConverter\nconfluent.license=x\n"
        ),
        r"s3.properties:5: '\.' is read as '.'; write '\\.' to keep the backslash
s3.properties:6: header.converter: not used: a header is text where its bytes are text, else bytes
s3.properties:7: confluent.license: not used: no licence is needed"
    );
    let sink = "name=s3\nconnector.class=s3-sink\ns3.bucket.name=b\nflush.size=1\ntopics=t\nvalue.converter.schemas.enable=true\n";
    assert_eq!(
        warnings(&[("w.properties", WORKER), ("s3.properties", sink)]),
        "s3.properties:6: value.converter.schemas.enable: not used: without 'value.converter' here, the worker's applies with \
         the worker's options"
    );
}

#[test]
fn overrides_obey_the_workers_policy() {
    let sink = "name=s3\nconnector.class=s3-sink\ns3.bucket.name=b\nflush.size=1\ntopics=t\n\
                consumer.override.sasl.mechanism=PLAIN\nconsumer.override.fetch.min.bytes=1\n";
    let with = |policy: &str| {
        let worker = format!("bootstrap.servers=embedded\nconnector.client.config.override.policy={policy}\n");
        Files::new(&[("w.properties", worker.as_str()), ("s3.properties", sink)])
    };
    assert!(with("All").load(&[]).is_ok());
    assert_eq!(
        with("Principal").mistakes(&[]),
        "s3.properties:7: consumer.override.fetch.min.bytes: the worker's 'connector.client.config.override.policy' \
         ('Principal') does not allow this"
    );
    assert_eq!(with("None").mistakes(&[]).lines().count(), 2);
}

#[test]
fn placeholders_stay_until_a_task_starts_and_their_options_are_not_checked() {
    let text = r#"
[worker]
bootstrap.servers = "embedded"
state.dir = "${dir:FOLDER:state}"
[worker.config.providers.env]
[worker.config.providers.dir]
param.allowed.paths = "FOLDER"

[connectors.s3]
connector.class = "s3-sink"
topics = "${dir:FOLDER:topics}"
s3.bucket.name = "${env:BUCKET}"
flush.size = "${env:FLUSH}"
aws.secret.access.key = "${file:/run/secrets:key}"
"#;
    let files = Files::new(&[("state", "/var/lib/ottla"), ("topics", "a,b")]);
    let folder = files.folder.path().display().to_string();
    let batch = files.folder.path().join("batch.toml");
    std::fs::write(&batch, text.replace("FOLDER", &folder)).unwrap();
    let configuration = load(&[batch], &[], &registry()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let names = configuration.providers.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["env", "dir"]);
    assert_eq!(configuration.worker.state_dir, PathBuf::from("/var/lib/ottla"), "the worker's own are needed now");
    let s3 = &configuration.connectors[0];
    assert_eq!(s3.properties.get("flush.size"), Some("${env:FLUSH}"));
    assert!(matches!(&s3.sink.as_ref().unwrap().subscription, Subscription::Topics(topics) if topics == &["a", "b"]));
    assert_eq!(
        files.short(&configuration.warnings[0].to_string()),
        "batch.toml:14: connectors.s3.aws.secret.access.key: holds '${file:..}' as plain text: the worker has no \
         'config.providers = file'"
    );
}

/// G8. The password stands where a mistake is, beside one, and in a file that can't be read to its end.
#[test]
fn a_secret_is_in_no_message() {
    let secret = "hunter2";
    let text = format!(
        "[worker]\nbootstrap.servers='embedded'\nsasl.password='{secret}'\nsasl.passwort='{secret}'\n[connectors.s3]\n\
         connector.class='s3-sink'\naws.secret.access.key='{secret}'\naws.secret.access.kei='{secret}'\nflush.size=0\n"
    );
    let found = Files::new(&[("batch.toml", &text), ("x.toml", &format!("[worker]\nsasl.password='{secret}\n"))]);
    let found = found.load(&[]).unwrap_err();
    assert_eq!(found.errors.len(), 6, "{found}");
    assert!(!format!("{found}{found:?}").contains(secret) && !serde_json::to_string(&found).unwrap().contains(secret));
    let fine =
        text.lines().filter(|line| !line.contains("pas") && !line.contains("kei")).collect::<Vec<_>>().join("\n");
    let fine = fine.replace("flush.size=0", "flush.size=1\ns3.bucket.name='b'\ntopics='t'");
    assert!(!format!("{:?}", understood(&[("batch.toml", &fine)])).contains(secret));
}

#[test]
fn the_reference_page_holds_every_option_of_everything() {
    let page = reference(&registry());
    for expected in [
        "| `bootstrap.servers` | string | required | high |",
        "| `errors.tolerance` | `none`, `all` | `none` | medium |",
        "| `topics.regex` |",
        "### s3-sink\n",
        "| `emulate.topics.<name>` | string |",
        "### env\n",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
}

/// Written as `java.util.Properties.store` does, more or less.
fn as_properties(pairs: &[(String, String)]) -> String {
    let escape = |text: &str, key: bool| {
        let mut out = String::new();
        for (index, c) in text.chars().enumerate() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0c' => out.push_str("\\f"),
                ' ' if key || index == 0 => out.push_str("\\ "),
                '\\' | '=' | ':' | '#' | '!' => out.extend(['\\', c]),
                c if !c.is_ascii() => {
                    out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")))
                }
                c => out.push(c),
            }
        }
        out
    };
    pairs.iter().map(|(key, value)| format!("{} = {}\n", escape(key, true), escape(value, false))).collect()
}

fn as_json(pairs: &[(String, String)]) -> String {
    let members = pairs.iter().map(|(key, value)| format!("{}: {}", serde_json::json!(key), serde_json::json!(value)));
    format!("{{\n{}\n}}", members.collect::<Vec<_>>().join(",\n"))
}

fn as_toml(pairs: &[(String, String)]) -> String {
    // A basic string of TOML is a JSON string, but for the characters that TOML alone forbids.
    let quoted = |text: &str| serde_json::json!(text).to_string().replace('\x7f', "\\u007f");
    let members = pairs.iter().map(|(key, value)| format!("{} = {}\n", quoted(key), quoted(value)));
    format!("[connectors.x]\n{}", members.collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A source takes any key below `emulate.topics.`: whatever stands there loads back the same, in the same order.
    #[test]
    fn any_text_loads_back_the_same_in_every_syntax(
        pairs in proptest::collection::vec(("[\\PC \\t\\\\=:#!.,$'\"]{1,12}", any::<String>()), 0..8),
    ) {
        let mut all: Vec<(String, String)> = [("connector.class", "rds-source"), ("connection.url", "x"), ("name", "x")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec();
        for (key, value) in pairs {
            let key = format!("emulate.topics.{key}");
            if !all.iter().any(|(other, _)| *other == key) {
                all.push((key, value));
            }
        }
        for (name, text) in [("x.properties", as_properties(&all)), ("x.json", as_json(&all)), ("x.toml", as_toml(&all))] {
            let configuration = understood(&[("w.properties", "bootstrap.servers=embedded"), (name, &text)]);
            let loaded = configuration.connectors[0].properties.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
            prop_assert_eq!(loaded.collect::<Vec<_>>(), all.clone(), "{}", name);
        }
    }
}

#[test]
fn the_gateway_is_a_table_keys_of_the_worker_or_set_from_outside() {
    let toml = "[worker]\nbootstrap.servers = \"embedded\"\n[gateway]\nlistener = \"127.0.0.1:9000\"\n\
                [gateway.require.\"u.pin\"]\nfields = [\"index\", \"title\"]\n[gateway.require.'.*\\.geo']\nschema = \"geo.json\"\n";
    let gateway = understood(&[("a.toml", toml)]).gateway.expect("there is a gateway");
    assert_eq!(gateway.listener.to_string(), "127.0.0.1:9000");
    let (found, mistakes) = gateway.requirements();
    assert_eq!(mistakes, []);
    assert_eq!((found[0].name.as_str(), found[0].fields.as_slice()), ("u.pin", &["index".into(), "title".into()][..]));
    assert!(found[0].covers("u.pin") && !found[0].covers("uxpin"));
    assert_eq!(found[1].schema.as_deref(), Some("geo.json"));
    assert!(found[1].covers("any.geo") && !found[1].covers("any.geo.more"));

    let flat = "bootstrap.servers=embedded\ngateway.body.bytes.max=2MiB\ngateway.auth.basic.users.ann=hunter2\n";
    let gateway = understood(&[("w.properties", flat)]).gateway.expect("there is a gateway");
    assert_eq!(gateway.body_max, ByteSize(2 << 20));
    assert!(gateway.asks_who_calls() && !format!("{gateway:?}").contains("hunter2"), "{gateway:?}");

    let files = Files::new(&[("w.properties", "bootstrap.servers=embedded\n")]);
    assert!(files.load(&[]).expect("valid").gateway.is_none());
    let set = files.load(&[("gateway.listener", "127.0.0.1:1")]).expect("valid");
    assert_eq!(set.gateway.expect("there is a gateway").listener.port(), 1);
}

#[test]
fn mistakes_of_the_gateway_say_where() {
    let toml = "[worker]\nbootstrap.servers = \"embedded\"\n[gateway]\nlistener = \"0.0.0.0:8082\"\nconection.max = 3\n\
                body.bytes.max = \"x\"\nrequire.t.field = \"a\"\n";
    assert_eq!(
        mistakes(&[("a.toml", toml)]),
        "a.toml:5: gateway.conection.max: unknown key; did you mean 'connections.max'?\n\
         a.toml:6: gateway.body.bytes.max: must be a number of bytes such as 268435456 or 256MiB, found 'x'"
    );
    let toml = "[worker]\nbootstrap.servers = \"embedded\"\n[gateway]\nlistener = \"0.0.0.0:8082\"\nrequire.t.field = \"a\"\n\
                kinesis.endpoint = \"embeded\"\naws.access.key.id = \"id\"\n";
    assert_eq!(
        mistakes(&[("a.toml", toml)]),
        "a.toml:3: gateway.aws.secret.key.id: is missing; aws.access.key.id is set and needs it\n\
         a.toml:4: gateway.listener: can be reached from other machines, and nothing asks who calls: set auth.api.keys or \
         auth.basic.users.<name>, or listen on a loopback address such as 127.0.0.1:8082\n\
         a.toml:5: gateway.require.t.field: must be require.<topic>.fields or require.<topic>.schema\n\
         a.toml:6: gateway.kinesis.endpoint: must be embedded, or an address such as http://localhost:4568"
    );
}
