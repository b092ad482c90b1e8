//! `ottla plugins list`, `describe`: what there is, and what each option of it means.

use std::fmt::Write as _;

use comfy_table::Table;
use ottla_api::config::{ConfigKey, Importance, KeyName};
use ottla_api::plugin::{Plugin, PluginKind};
use ottla_runtime::plugins::Registry;
use serde_json::{Value, json};

/// Longest line of what is printed for people, where no terminal says less.
const PAGE_WIDTH: usize = 100;

/// By kind, then by name.
fn sorted(registry: &Registry) -> Vec<&Plugin> {
    let mut plugins = registry.plugins().iter().collect::<Vec<_>>();
    plugins.sort_by_key(|plugin| (plugin.kind(), plugin.name));
    plugins
}

/// Every plugin on a line, grouped by kind.
pub(super) fn list(registry: &Registry) -> String {
    let plugins = sorted(registry);
    let width = plugins.iter().map(|plugin| plugin.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for group in plugins.chunk_by(|a, b| a.kind() == b.kind()) {
        let _ = writeln!(text, "{}", title(group[0].kind()));
        for plugin in group {
            let mut about = first_sentence(plugin.doc);
            let aliases = plugin.aliases.iter().map(|alias| simple(alias)).collect::<Vec<_>>();
            if !aliases.is_empty() {
                let _ = write!(about, " ({})", aliases.join(", "));
            }
            if let Some(library) = registry.library_of(plugin) {
                let _ = write!(about, " [of {}]", library.path.display());
            }
            let mut name = plugin.name;
            for line in wrapped(&about, page_width().saturating_sub(width + 4)) {
                let _ = writeln!(text, "  {name:width$}  {line}");
                name = "";
            }
        }
        text.push('\n');
    }
    text.push_str("`ottla plugins describe NAME` explains every option of one. Names of Kafka Connect, in brackets, are accepted too.\n");
    text
}

/// The same as JSON.
pub(super) fn list_json(registry: &Registry) -> Value {
    Value::from_iter(sorted(registry).into_iter().map(summary))
}

fn title(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Source => "Sources",
        PluginKind::Sink => "Sinks",
        PluginKind::Transformation => "Transformations",
        PluginKind::Predicate => "Predicates",
        PluginKind::Converter => "Converters",
        PluginKind::ConfigProvider => "Config providers",
    }
}

/// How wide text may be: what the terminal has, up to what reads well.
fn page_width() -> usize {
    Table::new().width().map_or(PAGE_WIDTH, |width| usize::from(width).clamp(40, PAGE_WIDTH))
}

/// The last part of a Java class name.
fn simple(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

pub(super) fn first_sentence(doc: &str) -> String {
    let paragraph = doc.trim().split("\n\n").next().unwrap_or_default();
    let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.find(". ") {
        Some(end) => text[..=end].to_owned(),
        None => text,
    }
}

/// Everything about one plugin.
pub(super) fn describe(plugin: &Plugin) -> String {
    let width = page_width();
    let doc = page(plugin.doc.trim(), width);
    let mut text = format!("{} ({}, version {})\n\n{doc}", plugin.name, plugin.kind(), plugin.version);
    if !plugin.aliases.is_empty() {
        text.push('\n');
        for line in wrapped(&format!("Also called: {}", plugin.aliases.join(", ")), width) {
            let _ = writeln!(text, "{line}");
        }
    }
    let definition = (plugin.definition)();
    if definition.keys.is_empty() {
        text.push_str("\nIt has no options.\n");
        return text;
    }
    text.push_str("\nOptions\n");
    for option in &definition.keys {
        let _ = writeln!(text, "\n  {}  ({})", option.display_name(), facts(option).join(", "));
        if !option.aliases.is_empty() {
            let _ = writeln!(text, "      also {}", option.aliases.join(", "));
        }
        for line in wrapped(&option.doc, width.saturating_sub(6)) {
            let _ = writeln!(text, "      {line}");
        }
    }
    if matches!(plugin.kind(), PluginKind::Source | PluginKind::Sink) {
        text.push_str("\nOptions that every connector has are in `ottla plugins reference`.\n");
    }
    text
}

/// Type or choices, default, importance.
fn facts(option: &ConfigKey) -> Vec<String> {
    let kind = if option.choices.is_empty() { option.type_name.to_string() } else { option.choices.join(" | ") };
    let mut facts = vec![kind];
    match &option.default {
        Some(default) if default.is_empty() => facts.push("default empty".to_owned()),
        Some(default) => facts.push(format!("default {default}")),
        None if option.required => facts.push("required".to_owned()),
        None => {}
    }
    facts.push(format!("{} importance", importance(option.importance)));
    facts
}

fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        Importance::Low => "low",
    }
}

/// Markdown for a terminal: paragraphs wrapped anew, code, lists and tables as they are.
fn page(markdown: &str, width: usize) -> String {
    let (mut text, mut paragraph, mut code) = (String::new(), String::new(), false);
    for line in markdown.lines().chain([""]) {
        let fence = line.starts_with("```");
        let prose = !code && !fence && line.starts_with(|c: char| c.is_alphanumeric() || "`*\"[(_".contains(c));
        if prose {
            paragraph.push_str(line);
            paragraph.push('\n');
            continue;
        }
        if !paragraph.is_empty() {
            for line in wrapped(&paragraph, width) {
                let _ = writeln!(text, "{line}");
            }
            paragraph.clear();
        }
        code ^= fence;
        let _ = writeln!(text, "{line}");
    }
    // The empty line that ended the last paragraph.
    text.pop();
    text
}

/// The lines of a text, paragraph by paragraph, none longer than `width` where words allow it.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.trim().split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

fn summary(plugin: &Plugin) -> Value {
    json!({
        "name": plugin.name,
        "kind": plugin.kind().to_string(),
        "version": plugin.version,
        "summary": first_sentence(plugin.doc),
        "aliases": plugin.aliases,
    })
}

/// The same as JSON.
pub(super) fn details(plugin: &Plugin) -> Value {
    let mut value = summary(plugin);
    value["doc"] = json!(plugin.doc);
    value["options"] = (plugin.definition)()
        .keys
        .iter()
        .map(|option| {
            json!({
                "name": option.display_name(),
                "prefix": matches!(option.name, KeyName::Prefix(_)),
                "aliases": option.aliases,
                "type": option.type_name,
                "choices": option.choices,
                "default": option.default,
                "required": option.required,
                "importance": importance(option.importance),
                "secret": option.secret,
                "doc": option.doc,
            })
        })
        .collect();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_and_code_is_not() {
        let markdown =
            "One two three\nfour.\n\n```toml\ntype = \"a long line of code\"\n\n```\n\n| a | b |\n|---|---|\n\nEnd.";
        let expected =
            "One two\nthree four.\n\n```toml\ntype = \"a long line of code\"\n\n```\n\n| a | b |\n|---|---|\n\nEnd.\n";
        assert_eq!(page(markdown, 12), expected);
    }
}
