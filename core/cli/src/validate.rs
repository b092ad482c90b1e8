//! `ottla validate`: what configuration files mean, or every mistake in them, without connecting to anything.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use ottla_api::plugin::{Constructor, PluginKind};
use ottla_runtime::broker::{StartPosition, Subscription};
use ottla_runtime::config::{Configuration, ConnectorConfig, Diagnostics, Tolerance, load};
use ottla_runtime::plugins::Registry;
use serde_json::{Value, json};

use crate::run::parse_override;
use crate::{EXIT_CONFIG, EXIT_DONE};

/// Options of `ottla validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ottla validate pipeline.toml
  ottla validate worker.properties s3-sink.properties
  ottla validate pipeline.toml --set connectors.lake.flush.size=1000
  ottla validate config/ --json
      for scripts: {\"valid\", \"errors\", \"warnings\", \"connectors\"}")]
pub(crate) struct ValidateArgs {
    /// Configuration files (.toml, .properties, .json), or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// Sets a key over the files: `connectors.NAME.KEY=VALUE`, `worker.KEY=VALUE` or `gateway.KEY=VALUE`. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
    overrides: Vec<(String, String)>,
    /// Answers in JSON.
    #[arg(long)]
    json: bool,
}

/// Checks; the answer is the exit code.
pub(crate) fn run(args: ValidateArgs, registry: &Registry) -> u8 {
    let checked = load(&args.files, &args.overrides, registry);
    #[cfg(feature = "gateway")]
    if let Ok(configuration) = &checked
        && let Some(gateway) = &configuration.gateway
        && let Err(error) = ottla_gateway::check(gateway)
    {
        return crate::exit_code(Err(error));
    }
    let text = if args.json {
        format!("{:#}\n", as_json(&checked))
    } else {
        match &checked {
            Ok(configuration) => {
                for warning in &configuration.warnings {
                    eprintln!("warning: {warning}");
                }
                as_text(configuration)
            }
            Err(diagnostics) => {
                for warning in &diagnostics.warnings {
                    eprintln!("warning: {warning}");
                }
                eprint!("{diagnostics}");
                String::new()
            }
        }
    };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if checked.is_ok() { EXIT_DONE } else { EXIT_CONFIG }
}

fn as_text(configuration: &Configuration) -> String {
    let mut text = String::new();
    let worker = &configuration.worker;
    let _ = match worker.bootstrap_servers.as_str() {
        "embedded" => writeln!(text, "worker: topics are embedded, in {}", worker.state_dir.display()),
        servers => writeln!(text, "worker: Kafka at {servers}, state in {}", worker.state_dir.display()),
    };
    if let Some(gateway) = &configuration.gateway {
        let asks = if gateway.asks_who_calls() { "asks who calls" } else { "for callers on this machine" };
        let _ = writeln!(text, "gateway: http://{}, {asks}", *gateway.listener);
    }
    for connector in &configuration.connectors {
        let tasks =
            if connector.tasks_max == 1 { "1 task".to_owned() } else { format!("up to {} tasks", connector.tasks_max) };
        let plugin = &connector.plugin;
        let _ = writeln!(text, "\n{} {}: {}, {tasks}", plugin.kind(), connector.name, plugin.name);
        for (title, value) in lines(connector, configuration) {
            let _ = writeln!(text, "  {title:<16}{value}");
        }
    }
    let _ = match configuration.connectors.len() {
        0 if configuration.gateway.is_some() => writeln!(text, "\nvalid: a gateway without connectors"),
        0 => writeln!(text, "\nvalid, but there is no connector"),
        1 => writeln!(text, "\nvalid: 1 connector"),
        n => writeln!(text, "\nvalid: {n} connectors"),
    };
    text
}

fn lines(connector: &ConnectorConfig, configuration: &Configuration) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(input) = &connector.sink {
        let start = match input.start {
            StartPosition::Earliest => "from the earliest record",
            StartPosition::Latest => "from what comes after its first start",
            StartPosition::None => "only from a committed offset",
        };
        let topics = match &input.subscription {
            Subscription::Topics(topics) => topics.join(", "),
            Subscription::Regex(_) => {
                format!("every topic like {}", connector.properties.get("topics.regex").unwrap_or_default())
            }
        };
        lines.push(("reads", format!("{topics} as group {}, {start}", input.group)));
    }
    let converters = (connector.key_converter.plugin.name, connector.value_converter.plugin.name);
    lines.push(("converters", format!("key {}, value {}", converters.0, converters.1)));
    if !connector.chain.is_empty() {
        lines.push(("transformations", stages(connector)));
    }
    if let Some(destination) = destination(connector) {
        lines.push(("writes to", destination));
    }
    let failures = match (connector.errors.tolerance, &connector.errors.dead_letter_topic) {
        (Tolerance::None, _) => "the first record that fails stops its task".to_owned(),
        (Tolerance::All, Some(topic)) if connector.sink.is_some() => format!("records that fail go to topic {topic}"),
        (Tolerance::All, _) => "records that fail are reported and skipped".to_owned(),
    };
    lines.push(("failures", failures));
    let servers = connector.client.get("bootstrap.servers").unwrap_or(&configuration.worker.bootstrap_servers);
    let delivery = match (connector.plugin.kind(), servers) {
        (PluginKind::Source, "embedded") => {
            "exactly once into topics: records and their source offset are one commit".to_owned()
        }
        (PluginKind::Source, _) => {
            "at least once into topics: a source offset is stored after its records are durable".to_owned()
        }
        // What a sink promises stands in its own first sentence.
        _ => first_sentence(connector),
    };
    lines.push(("delivery", delivery));
    lines
}

fn first_sentence(connector: &ConnectorConfig) -> String {
    let paragraph = connector.plugin.doc.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The stages in order, those of a chain in brackets after its name.
fn stages(connector: &ConnectorConfig) -> String {
    let names = connector.chain.iter().map(|stage| match stage.name.split_once('/') {
        Some((chain, name)) => (Some(chain), name),
        None => (None, stage.name.as_str()),
    });
    let names = names.collect::<Vec<_>>();
    let groups = names.chunk_by(|(a, _), (b, _)| a == b).map(|group| {
        let stages = group.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
        group[0].0.map_or(stages.clone(), |chain| format!("{chain} ({stages})"))
    });
    groups.collect::<Vec<_>>().join(" > ")
}

/// Where a sink's data will lie, if that can be said before placeholders are resolved.
fn destination(connector: &ConnectorConfig) -> Option<String> {
    let Constructor::Sink(make) = connector.plugin.constructor else { return None };
    make().destination(&connector.properties).filter(|destination| !destination.contains("${"))
}

fn as_json(checked: &Result<Configuration, Diagnostics>) -> Value {
    match checked {
        Ok(configuration) => json!({
            "valid": true,
            "errors": [],
            "warnings": configuration.warnings,
            "worker": {
                "bootstrap.servers": configuration.worker.bootstrap_servers,
                "state.dir": configuration.worker.state_dir,
            },
            "connectors": configuration.connectors.iter().map(connector_json).collect::<Vec<_>>(),
        }),
        Err(diagnostics) => json!({
            "valid": false,
            "errors": diagnostics.errors,
            "warnings": diagnostics.warnings,
        }),
    }
}

fn connector_json(connector: &ConnectorConfig) -> Value {
    let mut value = json!({
        "name": connector.name,
        "type": connector.plugin.kind().to_string(),
        "class": connector.plugin.name,
        "tasks.max": connector.tasks_max,
        "key.converter": connector.key_converter.plugin.name,
        "value.converter": connector.value_converter.plugin.name,
        "transformations": connector.chain.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(),
        "errors.tolerance": match connector.errors.tolerance {
            Tolerance::None => "none",
            Tolerance::All => "all",
        },
        "errors.deadletterqueue.topic.name": connector.errors.dead_letter_topic,
        "destination": destination(connector),
    });
    if let Some(input) = &connector.sink {
        value["group"] = json!(input.group);
        match &input.subscription {
            Subscription::Topics(topics) => value["topics"] = json!(topics),
            Subscription::Regex(_) => value["topics.regex"] = json!(connector.properties.get("topics.regex")),
        }
    }
    value
}
