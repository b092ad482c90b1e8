//! A sink plugin as it describes itself, rightly or with one bug.

use ottla_api::prelude::*;
use ottla_testkit::plugin_suite::{PluginSuite, check_plugins};

use crate::{Planted, every_bug_is_found};

/// How it writes.
#[derive(Debug, Config)]
struct Options {
    /// Where the database is.
    #[config(name = "url")]
    url: String,
    /// Its password.
    #[config(name = "password")]
    password: Option<Secret>,
    /// How many there are at most.
    #[config(name = "n", default = "5", min = 1)]
    _n: usize,
}

/// Makes tasks that nobody runs.
#[derive(Clone, Copy)]
struct Sink {
    shows_the_password: bool,
    cuts_the_url: bool,
}

impl SinkConnector for Sink {
    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let options = Options::from_properties(properties)?;
        if let Some(password) = options.password.filter(|_| self.shows_the_password) {
            return Err(Error::config(format!("the password '{}' is too short", password.expose())));
        }
        if self.cuts_the_url {
            let _ = &options.url[..1];
        }
        Ok(Box::new(Nowhere))
    }
}

struct Nowhere;

#[async_trait::async_trait]
impl SinkTask for Nowhere {
    async fn start(&mut self, _context: &SinkTaskContext) -> Result<()> {
        Ok(())
    }
    async fn open(&mut self, _committed: &Positions) -> Result<Positions> {
        Ok(Positions::new())
    }
    async fn put(&mut self, _batch: &SinkBatch) -> Result<()> {
        Ok(())
    }
    async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
        Ok(Positions::new())
    }
    async fn close(&mut self, _closed: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        Ok(())
    }
}

const RIGHT: Plugin = Plugin {
    name: "sample-sink",
    aliases: &["com.example.SampleSinkConnector"],
    version: "1",
    doc: "Writes nowhere.",
    definition: &Options::definition,
    constructor: Constructor::Sink(&|| Box::new(Sink { shows_the_password: false, cuts_the_url: false })),
};

/// The definition with one option changed.
fn with(name: &str, change: impl Fn(&mut ottla_api::config::ConfigKey)) -> ConfigDef {
    let mut definition = Options::definition();
    definition.keys.iter_mut().filter(|option| option.display_name() == name).for_each(change);
    definition
}

const BUGS: &[Planted<Plugin>] = &[
    ("is_found_by_its_names", Plugin { name: "Sample_Sink", ..RIGHT }, "'Sample_Sink' is not kebab-case"),
    ("is_documented", Plugin { doc: "", ..RIGHT }, "has no sentence that says what it does"),
    ("is_documented", Plugin { version: "", ..RIGHT }, "has no version"),
    (
        "names_are_unique",
        Plugin { definition: &|| with("password", |option| option.aliases.push("url")), ..RIGHT },
        "two options are called url",
    ),
    (
        "every_option_is_documented",
        Plugin { definition: &|| with("url", |option| option.doc = "".into()), ..RIGHT },
        "url has no documentation",
    ),
    (
        "defaults_are_valid",
        Plugin { definition: &|| with("n", |option| option.default = Some("0".into())), ..RIGHT },
        "the default of n is not valid: n: must be at least 1, found 0",
    ),
    (
        "mistakes_are_refused",
        Plugin { definition: &|| with("n", |option| option.check = &|_| Ok(())), ..RIGHT },
        "n takes any text",
    ),
    (
        "secrets_are_hidden",
        Plugin { definition: &|| with("password", |option| option.secret = false), ..RIGHT },
        "password sounds like a secret, but would be shown",
    ),
    (
        "secrets_are_hidden",
        Plugin {
            constructor: Constructor::Sink(&|| Box::new(Sink { shows_the_password: true, cuts_the_url: false })),
            ..RIGHT
        },
        "password is a secret, but an error shows it",
    ),
    (
        "odd_options_never_panic",
        Plugin {
            constructor: Constructor::Sink(&|| Box::new(Sink { shows_the_password: false, cuts_the_url: true })),
            ..RIGHT
        },
        "index",
    ),
    (
        "the_example_is_valid",
        Plugin { definition: &|| with("password", |option| option.required = true), ..RIGHT },
        "the example leaves out password, which is required",
    ),
];

#[tokio::test]
async fn every_rule_for_plugins_finds_its_bug() {
    every_bug_is_found(PluginSuite::RULES, BUGS, RIGHT, async |plugin, rule| {
        PluginSuite::new(&plugin).with_example(Properties::from_iter([("url", "x")])).check(rule);
    })
    .await;
}

#[test]
#[should_panic(expected = "two plugins of kind sink answer to SampleSinkConnector")]
fn two_plugins_of_one_name_are_found() {
    let other = Plugin { name: "other-sink", aliases: &["org.example.SampleSinkConnector"], ..RIGHT };
    check_plugins(&[RIGHT, other]);
}
