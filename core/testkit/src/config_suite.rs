//! Conformance of options and plugins: documented, valid by default, secret where they should be.
//!
//! [`check`] goes over one struct of options, [`check_definition`] over a definition alone, [`check_plugins`] over everything
//! that a crate of plugins exports.

use std::collections::BTreeSet;
use std::fmt;

use ottla_api::config::KeyName;
use ottla_api::plugin::PluginKind;
use ottla_api::prelude::*;

/// What a secret is set to, to see whether it is shown somewhere.
const MARKER: &str = "shown-by-mistake";

/// Parts of a key that say that its value is a secret.
const SECRET_WORDS: [&str; 6] = ["password", "secret", "token", "credential", "private.key", "sasl.jaas"];

/// Checks a struct of options. `example` is a valid configuration, with at least what is required.
///
/// # Panics
///
/// If an option is badly documented, a default is not valid or differs from leaving the option out, a secret is shown in the
/// struct's `Debug` form, or a mistake is not reported with its key.
pub fn check<C: Config + fmt::Debug>(example: &Properties) {
    let definition = C::definition();
    check_definition(&definition);
    let read = |properties: &Properties| C::from_properties(properties);
    let unset = read(example).unwrap_or_else(|errors| panic!("the example is not valid: {errors}"));
    for key in example.keys() {
        assert!(definition.find(key).is_some(), "the example sets {key}, which is no option");
    }
    for option in &definition.keys {
        let KeyName::Exact(name) = &option.name else { continue };
        let names = || std::iter::once(name.as_ref()).chain(option.aliases.iter().copied());
        if let Some(default) = option.default.as_deref()
            && !names().any(|name| example.contains(name))
        {
            for name in names() {
                let mut properties = example.clone();
                properties.set(name, default);
                let set = read(&properties);
                let set = set.unwrap_or_else(|errors| panic!("the default of {name} is not valid: {errors}"));
                assert_eq!(
                    format!("{set:?}"),
                    format!("{unset:?}"),
                    "{name}: its default is not what leaving it out means"
                );
            }
        }
        if option.required {
            let mut properties = example.clone();
            for name in names() {
                properties.remove(name);
            }
            let errors = read(&properties).err().unwrap_or_else(|| panic!("{name} is required, but may be left out"));
            assert!(errors.0.iter().any(|error| error.key == *name), "that {name} is missing is not said: {errors}");
        }
        if option.secret {
            let mut properties = example.clone();
            properties.set(name.as_ref(), MARKER);
            let shown = match read(&properties) {
                Ok(config) => format!("{config:?}"),
                Err(errors) => errors.to_string(),
            };
            assert!(!shown.contains(MARKER), "{name} is a secret, but it is shown: {shown}");
        }
        if !option.choices.is_empty()
            || matches!(option.type_name.as_ref(), "int" | "boolean" | "double" | "duration (ms)")
        {
            let mut properties = example.clone();
            properties.set(name.as_ref(), "neither this nor that");
            let errors = read(&properties).err().unwrap_or_else(|| panic!("{name} takes any text"));
            assert!(errors.0.iter().any(|error| error.key == *name), "a mistake in {name} is not said: {errors}");
        }
    }
}

/// Checks a definition.
///
/// # Panics
///
/// If a name comes twice, an option is not documented, a default is none of the choices, or something that sounds like a
/// secret is not one.
pub fn check_definition(definition: &ConfigDef) {
    let mut names = BTreeSet::new();
    for option in &definition.keys {
        let name = option.display_name();
        for name in std::iter::once(name.as_str()).chain(option.aliases.iter().copied()) {
            assert!(names.insert(name.to_owned()), "two options are called {name}");
        }
        let doc = option.doc.trim();
        assert!(!doc.is_empty(), "{name} has no documentation");
        let begins_well = doc.chars().next().is_some_and(|first| !first.is_lowercase());
        assert!(begins_well && doc.ends_with(['.', '|', '`', ')']), "{name}: its documentation is no sentence: {doc}");
        assert!(!(option.required && option.default.is_some()), "{name} is required although it has a default");
        let sounds_secret =
            SECRET_WORDS.iter().any(|word| name.to_lowercase().split(['-', '_']).any(|part| part.contains(word)));
        assert!(option.secret || !sounds_secret, "{name} sounds like a secret, but would be shown");
        if let Some(default) = option.default.as_deref() {
            assert!(!option.secret, "{name} is a secret with a default, which everybody can read");
            if !option.choices.is_empty() {
                let valid = default
                    .split(',')
                    .all(|item| option.choices.iter().any(|choice| choice.eq_ignore_ascii_case(item.trim())));
                assert!(valid, "{name}: the default '{default}' is none of {:?}", option.choices);
            }
        }
    }
}

/// Checks everything that a crate of plugins exports.
///
/// # Panics
///
/// If a name is not kebab-case, two plugins of one kind answer to one name, a plugin is not documented or has no version, or
/// its definition does not pass [`check_definition`].
pub fn check_plugins(plugins: &[Plugin]) {
    let mut names: BTreeSet<(PluginKind, &str)> = BTreeSet::new();
    for plugin in plugins {
        let name = plugin.name;
        let kebab = name
            .split('-')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        assert!(kebab, "'{name}' is not kebab-case");
        let simple = plugin.aliases.iter().filter_map(|alias| alias.rsplit('.').next());
        let all: BTreeSet<&str> = std::iter::once(name).chain(plugin.aliases.iter().copied()).chain(simple).collect();
        for name in all {
            assert!(plugin.answers_to(name), "{plugin:?} does not answer to {name}");
            assert!(names.insert((plugin.kind(), name)), "two plugins of kind {} answer to {name}", plugin.kind());
        }
        assert!(plugin.doc.trim().contains('.'), "{plugin:?} has no sentence that says what it does");
        assert!(!plugin.version.is_empty(), "{plugin:?} has no version");
        check_definition(&(plugin.definition)());
    }
}
