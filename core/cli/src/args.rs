//! The command line.

use clap::{Parser, Subcommand};

use crate::demo::DemoArgs;
use crate::dev::DevArgs;
use crate::logging::LogFormat;
use crate::new::NewArgs;
use crate::plugin::PluginsArgs;
#[cfg(feature = "query")]
use crate::query::QueryArgs;
use crate::run::RunArgs;
use crate::topics::TopicsArgs;
use crate::transform::TransformArgs;
use crate::validate::ValidateArgs;

/// Kafka Connect's connectors without Kafka Connect: sources, transformations and sinks in one process.
#[derive(Debug, Parser)]
#[command(
    name = "ottla",
    version,
    propagate_version = true,
    after_help = "Examples:
  ottla run examples/pinterest/batch.toml         a whole pipeline with its topics
  ottla run worker.properties s3-sink.properties  Kafka Connect's own files
  ottla validate pipeline.toml                    all mistakes at once
  ottla plugins describe s3-sink                  every option of a plugin
  ottla new sink my-sink                          a plugin of your own
  ottla topics tail posts.pin --follow            what is in a topic
  ottla transform try pipeline.toml --topic t     what a chain makes of records
  ottla query -t pin=lake/posts.pin \"select ..\"   what lies in a folder or table

Exit codes: 0 done, 1 failed while running, 2 invalid configuration,
3 could not reach something."
)]
pub(crate) struct Args {
    /// How log lines look; `auto` is text on a terminal, else JSON. OTTLA_LOG sets the level: `debug`, `warn,ottla=info`.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "auto|text|json",
        hide_possible_values = true
    )]
    #[arg(hide_default_value = true, display_order = 900)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run connectors until stopped, or until everything has arrived.
    Run(RunArgs),
    /// Check configuration files without connecting to anything.
    Validate(ValidateArgs),
    /// List and explain connectors, transformations, predicates and converters, and test them.
    #[command(visible_alias = "plugin")]
    Plugins(PluginsArgs),
    /// Show what transformations make of records, and test them.
    Transform(TransformArgs),
    /// Make a crate with a plugin of your own.
    New(NewArgs),
    /// Build and run the plugin in this folder, again at every change.
    Dev(DevArgs),
    /// Look into topics, or write to them.
    Topics(TopicsArgs),
    /// Ask in SQL what lies in folders, buckets and Delta tables.
    #[cfg(feature = "query")]
    Query(QueryArgs),
    /// Make data to try things with.
    Demo(DemoArgs),
}

impl Command {
    /// What is logged where OTTLA_LOG says nothing else: what connectors tell of their everyday work is noise in a test that
    /// makes and kills hundreds of them.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Self::Plugins(plugins) if plugins.is_test() => "error",
            _ => "info",
        }
    }
}
