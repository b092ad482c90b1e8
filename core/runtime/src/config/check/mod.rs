//! Checks everything that the files said, all of it before anything runs: keys, values, names of plugins, and what they need of
//! each other.

mod chain;
mod connector;
mod gateway;
mod worker;

use std::collections::{HashMap, HashSet};

use ottla_api::config::{Config, ConfigDef, ConfigErrors, KeyName, Properties, split_list};
use ottla_api::plugin::{Constructor, Plugin, PluginKind};

use super::diagnostics::Diagnostics;
use super::keys::{CLIENT_KEYS, is_client_key};
use super::nearest::{did_you_mean, nearest};
use super::options::{CommonConfig, SinkConfig, SourceConfig};
use super::section::{Entry, Raw, Section};
use super::{Configuration, PluginConfig};
use crate::plugins::Registry;
use crate::plugins::config_providers::{Providers, built_in_mentioned_in};

/// Checks all sections, reporting every mistake. Nothing comes back where something was wrong.
pub(super) fn check(raw: &Raw, registry: &Registry, diagnostics: &mut Diagnostics) -> Option<Configuration> {
    let mut checker = Checker { registry, diagnostics, providers: Providers::default() };
    let worker = raw.worker.as_ref().and_then(|section| checker.worker(section));
    let gateway = raw.gateway.as_ref().map(|section| checker.gateway(section));
    let chains =
        raw.chains.iter().map(|section| (section.name.as_str(), checker.chain(section))).collect::<HashMap<_, _>>();
    let connectors =
        raw.connectors.iter().map(|section| checker.connector(section, raw.worker.as_ref(), &worker, &chains));
    let connectors = connectors.collect::<Vec<_>>();
    let used = |chain: &Section| {
        raw.connectors
            .iter()
            .any(|connector| connector.text("transforms").is_some_and(|names| split_list(names).contains(&chain.name)))
    };
    for chain in raw.chains.iter().filter(|chain| !used(chain)) {
        checker.diagnostics.warning(&chain.place, format!("chains.{}", chain.name), "no connector uses this chain");
    }
    let worker = worker?;
    Some(Configuration {
        worker: worker.config,
        client: worker.client,
        providers: worker.providers,
        gateway: gateway.map_or(Some(None), |checked| checked.map(Some))?,
        connectors: connectors.into_iter().collect::<Option<_>>()?,
        warnings: Vec::new(),
    })
}

struct Checker<'a> {
    registry: &'a Registry,
    diagnostics: &'a mut Diagnostics,
    providers: Providers,
}

/// The options of one plugin within a section: everything below `prefix` but what the framework keeps for itself.
struct Options<'a> {
    section: &'a Section,
    prefix: String,
    entries: Vec<(&'a str, &'a Entry)>,
    /// What unknown keys were probably meant to be: not to be called missing as well.
    meant: HashSet<String>,
}

impl Checker<'_> {
    fn error(&mut self, section: &Section, key: &str, message: impl Into<String>) {
        let (place, written) = section.place_of(key);
        self.diagnostics.error(&place, written, message);
    }

    fn warning(&mut self, section: &Section, key: &str, message: impl Into<String>) {
        let (place, written) = section.place_of(key);
        self.diagnostics.warning(&place, written, message);
    }

    /// Reads options that were resolved, reporting each mistake at its key.
    fn read<C: Config>(&mut self, section: &Section, properties: &Properties) -> Option<C> {
        match C::from_properties(properties) {
            Ok(config) => Some(config),
            Err(ConfigErrors(errors)) => {
                for error in errors {
                    self.error(section, &error.key, error.message);
                }
                None
            }
        }
    }

    /// The value of an option that must be known now, placeholders replaced.
    fn resolved(&mut self, entry: &Entry) -> Option<String> {
        match self.providers.resolve_text(&entry.value) {
            Ok(text) => Some(text),
            Err(error) => {
                self.diagnostics.error(&entry.place, entry.written.clone(), error.to_string());
                None
            }
        }
    }

    fn converter(&mut self, section: &Section, key: &str) -> Option<PluginConfig> {
        let plugin = self.find(section, key, &[PluginKind::Converter])?;
        let options = Options::below(section, format!("{key}."), |rest| rest == "plugin.version");
        self.plugin(plugin, options, key)
    }

    /// The plugin that the value of `key` names.
    fn find(&mut self, section: &Section, key: &str, kinds: &[PluginKind]) -> Option<Plugin> {
        let Some(entry) = section.get(key).filter(|entry| !entry.value.trim().is_empty()) else {
            self.error(section, key, "is required and has no default");
            return None;
        };
        let name = self.resolved(entry)?;
        match self.registry.find(kinds, &name) {
            Ok(plugin) => Some(plugin),
            Err(error) => {
                self.error(section, key, error.to_string());
                None
            }
        }
    }

    /// Checks a plugin's options and makes one, to see whether it can be made. `class_key` is where mistakes go that belong to
    /// no single option.
    fn plugin(&mut self, plugin: Plugin, mut options: Options<'_>, class_key: &str) -> Option<PluginConfig> {
        let definition = (plugin.definition)();
        let before = self.diagnostics.errors.len();
        for (key, entry) in &options.entries {
            if definition.find(key).is_none() {
                let hint = match nearest(key, names(&definition)) {
                    Some(meant) => {
                        options.meant.insert(meant.to_owned());
                        format!("; did you mean '{}{meant}'?", options.prefix)
                    }
                    None if definition.keys.is_empty() => format!("; '{}' has no options", plugin.name),
                    None => format!("; '{}' knows {}", plugin.name, names(&definition).collect::<Vec<_>>().join(", ")),
                };
                self.diagnostics.error(&entry.place, entry.written.clone(), format!("unknown key{hint}"));
            }
        }
        self.values(&definition, &options, class_key);
        let properties = options.properties();
        let unresolved = properties.iter().any(|(_, text)| self.providers.mentioned_in(text));
        if before == self.diagnostics.errors.len() && !unresolved {
            let made = match plugin.constructor {
                Constructor::Transformation(make) => make(&properties).err(),
                Constructor::Predicate(make) => make(&properties).err(),
                Constructor::Converter(make) => make(&properties, class_key.ends_with("key.converter")).err(),
                Constructor::ConfigProvider(make) => make(&properties).err(),
                Constructor::Source(_) | Constructor::Sink(_) => None,
            };
            if let Some(error) = made {
                // A message about one option begins with its key.
                let message = error.to_string();
                match message.split_once(": ").filter(|(key, _)| definition.find(key).is_some()) {
                    Some((key, rest)) => self.error(options.section, &format!("{}{key}", options.prefix), rest),
                    None => self.error(options.section, class_key, message),
                }
            }
        }
        (before == self.diagnostics.errors.len()).then_some(PluginConfig { plugin, properties })
    }

    /// Checks each value against the option's type, bounds and choices, and that nothing is missing.
    /// What is missing is missing where `class_key` stands, or at the section's beginning where it is no key.
    fn values(&mut self, definition: &ConfigDef, options: &Options<'_>, class_key: &str) {
        for option in &definition.keys {
            let mut set = options.entries.iter().filter(|(key, _)| option.matches(key)).peekable();
            if option.required && set.peek().is_none() && !options.meant.contains(&option.display_name()) {
                let key = format!("{}{}", options.prefix, option.display_name());
                if !options.section.unreadable.contains(&key) {
                    let place = options.section.place_of(class_key).0;
                    let written = format!("{}{key}", options.section.prefix);
                    self.diagnostics.error(&place, written, "is required and has no default");
                }
            }
            for (_, entry) in set {
                self.placeholder_of_nobody(entry);
                if self.providers.mentioned_in(&entry.value) {
                    continue;
                }
                if let Err(message) = (option.check)(&entry.value) {
                    let message =
                        if option.secret { "is not valid (its value is not shown)".to_owned() } else { message };
                    self.diagnostics.error(&entry.place, entry.written.clone(), message);
                }
            }
        }
    }

    /// Kafka Connect leaves the placeholders of providers that it doesn't know as they are, which nobody means.
    fn placeholder_of_nobody(&mut self, entry: &Entry) {
        let unknown = built_in_mentioned_in(&entry.value).filter(|_| !self.providers.mentioned_in(&entry.value));
        if let Some(name) = unknown {
            let message =
                format!("holds '${{{name}:..}}' as plain text: the worker has no 'config.providers = {name}'");
            self.diagnostics.warning(&entry.place, entry.written.clone(), message);
        }
    }

    fn client_key(&mut self, entry: &Entry, name: &str) {
        if !is_client_key(name) {
            let prefix = entry.key.strip_suffix(name).unwrap_or_default();
            let hint = did_you_mean(name, CLIENT_KEYS.iter().copied());
            let hint = hint.replacen('\'', &format!("'{prefix}"), 1);
            let message = format!("unknown setting of Kafka clients{hint}");
            self.diagnostics.error(&entry.place, entry.written.clone(), message);
        }
        self.placeholder_of_nobody(entry);
    }
}

impl<'a> Options<'a> {
    fn below(section: &'a Section, prefix: String, reserved: impl Fn(&str) -> bool) -> Self {
        let entries =
            section.entries.iter().filter_map(|entry| Some((entry.key.strip_prefix(prefix.as_str())?, entry)));
        let entries = entries.filter(|(rest, _)| !reserved(rest)).collect();
        Self { section, prefix, entries, meant: HashSet::new() }
    }

    fn properties(&self) -> Properties {
        self.entries.iter().map(|(key, entry)| (*key, entry.value.as_str())).collect()
    }
}

/// Every name that an option may be written by.
fn names(definition: &ConfigDef) -> impl Iterator<Item = &str> {
    definition.keys.iter().flat_map(|option| {
        let name = match &option.name {
            KeyName::Exact(name) | KeyName::Prefix(name) => name.as_ref(),
        };
        std::iter::once(name).chain(option.aliases.iter().copied())
    })
}

/// True for keys that are checked with what they belong to.
fn is_framework_prefixed(key: &str) -> bool {
    let prefixes = ["key.converter.", "value.converter.", "header.converter.", "transforms.", "predicates."];
    key == "connector.plugin.version" || prefixes.iter().any(|prefix| key.starts_with(prefix))
}

/// True for options that every connector has.
fn is_connector_key(key: &str) -> bool {
    let definitions = [CommonConfig::definition(), SinkConfig::definition(), SourceConfig::definition()];
    definitions.iter().any(|definition| definition.find(key).is_some()) || is_framework_prefixed(key)
}
