//! Checks everything that the files said, all of it before anything runs: keys, values, names of plugins, and what they need of
//! each other.

use std::collections::{HashMap, HashSet};

use ottla_api::config::{Config, ConfigDef, ConfigErrors, KeyName, Properties, split_list};
use ottla_api::plugin::{Constructor, Plugin, PluginKind};

use crate::broker::{StartPosition, Subscription};
use crate::plugins::Registry;
use crate::plugins::config_providers::{Providers, built_in_mentioned_in};

use super::diagnostics::Diagnostics;
use super::keys::{CLIENT_KEYS, is_client_key, is_unused_worker_key};
use super::nearest::{did_you_mean, nearest};
use super::options::{CommonConfig, ExactlyOnce, SinkConfig, SourceConfig};
use super::section::{Entry, Raw, Section};
use super::{
    Configuration, ConnectorConfig, ErrorsConfig, GuardConfig, PluginConfig, SinkInput, StageConfig, WorkerConfig,
    java_regex,
};

/// Checks all sections, reporting every mistake. Nothing comes back where something was wrong.
pub(super) fn check(raw: &Raw, registry: &Registry, diagnostics: &mut Diagnostics) -> Option<Configuration> {
    let mut checker = Checker { registry, diagnostics, providers: Providers::default() };
    let worker = raw.worker.as_ref().and_then(|section| checker.worker(section));
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
        connectors: connectors.into_iter().collect::<Option<_>>()?,
        warnings: Vec::new(),
    })
}

struct Checker<'a> {
    registry: &'a Registry,
    diagnostics: &'a mut Diagnostics,
    providers: Providers,
}

/// The worker's section, checked.
struct CheckedWorker {
    config: WorkerConfig,
    client: Properties,
    providers: Vec<(String, Plugin, Properties)>,
    key_converter: Option<PluginConfig>,
    value_converter: Option<PluginConfig>,
}

/// The options of one plugin within a section: everything below `prefix` but what the framework keeps for itself.
struct Options<'a> {
    section: &'a Section,
    prefix: String,
    entries: Vec<(&'a str, &'a Entry)>,
    /// What unknown keys were probably meant to be: not to be called missing as well.
    meant: HashSet<String>,
}

const CONNECTOR_KINDS: [PluginKind; 2] = [PluginKind::Source, PluginKind::Sink];
const CONVERTERS: [&str; 3] = ["key.converter", "value.converter", "header.converter"];
const CLIENT_PREFIXES: [&str; 3] = ["producer.", "consumer.", "admin."];
const OVERRIDE_PREFIXES: [&str; 3] = ["producer.override.", "consumer.override.", "admin.override."];

impl Checker<'_> {
    fn error(&mut self, section: &Section, key: &str, message: impl Into<String>) {
        let (place, written) = section.place_of(key);
        self.diagnostics.error(&place, written, message);
    }

    fn warning(&mut self, section: &Section, key: &str, message: impl Into<String>) {
        let (place, written) = section.place_of(key);
        self.diagnostics.warning(&place, written, message);
    }

    // The worker.

    fn worker(&mut self, section: &Section) -> Option<CheckedWorker> {
        let providers = self.config_providers(section);
        let definition = WorkerConfig::definition();
        let (mut own, mut client, mut unused) = (Properties::new(), Properties::new(), Vec::new());
        for entry in &section.entries {
            let key = entry.key.as_str();
            let converter = CONVERTERS
                .iter()
                .any(|name| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
            if definition.find(key).is_some() {
                if let Some(text) = self.resolved(entry) {
                    own.set(key, text);
                }
            } else if is_unused_worker_key(key) {
                unused.push(entry);
            } else if converter
                || key == "config.providers"
                || key.starts_with("config.providers.")
                || key == "connector.client.config.override.policy"
            {
                // Checked where they are used.
            } else if let Some(name) = CLIENT_PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix)) {
                self.client_key(entry, name);
                client.set(key, entry.value.as_str());
            } else if is_client_key(key) {
                client.set(key, entry.value.as_str());
            } else if is_connector_key(key) {
                self.diagnostics.error(
                    &entry.place,
                    entry.written.clone(),
                    "is an option of connectors, not of the worker",
                );
            } else {
                let known =
                    names(&definition).chain(CONVERTERS).chain(["config.providers"]).chain(CLIENT_KEYS.iter().copied());
                let message = format!("unknown key{}", did_you_mean(key, known));
                self.diagnostics.error(&entry.place, entry.written.clone(), message);
            }
        }
        if let [first, others @ ..] = &unused[..] {
            let others = others.iter().map(|entry| match entry.place.line {
                Some(line) if entry.place.file == first.place.file => format!("{} (line {line})", entry.key),
                _ => format!("{} ({})", entry.key, entry.place),
            });
            let others = others.collect::<Vec<_>>();
            let nor = if others.is_empty() { String::new() } else { format!("; nor {}", others.join(", ")) };
            let message = format!("not used by a standalone worker{nor}");
            self.diagnostics.warning(&first.place, first.written.clone(), message);
        }
        let converters =
            [self.worker_converter(section, "key.converter"), self.worker_converter(section, "value.converter")];
        let config = self.read::<WorkerConfig>(section, &own);
        let [key_converter, value_converter] = converters;
        Some(CheckedWorker { config: config?, client, providers, key_converter, value_converter })
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

    fn config_providers(&mut self, section: &Section) -> Vec<(String, Plugin, Properties)> {
        let names = section.text("config.providers").map(split_list).unwrap_or_default();
        let mut providers: Vec<(String, Plugin, Properties)> = Vec::new();
        for name in &names {
            if providers.iter().any(|(other, ..)| other == name) {
                self.error(section, "config.providers", format!("names '{name}' twice"));
                continue;
            }
            let prefix = format!("config.providers.{name}.");
            let class_key = format!("{prefix}class");
            // The built-in ones need no class: their name says it.
            let class = section.text(&class_key).unwrap_or(name);
            let plugin = match self.registry.find(&[PluginKind::ConfigProvider], class) {
                Ok(plugin) => plugin,
                Err(_) if section.text(&class_key).is_none() => {
                    let place = section.place_of("config.providers").0;
                    let written = format!("{}{class_key}", section.prefix);
                    self.diagnostics.error(&place, written, "is required and has no default");
                    continue;
                }
                Err(error) => {
                    self.error(section, &class_key, error.to_string());
                    continue;
                }
            };
            for (rest, entry) in section.under(&prefix) {
                if rest != "class" && !rest.starts_with("param.") {
                    let message = "unknown key; a provider's own options begin with 'param.'";
                    self.diagnostics.error(&entry.place, entry.written.clone(), message);
                }
            }
            let options = Options::below(section, format!("{prefix}param."), |_| false);
            if let Some(config) = self.plugin(plugin, options, &class_key) {
                providers.push((name.clone(), config.plugin, config.properties));
            }
        }
        for (rest, entry) in section.under("config.providers.") {
            if !names.iter().any(|name| rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'))) {
                let message = "not used: 'config.providers' does not name this provider";
                self.diagnostics.warning(&entry.place, entry.written.clone(), message);
            }
        }
        // Each was made once already, so this can't fail.
        self.providers = Providers::build(&providers).unwrap_or_default();
        providers
    }

    fn worker_converter(&mut self, section: &Section, key: &str) -> Option<PluginConfig> {
        let prefix = format!("{key}.");
        match section.text(key) {
            Some(_) => self.converter(section, key),
            None => {
                if let Some((_, entry)) = section.under(&prefix).find(|(rest, _)| *rest != "plugin.version") {
                    let message = format!("has no effect without '{key}'");
                    self.diagnostics.error(&entry.place, entry.written.clone(), message);
                }
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

    // Any plugin.

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

    // Chains and transformations.

    /// A chain's stages; nothing where something is wrong with them.
    fn chain(&mut self, section: &Section) -> Option<Vec<StageConfig>> {
        let before = self.diagnostics.errors.len();
        if section.name.is_empty() || section.name.contains(['.', ',']) {
            let message = "the name of a chain has no dot and no comma, and is not empty";
            self.diagnostics.error(&section.place, format!("chains.{}", section.name), message);
        }
        for entry in &section.entries {
            let known = ["transforms", "predicates"]
                .iter()
                .any(|name| entry.key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
            if !known && !entry.key.starts_with("when.") {
                let message = format!("unknown key{}", did_you_mean(&entry.key, ["transforms", "when", "predicates"]));
                self.diagnostics.error(&entry.place, entry.written.clone(), message);
            }
        }
        if section.text("transforms").is_none() {
            self.error(section, "transforms", "is required and has no default");
        }
        let guards = self.when(section, "when.");
        let mut stages = self.stages(section, &HashMap::new())?;
        for stage in &mut stages {
            stage.name = format!("{}/{}", section.name, stage.name);
            stage.guards.splice(0..0, guards.iter().cloned());
        }
        (before == self.diagnostics.errors.len()).then_some(stages)
    }

    /// The stages that `transforms` names, in order.
    fn stages(
        &mut self,
        section: &Section,
        chains: &HashMap<&str, Option<Vec<StageConfig>>>,
    ) -> Option<Vec<StageConfig>> {
        let before = self.diagnostics.errors.len();
        let predicates = self.predicates(section);
        let aliases = section.text("transforms").map(split_list).unwrap_or_default();
        let mut stages = Vec::with_capacity(aliases.len());
        let mut seen = HashSet::new();
        for alias in &aliases {
            if !seen.insert(alias) {
                self.error(section, "transforms", format!("names '{alias}' twice"));
                continue;
            }
            let prefix = format!("transforms.{alias}.");
            let own = section.under(&prefix).next().is_some();
            match (own, chains.get(alias.as_str())) {
                (true, None) => stages.extend(self.stage(section, alias, &prefix, &predicates)),
                (false, Some(chain)) => stages.extend(chain.iter().flatten().cloned()),
                (true, Some(_)) => {
                    self.error(
                        section,
                        "transforms",
                        format!("'{alias}' is a chain and a transformation here; rename one"),
                    );
                }
                (false, None) => {
                    let known = chains
                        .keys()
                        .copied()
                        .chain(section.under("transforms.").filter_map(|(rest, _)| rest.split('.').next()));
                    let message = format!(
                        "'{alias}' is neither a chain ([chains.{alias}]) nor a transformation here ('{prefix}type'){}",
                        did_you_mean(alias, known)
                    );
                    self.error(section, "transforms", message);
                }
            }
        }
        let mut unlisted = HashSet::new();
        for (rest, entry) in section.under("transforms.") {
            let listed =
                aliases.iter().any(|alias| rest.strip_prefix(alias.as_str()).is_some_and(|rest| rest.starts_with('.')));
            let name = rest.split('.').next().unwrap_or(rest);
            if !listed && unlisted.insert(name) {
                let message = format!("not used: 'transforms' does not name '{name}'");
                self.diagnostics.warning(&entry.place, entry.written.clone(), message);
            }
        }
        (before == self.diagnostics.errors.len()).then_some(stages)
    }

    fn stage(
        &mut self,
        section: &Section,
        alias: &str,
        prefix: &str,
        predicates: &HashMap<String, Option<PluginConfig>>,
    ) -> Option<StageConfig> {
        let reserved = |rest: &str| {
            matches!(rest, "type" | "predicate" | "negate" | "plugin.version") || rest.starts_with("when.")
        };
        let type_key = format!("{prefix}type");
        let plugin = self.find(section, &type_key, &[PluginKind::Transformation]);
        let transformation = plugin
            .and_then(|plugin| self.plugin(plugin, Options::below(section, prefix.to_owned(), reserved), &type_key));
        let mut guards = self.when(section, &format!("{prefix}when."));
        let (predicate_key, negate_key) = (format!("{prefix}predicate"), format!("{prefix}negate"));
        let negate = match section.text(&negate_key) {
            None => false,
            Some(text) if text.eq_ignore_ascii_case("false") => false,
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) => {
                self.error(section, &negate_key, format!("must be true or false, found '{text}'"));
                false
            }
        };
        match section.text(&predicate_key) {
            Some(name) => match predicates.get(name) {
                Some(predicate) => guards.extend(predicate.clone().map(|predicate| GuardConfig { predicate, negate })),
                None => {
                    let hint = did_you_mean(name, predicates.keys().map(String::as_str));
                    let message =
                        format!("no predicate is called '{name}' here: 'predicates.{name}.type' is not set{hint}");
                    self.error(section, &predicate_key, message);
                }
            },
            None if section.get(&negate_key).is_some() => {
                let message = format!("there is no config '{predicate_key}' defining a predicate to be negated");
                self.error(section, &negate_key, message);
            }
            None => {}
        }
        Some(StageConfig { name: alias.to_owned(), transformation: transformation?, guards })
    }

    /// The predicates of a section by name; nothing for one that is wrong.
    fn predicates(&mut self, section: &Section) -> HashMap<String, Option<PluginConfig>> {
        let mut names = section.text("predicates").map(split_list).unwrap_or_default();
        for (rest, _) in section.under("predicates.") {
            // The list may be left out.
            if let Some(name) = rest.strip_suffix(".type").filter(|name| !names.iter().any(|other| other == name)) {
                names.push(name.to_owned());
            }
        }
        let mut found = HashMap::new();
        for name in &names {
            let prefix = format!("predicates.{name}.");
            let type_key = format!("{prefix}type");
            let plugin = self.find(section, &type_key, &[PluginKind::Predicate]);
            let reserved = |rest: &str| matches!(rest, "type" | "plugin.version");
            let predicate = plugin
                .and_then(|plugin| self.plugin(plugin, Options::below(section, prefix.clone(), reserved), &type_key));
            found.insert(name.clone(), predicate);
        }
        for (rest, entry) in section.under("predicates.") {
            if !names.iter().any(|name| rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'))) {
                let message = "belongs to no predicate: its '.type' is not set";
                self.diagnostics.error(&entry.place, entry.written.clone(), message);
            }
        }
        found
    }

    /// `when = { topic-matches = "..", has-header = "..", tombstone = true, not = { .. } }`: each is a predicate, and all must
    /// hold.
    fn when(&mut self, section: &Section, prefix: &str) -> Vec<GuardConfig> {
        let mut guards = Vec::new();
        let negated = section.under(prefix).filter(|(rest, _)| rest.starts_with("not.")).count();
        for (rest, entry) in section.under(prefix) {
            let (negate, question) = rest.strip_prefix("not.").map_or((false, rest), |rest| (true, rest));
            if negate && negated > 1 {
                let message = "'not' takes one question: for several, guard by 'predicates'";
                self.diagnostics.error(&entry.place, entry.written.clone(), message);
                continue;
            }
            let (name, properties, turned) = match question {
                "topic-matches" => ("topic-name-matches", Some(("pattern", entry.value.as_str())), false),
                "has-header" => ("has-header-key", Some(("name", entry.value.as_str())), false),
                "tombstone" => match entry.value.trim() {
                    "true" => ("record-is-tombstone", None, false),
                    "false" => ("record-is-tombstone", None, true),
                    other => {
                        let message = format!("must be true or false, found '{other}'");
                        self.diagnostics.error(&entry.place, entry.written.clone(), message);
                        continue;
                    }
                },
                _ => {
                    let known = ["topic-matches", "has-header", "tombstone", "not"];
                    let hint = did_you_mean(question, known);
                    let message = format!("unknown question{hint} (there are {})", known.join(", "));
                    self.diagnostics.error(&entry.place, entry.written.clone(), message);
                    continue;
                }
            };
            let properties = Properties::from_iter(properties);
            let made = self.registry.find(&[PluginKind::Predicate], name).map_err(|error| error.to_string()).and_then(
                |plugin| {
                    let Constructor::Predicate(make) = plugin.constructor else {
                        return Err(format!("'{name}' is no predicate"));
                    };
                    if properties.iter().any(|(_, text)| self.providers.mentioned_in(text)) {
                        return Ok(plugin);
                    }
                    make(&properties).map_err(|error| {
                        let message = error.to_string();
                        let own = properties.keys().find_map(|key| message.strip_prefix(&format!("{key}: ")));
                        own.unwrap_or(&message).to_owned()
                    })?;
                    Ok(plugin)
                },
            );
            match made {
                Ok(plugin) => guards
                    .push(GuardConfig { predicate: PluginConfig { plugin, properties }, negate: negate != turned }),
                Err(message) => self.diagnostics.error(&entry.place, entry.written.clone(), message),
            }
        }
        guards
    }

    // Connectors.

    fn connector(
        &mut self,
        section: &Section,
        worker_section: Option<&Section>,
        worker: &Option<CheckedWorker>,
        chains: &HashMap<&str, Option<Vec<StageConfig>>>,
    ) -> Option<ConnectorConfig> {
        let before = self.diagnostics.errors.len();
        self.name(section);
        let plugin = self.find(section, "connector.class", &CONNECTOR_KINDS);
        let kind = plugin.as_ref().map(Plugin::kind);
        let own_definition = plugin.as_ref().map(|plugin| (plugin.definition)());
        let (common, sink, source) = (CommonConfig::definition(), SinkConfig::definition(), SourceConfig::definition());
        let of_kind = match kind {
            Some(PluginKind::Sink) => Some(&sink),
            Some(PluginKind::Source) => Some(&source),
            _ => None,
        };

        // Every key belongs to somebody.
        let mut framework = Properties::new();
        let mut own = Options { section, prefix: String::new(), entries: Vec::new(), meant: HashSet::new() };
        for entry in &section.entries {
            let key = entry.key.as_str();
            if common.find(key).is_some() || of_kind.is_some_and(|definition| definition.find(key).is_some()) {
                if let Some(text) = self.resolved(entry) {
                    framework.set(key, text);
                }
            } else if let Some(name) = OVERRIDE_PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix)) {
                self.client_key(entry, name);
                self.override_policy(entry, name, worker_section);
            } else if is_framework_prefixed(key)
                || (key.starts_with("topic.creation.") && kind == Some(PluginKind::Source))
            {
                // Checked with what it belongs to.
            } else if key.starts_with("confluent.") && own_definition.as_ref().is_none_or(|own| own.find(key).is_none())
            {
                self.diagnostics.warning(&entry.place, entry.written.clone(), "not used: no licence is needed");
            } else if let Some(definition) = &own_definition {
                if definition.find(key).is_some() {
                    own.entries.push((key, entry));
                } else {
                    let known = names(definition).chain(names(&common)).chain(of_kind.into_iter().flat_map(names));
                    let message = match nearest(key, known) {
                        _ if WorkerConfig::definition().find(key).is_some() => {
                            "is an option of the worker, not of a connector".to_owned()
                        }
                        Some(meant) => {
                            own.meant.insert(meant.to_owned());
                            format!("unknown key; did you mean '{meant}'?")
                        }
                        None => {
                            let name = plugin.as_ref().map_or("NAME", |plugin| plugin.name);
                            format!("unknown key; `ottla plugins describe {name}` lists what there is")
                        }
                    };
                    self.diagnostics.error(&entry.place, entry.written.clone(), message);
                }
            }
        }
        if plugin.is_none() {
            // Said already. Without the plugin, its keys can't be told from mistakes.
            framework.set("connector.class", "unknown");
        }
        let common = self.read::<CommonConfig>(section, &framework);
        let sink = match kind {
            Some(PluginKind::Sink) => Some(self.sink_input(section, worker_section, &framework)),
            _ => None,
        };
        if kind == Some(PluginKind::Source) {
            self.source(section, worker, &framework);
        }
        self.header_converter(section);
        let key_converter = self.connector_converter(section, "key.converter", worker);
        let value_converter = self.connector_converter(section, "value.converter", worker);
        let chain = self.stages(section, chains);
        if let (Some(definition), Some(plugin)) = (&own_definition, &plugin) {
            self.values(definition, &own, "");
            self.validate(section, plugin, &own.meant);
        }

        if before != self.diagnostics.errors.len() {
            return None;
        }
        let (plugin, common) = (plugin?, common?);
        let prefix = if kind == Some(PluginKind::Sink) { "consumer.override." } else { "producer.override." };
        let mut properties = section.properties();
        properties.set("name", section.name.as_str());
        Some(ConnectorConfig {
            name: section.name.clone(),
            client: properties.with_prefix(prefix),
            plugin,
            properties,
            tasks_max: common.tasks_max,
            key_converter: key_converter?,
            value_converter: value_converter?,
            chain: chain?,
            errors: ErrorsConfig {
                dead_letter_topic: common.errors.dead_letter_topic.filter(|topic| !topic.trim().is_empty()),
                ..common.errors
            },
            sink: match sink {
                Some(input) => Some(input?),
                None => None,
            },
        })
    }

    fn name(&mut self, section: &Section) {
        if section.name.trim().is_empty() {
            self.error(section, "name", "must not be empty");
        } else if section.name.chars().any(char::is_control) {
            self.error(section, "name", "must not hold control characters");
        } else if !section.prefix.is_empty() && section.text("name").is_some_and(|name| name != section.name) {
            let message = format!("must be '{}', as its table is called, or be left out", section.name);
            self.error(section, "name", message);
        }
    }

    fn override_policy(&mut self, entry: &Entry, name: &str, worker: Option<&Section>) {
        let policy = worker.and_then(|worker| worker.text("connector.client.config.override.policy")).unwrap_or("All");
        let allowed = match policy {
            "None" => false,
            "Principal" => ["sasl.jaas.config", "sasl.mechanism", "security.protocol"].contains(&name),
            _ => true,
        };
        if !allowed {
            let message =
                format!("the worker's 'connector.client.config.override.policy' ('{policy}') does not allow this");
            self.diagnostics.error(&entry.place, entry.written.clone(), message);
        }
    }

    /// What a sink reads, with Kafka Connect's messages.
    fn sink_input(&mut self, section: &Section, worker: Option<&Section>, framework: &Properties) -> Option<SinkInput> {
        let text = |key: &str| framework.get(key).map(str::trim).filter(|text| !text.is_empty());
        let dead_letters_key = "errors.deadletterqueue.topic.name";
        let dead_letters = text(dead_letters_key);
        let subscription = match (text("topics"), text("topics.regex")) {
            (Some(_), Some(_)) => {
                let message = "topics and topics.regex are mutually exclusive options, but both are set.";
                self.error(section, "topics", message);
                None
            }
            (None, None)
                if ["topics", "topics.regex"].iter().any(|key| section.unreadable.iter().any(|other| other == key)) =>
            {
                // Said already.
                None
            }
            (None, None) => {
                self.error(section, "topics", "Must configure one of topics or topics.regex");
                None
            }
            (Some(topics), None) => {
                let topics = split_list(topics);
                if let Some(topic) = dead_letters.filter(|topic| topics.iter().any(|name| name == topic)) {
                    let message = format!(
                        "The DLQ topic '{topic}' may not be included in the list of topics ('topics=[{}]') consumed by the connector",
                        topics.join(", ")
                    );
                    self.error(section, dead_letters_key, message);
                }
                Some(Subscription::Topics(topics))
            }
            (None, Some(pattern)) => match java_regex::full_match(pattern) {
                Ok(regex) => {
                    if let Some(topic) = dead_letters.filter(|topic| regex.is_match(topic)) {
                        let message = format!(
                            "The DLQ topic '{topic}' may not be matched by the regex for the topics ('topics.regex={pattern}') consumed by the connector"
                        );
                        self.error(section, dead_letters_key, message);
                    }
                    Some(Subscription::Regex(regex))
                }
                Err(message) => {
                    self.error(section, "topics.regex", message);
                    None
                }
            },
        };
        let setting = |name: &str| {
            let own = section.get(&format!("consumer.override.{name}"));
            own.or_else(|| worker.and_then(|worker| worker.get(&format!("consumer.{name}"))))
        };
        let group = match setting("group.id") {
            Some(entry) => self.resolved(entry)?.trim().to_owned(),
            None => format!("connect-{}", section.name),
        };
        let start = match setting("auto.offset.reset") {
            None => StartPosition::Earliest,
            Some(entry) => match self.resolved(entry)?.trim() {
                "earliest" | "smallest" | "beginning" => StartPosition::Earliest,
                "latest" | "largest" | "end" => StartPosition::Latest,
                "none" | "error" => StartPosition::None,
                other => {
                    let message = format!("must be one of earliest, latest, none, found '{other}'");
                    self.diagnostics.error(&entry.place, entry.written.clone(), message);
                    return None;
                }
            },
        };
        Some(SinkInput { subscription: subscription?, group, start })
    }

    fn source(&mut self, section: &Section, worker: &Option<CheckedWorker>, framework: &Properties) {
        let Some(source) = self.read::<SourceConfig>(section, framework) else { return };
        let own_broker = section.text("producer.override.bootstrap.servers");
        let broker = own_broker.or(worker.as_ref().map(|worker| worker.config.bootstrap_servers.as_str()));
        if source.exactly_once_support == ExactlyOnce::Required && broker.is_some_and(|broker| broker != "embedded") {
            let message =
                "can't be 'required': into Kafka, sources deliver at least once (embedded topics: exactly once)";
            self.error(section, "exactly.once.support", message);
        }
        self.topic_creation(section, &source.topic_creation_groups.unwrap_or_default());
        if section.text("errors.deadletterqueue.topic.name").is_some() {
            self.warning(section, "errors.deadletterqueue.topic.name", "not used: only sinks have a dead letter queue");
        }
    }

    /// `topic.creation.*`, with Kafka Connect's rules.
    fn topic_creation(&mut self, section: &Section, groups: &[String]) {
        let mut any = false;
        for (rest, entry) in section.under("topic.creation.") {
            if rest == "groups" {
                continue;
            }
            any = true;
            let owner = std::iter::once("default")
                .chain(groups.iter().map(String::as_str))
                .find_map(|group| rest.strip_prefix(group)?.strip_prefix('.'));
            let message = match owner {
                None => Some("belongs to no group: 'topic.creation.groups' does not name it".to_owned()),
                Some("partitions" | "replication.factor") => match entry.value.trim().parse::<i32>() {
                    Ok(n) if n >= 1 || n == -1 => None,
                    _ => Some(format!("must be at least 1, or -1 for the broker's default, found '{}'", entry.value)),
                },
                Some("include" | "exclude") => {
                    split_list(&entry.value).iter().find_map(|pattern| java_regex::full_match(pattern).err())
                }
                // Any setting of a topic.
                Some(_) => None,
            };
            if let Some(message) = message {
                self.diagnostics.error(&entry.place, entry.written.clone(), message);
            }
        }
        if any || !groups.is_empty() {
            for key in ["topic.creation.default.replication.factor", "topic.creation.default.partitions"] {
                if section.get(key).is_none() {
                    self.error(section, key, "is required as soon as any 'topic.creation.*' is set");
                }
            }
        }
        for group in groups {
            let key = format!("topic.creation.{group}.include");
            if section.get(&key).is_none() {
                self.error(section, &key, "is required: which topics are in the group");
            }
        }
    }

    fn header_converter(&mut self, section: &Section) {
        let simple = section.text("header.converter").map(|class| class.rsplit('.').next().unwrap_or(class));
        if simple.is_some_and(|simple| !["SimpleHeaderConverter", "StringConverter", "string"].contains(&simple)) {
            let message = "not used: a header is text where its bytes are text, else bytes";
            self.warning(section, "header.converter", message);
        }
    }

    /// The connector's converter, else the worker's, else `string` for keys and `json` without schemas for values.
    fn connector_converter(
        &mut self,
        section: &Section,
        key: &str,
        worker: &Option<CheckedWorker>,
    ) -> Option<PluginConfig> {
        if section.text(key).is_some() {
            return self.converter(section, key);
        }
        let is_key = key == "key.converter";
        let inherited = worker
            .as_ref()
            .and_then(|worker| if is_key { worker.key_converter.clone() } else { worker.value_converter.clone() });
        let options = Options::below(section, format!("{key}."), |rest| rest == "plugin.version");
        if let Some(inherited) = inherited {
            if let Some((_, entry)) = options.entries.first() {
                let message = format!("not used: without '{key}' here, the worker's applies with the worker's options");
                self.diagnostics.warning(&entry.place, entry.written.clone(), message);
            }
            return Some(inherited);
        }
        let name = if is_key { "string" } else { "json" };
        match self.registry.find(&[PluginKind::Converter], name) {
            Ok(plugin) => {
                let mut config = self.plugin(plugin, options, key)?;
                if !is_key && !config.properties.contains("schemas.enable") {
                    config.properties.set("schemas.enable", "false");
                }
                Some(config)
            }
            Err(error) => {
                self.error(section, key, error.to_string());
                None
            }
        }
    }

    /// What the connector itself has to say, about options whose values are known by now.
    fn validate(&mut self, section: &Section, plugin: &Plugin, meant: &HashSet<String>) {
        let mut properties = section.properties();
        properties.set("name", section.name.as_str());
        let errors = match plugin.constructor {
            Constructor::Sink(make) => make().validate(&properties),
            Constructor::Source(make) => make().validate(&properties),
            _ => Vec::new(),
        };
        for error in errors {
            let (place, written) = section.place_of(&error.key);
            let said = self.diagnostics.errors.iter().any(|said| {
                said.key.as_ref() == Some(&written)
                    && said.file.as_deref() == place.file.as_deref()
                    && said.line == place.line
            });
            let unresolved = properties.get(&error.key).is_some_and(|text| self.providers.mentioned_in(text));
            if !said && !unresolved && !meant.contains(&error.key) && !section.unreadable.contains(&error.key) {
                self.diagnostics.error(&place, written, error.message);
            }
        }
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
