//! Checks the worker's section: its own options, settings of clients, config providers, default converters.

use ottla_api::config::{Config as _, Properties, split_list};
use ottla_api::plugin::{Plugin, PluginKind};

use super::super::keys::{CLIENT_KEYS, is_client_key, is_unused_worker_key};
use super::super::nearest::nearest;
use super::super::section::Section;
use super::super::{PluginConfig, WorkerConfig};
use super::{Checker, Options, is_connector_key, names};
use crate::plugins::config_providers::Providers;

/// The worker's section, checked.
pub(super) struct CheckedWorker {
    pub(super) config: WorkerConfig,
    pub(super) client: Properties,
    pub(super) providers: Vec<(String, Plugin, Properties)>,
    pub(super) key_converter: Option<PluginConfig>,
    pub(super) value_converter: Option<PluginConfig>,
}

const CONVERTERS: [&str; 3] = ["key.converter", "value.converter", "header.converter"];
const CLIENT_PREFIXES: [&str; 3] = ["producer.", "consumer.", "admin."];

impl Checker<'_> {
    pub(super) fn worker(&mut self, section: &Section) -> Option<CheckedWorker> {
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
                let meant = nearest(key, known);
                if meant == Some("bootstrap.servers") {
                    // Misspelt is not missing as well.
                    own.set("bootstrap.servers", "unknown");
                }
                let hint = meant.map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"));
                let message = format!("unknown key{hint}");
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
}
