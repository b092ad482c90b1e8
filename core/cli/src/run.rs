//! `ottla run`: connectors from files, until stopped or until everything has arrived.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ottla_api::config::ConfigValue as _;
use ottla_api::{ErrorKind, Result, error::ResultExt as _};
use ottla_runtime::config::{RunUntil, parse_time};
use ottla_runtime::plugins::Registry;
use ottla_runtime::worker::{Outcome, Until, Worker};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::logging::Logging;
use crate::report::End;
use crate::{EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, exit_code, progress, report};

/// Options of `ottla run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ottla run examples/pinterest/batch.toml
  ottla run worker.properties s3-sink.properties
  ottla run pipeline.toml --set connectors.lake.flush.size=10
  ottla run pipeline.toml --until 30s --state-dir /tmp/try
  ottla run pipeline.toml --until caught-up
      from cron or Airflow: exit code 0 only once everything is durable")]
pub(crate) struct RunArgs {
    /// Configuration files (.toml, .properties, .json), or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// When to end: `caught-up` (bounded sources have finished and the sinks have made everything durable), or after a time
    /// such as `30s`, `5m`. Without it, `run.until` of the worker's configuration, else only when stopped.
    #[arg(long, value_name = "caught-up|TIME", value_parser = RunUntil::parse)]
    until: Option<RunUntil>,
    /// With `--until caught-up`: how long something may be out of reach before the run gives up with exit code 3.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_time)]
    give_up_after: Duration,
    /// Folder for the worker's state, instead of `state.dir`.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Sets a key over the files: `connectors.NAME.KEY=VALUE` or `worker.KEY=VALUE`. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
    overrides: Vec<(String, String)>,
}

/// Splits `key=value`.
pub(crate) fn parse_override(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("must be KEY=VALUE, found '{text}'")),
    }
}

/// Runs; the answer is the exit code.
pub(crate) async fn run(args: RunArgs, registry: &Registry, logging: &Logging) -> u8 {
    let mut overrides = args.overrides.clone();
    if let Some(dir) = &args.state_dir {
        overrides.push(("worker.state.dir".to_owned(), dir.display().to_string()));
    }
    let configuration = match ottla_runtime::config::load(&args.files, &overrides, registry) {
        Ok(configuration) => configuration,
        Err(diagnostics) => {
            eprint!("{diagnostics}");
            return EXIT_CONFIG;
        }
    };
    for warning in &configuration.warnings {
        warn!("{warning}");
    }
    let until = match args.until.or(configuration.worker.run_until) {
        Some(RunUntil::CaughtUp) => Until::CaughtUp { give_up_after: args.give_up_after },
        Some(RunUntil::Elapsed(time)) => Until::Elapsed(time),
        None => Until::Stopped,
    };
    let started = Instant::now();
    let worker = match Worker::start(configuration, until).await {
        Ok(worker) => worker,
        Err(error) => return exit_code(Err(error)),
    };
    let status = worker.status();
    let interrupted = AtomicBool::new(false);
    let stopping = match stop_on_signal(worker.stop_token(), &interrupted) {
        Ok(stopping) => stopping,
        Err(error) => return exit_code(Err(error)),
    };
    let outcome: Outcome = tokio::select! {
        outcome = worker.run(until) => outcome,
        // Both never end by themselves.
        () = progress::show(status.clone(), logging.clone()) => Outcome::default(),
        () = stopping => Outcome::default(),
    };
    let end = match until {
        // Whoever waits for "everything is durable" must not be told so.
        Until::CaughtUp { .. } if interrupted.load(Relaxed) => End::Interrupted,
        _ if outcome.exit_code() != EXIT_DONE => End::Failed,
        Until::CaughtUp { .. } => End::CaughtUp,
        _ => End::Stopped,
    };
    // A closed pipe (`| head`) is the reader's choice, not a failure of the run.
    let _ = std::io::stdout().write_all(report::report(&status, &outcome, end, started.elapsed()).as_bytes());
    match end {
        End::Interrupted => outcome.exit_code().max(EXIT_FAILED),
        _ => outcome.exit_code(),
    }
}

/// Turns SIGTERM and SIGINT into a graceful stop; a second one ends the process at once, which loses nothing.
fn stop_on_signal(stop: CancellationToken, interrupted: &AtomicBool) -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).or_error(ErrorKind::Fatal, "listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        for times in 1.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if times > 1 {
                warn!(signal = name, "ending at once; what is not committed is delivered again");
                std::process::exit(130);
            }
            info!(signal = name, "stopping; once more to end at once");
            interrupted.store(true, Relaxed);
            stop.cancel();
        }
    })
}
