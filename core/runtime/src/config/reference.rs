//! The reference page of every option, from the same definitions that check them.

use std::fmt::Write as _;

use ottla_api::config::{Config as _, ConfigDef, ConfigKey, Importance};
use ottla_api::plugin::{Plugin, PluginKind};

use crate::plugins::Registry;

use super::options::{CommonConfig, SinkConfig, SourceConfig};
use super::{GatewayConfig, WorkerConfig};

/// `core/docs/configuration.md`: worker, connectors in common, and every plugin, as Markdown.
pub fn reference(registry: &Registry) -> String {
    let mut page = include_str!("reference.md").to_owned();
    section(&mut page, "## Worker\n", &WorkerConfig::definition());
    section(&mut page, GATEWAY, &GatewayConfig::definition());
    section(&mut page, "## Every connector\n", &CommonConfig::definition());
    section(&mut page, "### Every sink\n", &SinkConfig::definition());
    section(&mut page, "### Every source\n", &SourceConfig::definition());
    for (kind, title) in [
        (PluginKind::Source, "## Sources"),
        (PluginKind::Sink, "## Sinks"),
        (PluginKind::Transformation, "## Transformations"),
        (PluginKind::Predicate, "## Predicates"),
        (PluginKind::Converter, "## Converters"),
        (PluginKind::ConfigProvider, "## Config providers"),
    ] {
        let mut plugins = registry.plugins().iter().filter(|plugin| plugin.kind() == kind).collect::<Vec<_>>();
        plugins.sort_by_key(|plugin| plugin.name);
        if !plugins.is_empty() {
            let _ = write!(page, "\n{title}\n");
        }
        for plugin in plugins {
            page.push('\n');
            page.push_str(&describe(plugin, "###"));
        }
    }
    page
}

/// What stands before the gateway's options.
const GATEWAY: &str = "## Gateway

`[gateway]` in a TOML file, `gateway.*` in the worker's `.properties`, `--set gateway.listener=..`. An empty `[gateway]` will do.
";

/// One plugin as Markdown: what it does, its other names, its options.
pub fn describe(plugin: &Plugin, heading: &str) -> String {
    let mut text = format!("{heading} {}\n\n{}\n", plugin.name, below(plugin.doc, heading));
    if !plugin.aliases.is_empty() {
        let aliases = plugin.aliases.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>();
        let _ = write!(text, "\nAlso: {}\n", aliases.join(", "));
    }
    let definition = (plugin.definition)();
    if definition.keys.is_empty() {
        text.push_str("\nNo options.\n");
    } else {
        table(&mut text, &definition);
    }
    text
}

/// A plugin's text with its own headings below `heading`.
fn below(doc: &str, heading: &str) -> String {
    let mut code = false;
    let lines = doc.trim().lines().map(|line| {
        code ^= line.starts_with("```");
        if line.starts_with('#') && !code { format!("{heading}{line}") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn section(page: &mut String, title: &str, definition: &ConfigDef) {
    let _ = write!(page, "\n{title}");
    table(page, definition);
}

fn table(page: &mut String, definition: &ConfigDef) {
    page.push_str("\n| option | type | default | importance | meaning |\n|---|---|---|---|---|\n");
    for option in &definition.keys {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            option.display_name(),
            cell(&kind(option)),
            cell(&default(option)),
            importance(option.importance),
            cell(&meaning(option)),
        );
    }
}

fn kind(option: &ConfigKey) -> String {
    if option.choices.is_empty() {
        option.type_name.to_string()
    } else {
        option.choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ")
    }
}

fn default(option: &ConfigKey) -> String {
    match &option.default {
        Some(text) if text.is_empty() => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
        None if option.required => "required".to_owned(),
        None => String::new(),
    }
}

fn meaning(option: &ConfigKey) -> String {
    // One paragraph a cell: lines of a paragraph run together, paragraphs are kept apart.
    let paragraphs = option.doc.split("\n\n").map(|paragraph| paragraph.split('\n').collect::<Vec<_>>().join(" "));
    let mut text = paragraphs.collect::<Vec<_>>().join("<br>");
    if !option.aliases.is_empty() {
        let aliases = option.aliases.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>();
        let _ = write!(text, " Also: {}.", aliases.join(", "));
    }
    text
}

fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        Importance::Low => "low",
    }
}

/// A table's cell: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
