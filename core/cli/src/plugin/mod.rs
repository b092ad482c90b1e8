//! `ottla plugins`: what there is, what each option of it means, and whether it keeps its promises.

mod explain;
mod inspect;
mod test;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ottla_runtime::config::reference;
use ottla_runtime::plugins::Registry;
use ottla_runtime::plugins::loaded::Limits;

use crate::{EXIT_CONFIG, EXIT_DONE};

/// Options of `ottla plugins`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla plugins
  ottla plugins describe s3-sink
  ottla plugins describe JsonConverter --json
  ottla plugins reference > configuration.md
  ottla plugins --plugin-path target/debug describe my-sink
  ottla plugin inspect target/debug/libmy_sink.so
  ottla plugin test target/debug/libmy_sink.so")]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Counts in the plugins of this library, or of those in this folder; may be given several times.
    #[arg(long, global = true, value_name = "PATH", env = "OTTLA_PLUGIN_PATH", value_delimiter = ',')]
    plugin_path: Vec<PathBuf>,
}

impl PluginsArgs {
    /// True where connectors are run, dozens of times, to see what they do.
    pub(crate) fn is_test(&self) -> bool {
        matches!(self.command, Some(Command::Test(_)))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// List all plugins; the same as no command.
    List,
    /// Explain one plugin: every option with its type, default and meaning.
    Describe {
        /// Its native name, a Java class name, or the end of one.
        name: String,
    },
    /// Print the reference of every option as Markdown.
    Reference,
    /// Show what a library holds and needs, without running any of its code. Exit code 2 where this worker would not load it.
    Inspect(inspect::InspectArgs),
    /// Test whether plugins of a library, or built-in ones, keep their promises.
    Test(test::TestArgs),
}

/// Runs; the answer is the exit code.
pub(crate) async fn run(args: PluginsArgs, registry: &Registry) -> u8 {
    let mut registry = registry.clone();
    for why in registry.add_path(&args.plugin_path, &Limits::default()) {
        eprintln!("ottla: {why}");
    }
    let registry = &registry;
    let text = match args.command.unwrap_or(Command::List) {
        Command::List if args.json => format!("{:#}\n", explain::list_json(registry)),
        Command::List => explain::list(registry),
        Command::Reference => reference(registry),
        Command::Test(test) => return test::run(test, args.json, registry).await,
        Command::Inspect(inspect) => match inspect::inspect(&inspect, args.json) {
            Ok((text, fits)) => {
                let _ = std::io::stdout().write_all(text.as_bytes());
                return if fits { EXIT_DONE } else { EXIT_CONFIG };
            }
            Err(error) => {
                eprintln!("ottla: {error}");
                return EXIT_CONFIG;
            }
        },
        Command::Describe { name } => match registry.find_any(&name) {
            Ok(plugin) if args.json => format!("{:#}\n", explain::details(&plugin)),
            Ok(plugin) => explain::describe(&plugin),
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
