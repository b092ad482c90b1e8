//! Checks transformations, their guards, and chains of them.

use std::collections::{HashMap, HashSet};

use ottla_api::config::{Properties, split_list};
use ottla_api::plugin::{Constructor, PluginKind};

use super::super::nearest::did_you_mean;
use super::super::section::Section;
use super::super::{GuardConfig, PluginConfig, StageConfig};
use super::{Checker, Options};

impl Checker<'_> {
    /// A chain's stages; nothing where something is wrong with them.
    pub(super) fn chain(&mut self, section: &Section) -> Option<Vec<StageConfig>> {
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
    pub(super) fn stages(
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

    /// `when = { topic-matches = "..", has-header = "..", tombstone = true, expression = "..", not = { .. } }`: each is a
    /// predicate, and all must hold.
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
                "expression" => ("expression", Some(("condition", entry.value.as_str())), false),
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
                    let known = ["topic-matches", "has-header", "tombstone", "expression", "not"];
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
}
