//! A worker inside another program, with a sink that is part of the program: it counts words in memory.
//!
//! Run it, at the top of the repository:
//!
//! ```sh
//! cargo run -p embedded-worker -- examples/embedded-worker/worker.toml
//! ```

mod count_words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ottla_api::{Error, Result};
use ottla_runtime::plugins::Registry;
use ottla_runtime::worker::{Outcome, Until, Worker};

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).map(PathBuf::from).collect()).await {
        Ok(outcome) => {
            for (word, times) in count_words::counts() {
                println!("{times} {word}");
            }
            for (task, error) in &outcome.failures {
                eprintln!("{task}: {error}");
            }
            ExitCode::from(outcome.exit_code())
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the files say until everything has arrived, or until Ctrl-C.
async fn run(files: Vec<PathBuf>) -> Result<Outcome> {
    // A worker knows the plugins that it is given: ours, and of Ottla's those that we need.
    let mut plugins = vec![count_words::PLUGIN];
    plugins.extend(ottla_connector_file::PLUGINS);
    plugins.extend(ottla_converters::plugins());
    let registry = Registry::new(plugins);
    let configuration = ottla_runtime::config::load(&files, &[], &registry);
    let configuration = configuration.map_err(|mistakes| Error::config(mistakes.to_string()))?;

    // `Until::Stopped` for a program that goes on.
    let until = Until::CaughtUp { give_up_after: Duration::from_secs(60) };
    let worker = Worker::start(configuration, until).await?;
    // Kept by whoever wants to look at the connectors, or to stop them, while the worker runs.
    let (status, stop) = (worker.status(), worker.stop_token());
    let on_signal = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let outcome = worker.run(until).await;
    on_signal.abort();
    for connector in status.connectors() {
        eprintln!("{} {}: {:?}", connector.class, connector.name, connector.state());
    }
    Ok(outcome)
}
