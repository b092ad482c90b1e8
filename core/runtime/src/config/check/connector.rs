//! Checks a connector's section: every key belongs to somebody, and all fit together.

use std::collections::{HashMap, HashSet};

use ottla_api::config::{Config as _, Properties, check_topic_name, java_regex, split_list};
use ottla_api::plugin::{Constructor, Plugin, PluginKind};

use super::super::nearest::nearest;
use super::super::options::{Boundary, CommonConfig, ExactlyOnce, ExactlyOnceSources, SinkConfig, SourceConfig};
use super::super::section::{Entry, Section};
use super::super::{ConnectorConfig, ErrorsConfig, PluginConfig, SinkInput, StageConfig, WorkerConfig};
use super::worker::CheckedWorker;
use super::{Checker, Options, is_framework_prefixed, names};
use crate::broker::{StartPosition, Subscription};

const CONNECTOR_KINDS: [PluginKind; 2] = [PluginKind::Source, PluginKind::Sink];
const OVERRIDE_PREFIXES: [&str; 3] = ["producer.override.", "consumer.override.", "admin.override."];

impl Checker<'_> {
    pub(super) fn connector(
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
        if let Some(Err(message)) = dead_letters.map(check_topic_name) {
            self.error(section, dead_letters_key, message);
        }
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
                for message in topics.iter().filter_map(|topic| check_topic_name(topic).err()) {
                    self.error(section, "topics", message);
                }
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
        let enabled = worker.as_ref().is_some_and(|worker| {
            worker.config.exactly_once_source_support == ExactlyOnceSources::Enabled
                || source.exactly_once_support == ExactlyOnce::Required
        });
        let transactions = enabled && broker.is_some_and(|broker| broker != "embedded");
        if transactions && source.transaction_boundary == Boundary::Connector {
            let message =
                "can't be 'connector': no source here says where its transactions end; use 'poll' or 'interval'";
            self.error(section, "transaction.boundary", message);
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
