//! `ottla plugins`: what there is, and what each option of it means.

use std::fmt::Write as _;
use std::io::Write as _;

use comfy_table::{ColumnConstraint, Table, Width, presets};
use ottla_api::config::{ConfigKey, Importance, KeyName};
use ottla_api::plugin::{Plugin, PluginKind};
use ottla_runtime::config::reference;
use ottla_runtime::plugins::Registry;
use serde_json::{Value, json};

use crate::{EXIT_CONFIG, EXIT_DONE};

/// Options of `ottla plugins`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ottla plugins
  ottla plugins describe s3-sink
  ottla plugins describe org.apache.kafka.connect.json.JsonConverter --json
  ottla plugins reference > configuration.md")]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    command: Option<PluginsCommand>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// What to show.
#[derive(Debug, clap::Subcommand)]
enum PluginsCommand {
    /// Explain one plugin: every option with its type, default and meaning.
    Describe {
        /// Its native name, a Java class name, or the end of one.
        name: String,
    },
    /// Print the reference of every option as Markdown.
    Reference,
}

/// Shows; the answer is the exit code.
pub(crate) fn run(args: PluginsArgs, registry: &Registry) -> u8 {
    let text = match args.command {
        None if args.json => format!("{:#}\n", Value::from_iter(sorted(registry).into_iter().map(summary))),
        None => list(registry),
        Some(PluginsCommand::Reference) => reference(registry),
        Some(PluginsCommand::Describe { name }) => match registry.find_any(&name) {
            Ok(plugin) if args.json => format!("{:#}\n", details(&plugin)),
            Ok(plugin) => describe(&plugin),
            Err(error) => {
                eprintln!("ottla: {error}");
                return EXIT_CONFIG;
            }
        },
    };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    EXIT_DONE
}

/// By kind, then by name.
fn sorted(registry: &Registry) -> Vec<&Plugin> {
    let mut plugins = registry.plugins().iter().collect::<Vec<_>>();
    plugins.sort_by_key(|plugin| (plugin.kind(), plugin.name));
    plugins
}

fn list(registry: &Registry) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["name", "kind", "version", "what it does", "also called"]);
    for plugin in sorted(registry) {
        let aliases = plugin.aliases.iter().map(|alias| simple(alias)).collect::<Vec<_>>();
        table.add_row([
            plugin.name.to_owned(),
            plugin.kind().to_string(),
            plugin.version.to_owned(),
            first_sentence(plugin.doc),
            aliases.join("\n"),
        ]);
    }
    if let Some(column) = table.column_mut(3) {
        column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(64)));
    }
    format!("{table}\n`ottla plugins describe NAME` explains every option of one.\n")
}

/// The last part of a Java class name.
fn simple(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

fn first_sentence(doc: &str) -> String {
    let paragraph = doc.trim().split("\n\n").next().unwrap_or_default();
    let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.find(". ") {
        Some(end) => text[..=end].to_owned(),
        None => text,
    }
}

fn describe(plugin: &Plugin) -> String {
    let mut text =
        format!("{} ({}, version {})\n\n{}\n", plugin.name, plugin.kind(), plugin.version, plugin.doc.trim());
    if !plugin.aliases.is_empty() {
        let _ = writeln!(text, "\nAlso called: {}", plugin.aliases.join(", "));
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
        for line in wrapped(&option.doc, 96) {
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

fn details(plugin: &Plugin) -> Value {
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
