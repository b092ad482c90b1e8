//! The binary `ottla`: read the command line, run one command, exit with its code.

mod args;
mod demo;
mod dev;
mod logging;
mod new;
mod plugin;
mod progress;
#[cfg(feature = "query")]
mod query;
mod report;
mod run;
mod topics;
mod transform;
mod validate;

use std::time::Duration;

use clap::Parser as _;
use ottla_api::ErrorKind;
use ottla_runtime::plugins::Registry;
use ottla_runtime::plugins::loaded::end_process;

use args::{Args, Command};

/// Done.
const EXIT_DONE: u8 = 0;
/// Something failed while running.
const EXIT_FAILED: u8 = 1;
/// The configuration, or the command line, can't work.
const EXIT_CONFIG: u8 = 2;
/// Something could not be reached, or refused the credentials.
const EXIT_UNREACHABLE: u8 = 3;

/// How long the end of the process waits for threads that still do something. Most write the last bytes of a file; those that
/// a plugin holds never end.
const THREADS_END_WITHIN: Duration = Duration::from_secs(1);

fn main() {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ottla: start the runtime: {error}");
            end_process(EXIT_FAILED);
        }
    };
    let code = runtime.block_on(run_command());
    runtime.shutdown_timeout(THREADS_END_WITHIN);
    end_process(code)
}

async fn run_command() -> u8 {
    let args = Args::parse();
    let logging = logging::start(args.log_format, args.command.log_level());
    let registry = registry();
    match args.command {
        Command::Run(run) => run::run(run, &registry, &logging).await,
        Command::Validate(validate) => validate::run(validate, &registry),
        Command::Plugins(plugins) => plugin::run(plugins, &registry).await,
        Command::Transform(transform) => transform::run(transform, &registry),
        Command::New(new) => exit_code(new::run(new, &registry)),
        Command::Dev(dev) => exit_code(dev::run(dev).await),
        Command::Topics(topics) => exit_code(topics::run(topics, &registry).await),
        #[cfg(feature = "query")]
        Command::Query(query) => exit_code(query::run(query, &logging).await),
        Command::Demo(demo) => exit_code(demo::run(demo).await),
    }
}

/// Every plugin that is built in. Only this place knows them all.
fn registry() -> Registry {
    let mut plugins = ottla_connector_file::PLUGINS.to_vec();
    #[cfg(feature = "delta")]
    plugins.extend(ottla_connector_delta::PLUGINS);
    #[cfg(feature = "kinesis")]
    plugins.extend(ottla_connector_kinesis::PLUGINS);
    plugins.extend(ottla_connector_rds::PLUGINS);
    plugins.extend(ottla_connector_s3::PLUGINS);
    plugins.extend(ottla_converters::plugins());
    plugins.extend(ottla_transforms::plugins());
    plugins.extend(ottla_runtime::plugins::builtin());
    Registry::new(plugins)
}

/// Prints the error of a command that has nothing more to say, and turns it into the exit code.
fn exit_code(result: ottla_api::Result<()>) -> u8 {
    match result {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            eprintln!("ottla: {error}");
            match error.kind() {
                ErrorKind::Config => EXIT_CONFIG,
                ErrorKind::Unreachable | ErrorKind::RefreshAuth => EXIT_UNREACHABLE,
                _ => EXIT_FAILED,
            }
        }
    }
}
