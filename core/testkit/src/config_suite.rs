//! Conformance of a struct of options: documented, valid by default, secret where they should be.
//!
//! | Check | Promise |
//! |---|---|
//! | [`names_are_unique`](OptionsSuite::names_are_unique) | no two options share a name or an alias |
//! | [`every_option_is_documented`](OptionsSuite::every_option_is_documented) | each has a sentence that says what it does |
//! | [`the_example_is_valid`](OptionsSuite::the_example_is_valid) | the example is read, and sets nothing that is no option |
//! | [`defaults_are_what_leaving_out_means`](OptionsSuite::defaults_are_what_leaving_out_means) | a default is valid, and the same as not setting the option |
//! | [`required_options_are_asked_for`](OptionsSuite::required_options_are_asked_for) | leaving one out is an error with its key |
//! | [`secrets_are_hidden`](OptionsSuite::secrets_are_hidden) | what sounds like a secret is one, and neither `Debug` nor an error shows it (G8) |
//! | [`mistakes_are_named`](OptionsSuite::mistakes_are_named) | text where a number, a choice or a duration belongs is an error with its key |
//!
//! [`check`] runs all of it over one struct; [`check_plugins`] goes over everything that a crate of plugins exports.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use ottla_api::config::{ConfigKey, KeyName};
use ottla_api::prelude::*;

pub use crate::plugin_suite::check_plugins;
use crate::rule::rules;

/// What a secret is set to, to see whether it is shown somewhere.
pub(crate) const MARKER: &str = "shown-by-mistake";

/// What no number, choice or duration is.
pub(crate) const NONSENSE: &str = "neither this nor that";

/// Parts of a key that say that its value is a secret.
const SECRET_WORDS: [&str; 6] = ["password", "secret", "token", "credential", "private.key", "sasl.jaas"];

rules! {
    sync [C: Config + fmt::Debug] OptionsSuite<C>,
    names_are_unique: "no two options share a name or an alias",
    every_option_is_documented: "each has a sentence that says what it does",
    the_example_is_valid: "the example is read, and sets nothing that is no option",
    defaults_are_what_leaving_out_means: "a default is valid, and the same as not setting the option",
    required_options_are_asked_for: "leaving one out is an error with its key",
    secrets_are_hidden: "what sounds like a secret is one, and neither `Debug` nor an error shows it (G8)",
    mistakes_are_named: "text where a number, a choice or a duration belongs is an error with its key",
}

/// Runs the [`OptionsSuite`] of a struct of options. `example` is a valid configuration, with at least what is required.
///
/// # Panics
///
/// At the first promise that is broken, saying which.
pub fn check<C: Config + fmt::Debug>(example: &Properties) {
    OptionsSuite::<C>::new(example.clone()).run();
}

/// Checks a definition alone: names, documentation, defaults, and that what sounds like a secret is one.
///
/// # Panics
///
/// At the first promise that is broken, saying which.
pub fn check_definition(definition: &ConfigDef) {
    expect_unique_names(definition);
    expect_documentation(definition);
    expect_defaults(definition);
    expect_secrets(definition);
}

/// The suite for one struct of options.
pub struct OptionsSuite<C> {
    example: Properties,
    options: PhantomData<fn() -> C>,
}

impl<C: Config + fmt::Debug> OptionsSuite<C> {
    /// A suite over a valid configuration, with at least what is required.
    pub fn new(example: Properties) -> Self {
        Self { example, options: PhantomData }
    }

    /// No name comes twice.
    pub fn names_are_unique(&self) {
        expect_unique_names(&C::definition());
    }

    /// Every option is documented.
    pub fn every_option_is_documented(&self) {
        expect_documentation(&C::definition());
    }

    /// The example is valid.
    pub fn the_example_is_valid(&self) {
        self.read_example();
        let definition = C::definition();
        for key in self.example.keys() {
            assert!(definition.find(key).is_some(), "the example sets {key}, which is no option");
        }
    }

    /// Each default is valid, under every name of its option, and what comes of leaving the option out.
    pub fn defaults_are_what_leaving_out_means(&self) {
        let definition = C::definition();
        expect_defaults(&definition);
        let unset = format!("{:?}", self.read_example());
        for (option, name) in exact(&definition) {
            let names = || std::iter::once(name).chain(option.aliases.iter().copied());
            let Some(default) = option.default.as_deref() else { continue };
            if names().any(|name| self.example.contains(name)) {
                continue;
            }
            for name in names() {
                let set = C::from_properties(&self.with(name, default));
                let set = set.unwrap_or_else(|errors| panic!("the default of {name} is not valid: {errors}"));
                assert_eq!(format!("{set:?}"), unset, "{name}: its default is not what leaving it out means");
            }
        }
    }

    /// What is required is asked for by its name.
    pub fn required_options_are_asked_for(&self) {
        let definition = C::definition();
        for (option, name) in exact(&definition).filter(|(option, _)| option.required) {
            let mut properties = self.example.clone();
            for name in std::iter::once(name).chain(option.aliases.iter().copied()) {
                properties.remove(name);
            }
            let errors = C::from_properties(&properties);
            let errors = errors.err().unwrap_or_else(|| panic!("{name} is required, but may be left out"));
            assert!(errors.0.iter().any(|error| error.key == name), "that {name} is missing is not said: {errors}");
        }
    }

    /// Secrets are marked as such, and shown nowhere.
    pub fn secrets_are_hidden(&self) {
        let definition = C::definition();
        expect_secrets(&definition);
        for (_, name) in exact(&definition).filter(|(option, _)| option.secret) {
            let shown = match C::from_properties(&self.with(name, MARKER)) {
                Ok(config) => format!("{config:?}"),
                Err(errors) => errors.to_string(),
            };
            assert!(!shown.contains(MARKER), "{name} is a secret, but it is shown: {shown}");
        }
    }

    /// A mistake in an option with a type is an error with its key.
    pub fn mistakes_are_named(&self) {
        let definition = C::definition();
        for (_, name) in exact(&definition).filter(|(option, _)| has_a_type(option)) {
            let errors = C::from_properties(&self.with(name, NONSENSE));
            let errors = errors.err().unwrap_or_else(|| panic!("{name} takes any text"));
            assert!(errors.0.iter().any(|error| error.key == name), "a mistake in {name} is not said: {errors}");
        }
    }

    fn read_example(&self) -> C {
        C::from_properties(&self.example).unwrap_or_else(|errors| panic!("the example is not valid: {errors}"))
    }

    fn with(&self, name: &str, value: &str) -> Properties {
        let mut properties = self.example.clone();
        properties.set(name, value);
        properties
    }
}

impl<C> fmt::Debug for OptionsSuite<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OptionsSuite({:?})", self.example)
    }
}

/// The options with one key, by that key.
fn exact(definition: &ConfigDef) -> impl Iterator<Item = (&ConfigKey, &str)> {
    definition.keys.iter().filter_map(|option| match &option.name {
        KeyName::Exact(name) => Some((option, name.as_ref())),
        KeyName::Prefix(_) => None,
    })
}

/// True where not every text is a value of the option.
pub(crate) fn has_a_type(option: &ConfigKey) -> bool {
    !option.choices.is_empty() || matches!(option.type_name.as_ref(), "int" | "boolean" | "double" | "duration (ms)")
}

/// No name comes twice.
pub(crate) fn expect_unique_names(definition: &ConfigDef) {
    let mut names = BTreeSet::new();
    for option in &definition.keys {
        let name = option.display_name();
        for name in std::iter::once(name.as_str()).chain(option.aliases.iter().copied()) {
            assert!(names.insert(name.to_owned()), "two options are called {name}");
        }
    }
}

/// Each option has a sentence.
pub(crate) fn expect_documentation(definition: &ConfigDef) {
    for option in &definition.keys {
        let name = option.display_name();
        let doc = option.doc.trim();
        assert!(!doc.is_empty(), "{name} has no documentation");
        let begins_well = doc.chars().next().is_some_and(|first| !first.is_lowercase());
        assert!(begins_well && doc.ends_with(['.', '|', '`', ')']), "{name}: its documentation is no sentence: {doc}");
    }
}

/// Each default passes the option's own check, and is one of its choices.
pub(crate) fn expect_defaults(definition: &ConfigDef) {
    for option in &definition.keys {
        let name = option.display_name();
        assert!(!(option.required && option.default.is_some()), "{name} is required although it has a default");
        let Some(default) = option.default.as_deref() else { continue };
        if let Err(error) = (option.check)(default) {
            panic!("the default of {name} is not valid: {name}: {error}");
        }
        if !option.choices.is_empty() {
            let is_choice = |item: &str| option.choices.iter().any(|choice| choice.eq_ignore_ascii_case(item.trim()));
            assert!(
                default.split(',').all(is_choice),
                "{name}: the default '{default}' is none of {:?}",
                option.choices
            );
        }
    }
}

/// What sounds like a secret is one, and has no default.
pub(crate) fn expect_secrets(definition: &ConfigDef) {
    for option in &definition.keys {
        let name = option.display_name();
        let sounds_secret =
            SECRET_WORDS.iter().any(|word| name.to_lowercase().split(['-', '_']).any(|part| part.contains(word)));
        assert!(option.secret || !sounds_secret, "{name} sounds like a secret, but would be shown");
        assert!(
            !(option.secret && option.default.is_some()),
            "{name} is a secret with a default, which everybody can read"
        );
    }
}
