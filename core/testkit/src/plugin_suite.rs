//! Conformance of a plugin as a whole: what `ottla plugins` and the checks of a configuration rely on, for every kind.
//!
//! | Check | Promise |
//! |---|---|
//! | [`is_found_by_its_names`](PluginSuite::is_found_by_its_names) | a kebab-case name of its own, and it answers to that and to its aliases |
//! | [`is_documented`](PluginSuite::is_documented) | a sentence that says what it does, and a version |
//! | [`names_are_unique`](PluginSuite::names_are_unique) | no two options share a name or an alias |
//! | [`every_option_is_documented`](PluginSuite::every_option_is_documented) | each has a sentence that says what it does |
//! | [`defaults_are_valid`](PluginSuite::defaults_are_valid) | each default passes the option's own check |
//! | [`mistakes_are_refused`](PluginSuite::mistakes_are_refused) | text where a number, a choice or a duration belongs does not pass the option's check |
//! | [`secrets_are_hidden`](PluginSuite::secrets_are_hidden) | what sounds like a secret is one, and no error shows it (G8) |
//! | [`odd_options_never_panic`](PluginSuite::odd_options_never_panic) | whatever an option holds, checking and making give an answer |
//! | [`the_example_is_valid`](PluginSuite::the_example_is_valid) | with the test's options the plugin has nothing to say against them, and can be made |
//!
//! It sees a plugin only as a [`Plugin`], as the runtime does: a built-in one and one of a loaded library look the same.

use std::collections::BTreeSet;
use std::fmt;

use ottla_api::config::KeyName;
use ottla_api::plugin::PluginKind;
use ottla_api::prelude::*;

use crate::config_suite::{
    MARKER, NONSENSE, expect_defaults, expect_documentation, expect_secrets, expect_unique_names, has_a_type,
};
use crate::rule::rules;

rules! {
    sync PluginSuite,
    is_found_by_its_names: "a kebab-case name of its own, and it answers to that and to its aliases",
    is_documented: "a sentence that says what it does, and a version",
    names_are_unique: "no two options share a name or an alias",
    every_option_is_documented: "each has a sentence that says what it does",
    defaults_are_valid: "each default passes the option's own check",
    mistakes_are_refused: "text where a number, a choice or a duration belongs does not pass the option's check",
    secrets_are_hidden: "what sounds like a secret is one, and no error shows it (G8)",
    odd_options_never_panic: "whatever an option holds, checking and making give an answer",
    the_example_is_valid: "with the test's options the plugin has nothing to say against them, and can be made",
}

/// Checks everything that a crate of plugins exports: each by a [`PluginSuite`] without options, and that no two plugins of
/// one kind answer to one name.
///
/// # Panics
///
/// At the first promise that is broken, saying which.
pub fn check_plugins(plugins: &[Plugin]) {
    let mut names: BTreeSet<(PluginKind, &str)> = BTreeSet::new();
    for plugin in plugins {
        for name in names_of(plugin) {
            assert!(names.insert((plugin.kind(), name)), "two plugins of kind {} answer to {name}", plugin.kind());
        }
        PluginSuite::new(plugin).run();
    }
}

/// The suite for one plugin.
pub struct PluginSuite {
    plugin: Plugin,
    example: Option<Properties>,
}

impl PluginSuite {
    /// A suite over what the plugin says of itself.
    pub fn new(plugin: &Plugin) -> Self {
        Self { plugin: *plugin, example: None }
    }

    /// Options with which it works, with at least what is required.
    #[must_use]
    pub fn with_example(mut self, example: Properties) -> Self {
        self.example = Some(example);
        self
    }

    /// Its names are such as configurations write them, and it answers to each.
    pub fn is_found_by_its_names(&self) {
        let name = self.plugin.name;
        let kebab = name
            .split('-')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        assert!(kebab, "'{name}' is not kebab-case");
        for name in names_of(&self.plugin) {
            assert!(self.plugin.answers_to(name), "{:?} does not answer to {name}", self.plugin);
        }
        let aliases: BTreeSet<&str> = self.plugin.aliases.iter().copied().collect();
        assert_eq!(aliases.len(), self.plugin.aliases.len(), "{:?} has an alias twice", self.plugin);
    }

    /// It says what it does, and of which version it is.
    pub fn is_documented(&self) {
        assert!(self.plugin.doc.trim().contains('.'), "{:?} has no sentence that says what it does", self.plugin);
        assert!(!self.plugin.version.is_empty(), "{:?} has no version", self.plugin);
    }

    /// No name of an option comes twice.
    pub fn names_are_unique(&self) {
        expect_unique_names(&self.definition());
    }

    /// Every option is documented.
    pub fn every_option_is_documented(&self) {
        expect_documentation(&self.definition());
    }

    /// Every default is valid.
    pub fn defaults_are_valid(&self) {
        expect_defaults(&self.definition());
    }

    /// What has a type is checked for it.
    pub fn mistakes_are_refused(&self) {
        for option in self.definition().keys.iter().filter(|option| has_a_type(option)) {
            let name = option.display_name();
            assert!((option.check)(NONSENSE).is_err(), "{name} takes any text");
        }
    }

    /// Secrets are marked as such, and what checking or making says about them does not show them.
    pub fn secrets_are_hidden(&self) {
        let definition = self.definition();
        expect_secrets(&definition);
        for option in definition.keys.iter().filter(|option| option.secret) {
            let key = key_of(&option.name);
            let checked = (option.check)(MARKER).err().unwrap_or_default();
            let mut properties = self.example.clone().unwrap_or_default();
            properties.set(key.as_str(), MARKER);
            for said in std::iter::once(checked).chain(self.said_about(&properties)) {
                assert!(!said.contains(MARKER), "{key} is a secret, but an error shows it: {said}");
            }
        }
    }

    /// Each option in turn holds something odd: there is an answer, whichever.
    pub fn odd_options_never_panic(&self) {
        let long = "9".repeat(400);
        for option in &self.definition().keys {
            let key = key_of(&option.name);
            for odd in ["", " ", "\0", "-1", "1e400", ",,,", "${", "é😀", "[", "\\", NONSENSE, &long] {
                let mut properties = self.example.clone().unwrap_or_default();
                properties.set(key.as_str(), odd);
                // A constructor is given what has passed the check, and nothing else.
                if (option.check)(odd).is_ok() {
                    self.said_about(&properties);
                }
            }
        }
    }

    /// The example passes every check, and the plugin is made with it. Nothing to do without an example.
    pub fn the_example_is_valid(&self) {
        let Some(example) = &self.example else { return };
        let definition = self.definition();
        for (key, value) in example.iter() {
            let Some(option) = definition.find(key) else { panic!("the example sets {key}, which is no option") };
            if let Err(error) = (option.check)(value) {
                panic!("the example is not valid: {key}: {error}");
            }
        }
        for option in definition.keys.iter().filter(|option| option.required) {
            let set = example.keys().any(|key| option.matches(key));
            assert!(set, "the example leaves out {}, which is required", option.display_name());
        }
        let said = self.said_about(example);
        assert!(said.is_empty(), "with the example's options: {}", said.join("; "));
    }

    /// What checking and making the plugin with these options has to say against them.
    fn said_about(&self, properties: &Properties) -> Vec<String> {
        let mistakes = |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        fn made<T>(made: Result<T>) -> Vec<String> {
            made.err().map(|error| error.to_string()).into_iter().collect()
        }
        match self.plugin.constructor {
            Constructor::Source(make) => {
                let connector = make();
                let said = mistakes(connector.validate(properties));
                if said.is_empty() { made(connector.tasks(properties, 2)) } else { said }
            }
            Constructor::Sink(make) => {
                let connector = make();
                let said = mistakes(connector.validate(properties));
                if said.is_empty() { made(connector.task(properties)) } else { said }
            }
            Constructor::Transformation(make) => made(make(properties)),
            Constructor::Predicate(make) => made(make(properties)),
            Constructor::Converter(make) => {
                [true, false].into_iter().flat_map(|for_keys| made(make(properties, for_keys))).collect()
            }
            Constructor::ConfigProvider(make) => made(make(properties)),
        }
    }

    fn definition(&self) -> ConfigDef {
        (self.plugin.definition)()
    }
}

impl fmt::Debug for PluginSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginSuite({:?})", self.plugin)
    }
}

/// Every name that a plugin answers to.
fn names_of(plugin: &Plugin) -> BTreeSet<&'static str> {
    let simple = plugin.aliases.iter().filter_map(|alias| alias.rsplit('.').next());
    std::iter::once(plugin.name).chain(plugin.aliases.iter().copied()).chain(simple).collect()
}

/// A key that sets the option.
fn key_of(name: &KeyName) -> String {
    match name {
        KeyName::Exact(name) => name.to_string(),
        KeyName::Prefix(prefix) => format!("{prefix}x"),
    }
}
