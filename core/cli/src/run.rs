//! `ottla run`: connectors from files, until stopped or until everything has arrived.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ottla_api::config::ConfigValue as _;
use ottla_api::{ErrorKind, Result, error::ResultExt as _};
#[cfg(feature = "gateway")]
use ottla_runtime::config::ConnectorConfig;
use ottla_runtime::config::{RunUntil, WorkerConfig, parse_time};
use ottla_runtime::plugins::Registry;
use ottla_runtime::plugins::loaded::end_process;
use ottla_runtime::worker::{Outcome, Until, Worker};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::logging::Logging;
use crate::report::End;
use crate::topics::DEFAULT_STATE_DIR;
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
    /// Sets a key over the files: `connectors.NAME.KEY=VALUE`, `worker.KEY=VALUE` or `gateway.KEY=VALUE`. Repeatable.
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
            // A plugin may be unknown because its library was left out.
            for warning in &diagnostics.warnings {
                eprintln!("warning: {warning}");
            }
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
    let place = place(&configuration.worker);
    let started = Instant::now();
    // Before anything starts, so that a stop that comes early is an orderly one, too.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return exit_code(Err(error)),
    };
    // On a task of their own: what a plugin is asked at the start may take long, and a second signal ends that, too.
    let (asked, interrupted) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    tokio::spawn(signals.stop(asked.clone(), Arc::clone(&interrupted)));
    let mut worker = match Worker::start(configuration, until).await {
        Ok(worker) => worker,
        Err(error) => return exit_code(Err(error)),
    };
    if let Err(error) = listen(&mut worker).await {
        return exit_code(Err(error));
    }
    let status = worker.status();
    let stop = worker.stop_token();
    let stopping = async {
        asked.cancelled().await;
        stop.cancel();
        std::future::pending().await
    };
    let outcome: Outcome = tokio::select! {
        outcome = worker.run(until) => outcome,
        // Both never end by themselves.
        () = progress::show(status.clone(), logging.clone()) => Outcome::default(),
        () = stopping => Outcome::default(),
    };
    let (end, code) = end(until, interrupted.load(Relaxed), outcome.exit_code());
    let text = report::report(&status, &outcome, end, started.elapsed(), &place);
    // A closed pipe (`| head`) is the reader's choice, not a failure of the run.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

/// Starts the listeners of the worker that are not the runtime's own.
async fn listen(worker: &mut Worker) -> Result<()> {
    if let Some(address) = worker.configuration().worker.kinesis_listener.clone() {
        #[cfg(not(feature = "kinesis"))]
        return Err(ottla_api::Error::config(format!(
            "kinesis.listener: {address:?}: this binary is built without Kinesis"
        )));
        #[cfg(feature = "kinesis")]
        listen_for_kinesis(worker, &address).await?;
    }
    start_gateway(worker).await
}

/// Offers the embedded Kinesis to other programs.
#[cfg(feature = "kinesis")]
async fn listen_for_kinesis(worker: &mut Worker, address: &str) -> Result<()> {
    let kinesis = ottla_connector_kinesis::embedded::EmbeddedKinesis::open(&worker.configuration().worker.state_dir)?;
    let bound = tokio::net::TcpListener::bind(address).await;
    let listener = bound.or_error(ErrorKind::Config, format!("kinesis.listener: listen on {address}"))?;
    let address = listener.local_addr().or_error(ErrorKind::Fatal, "look at the Kinesis listener")?;
    info!(%address, "serving Kinesis");
    let stop = worker.stop_token();
    worker.spawn(kinesis.serve(listener, stop));
    Ok(())
}

/// Starts the gateway where the configuration has one.
#[cfg(feature = "gateway")]
async fn start_gateway(worker: &mut Worker) -> Result<()> {
    let configuration = worker.configuration();
    let Some(gateway) = &configuration.gateway else { return Ok(()) };
    let of_a_sink =
        |connector: &ConnectorConfig| Some((connector.sink.as_ref()?.group.clone(), connector.name.clone()));
    let around = ottla_gateway::Surroundings {
        broker: worker.broker(),
        state_dir: configuration.worker.state_dir.clone(),
        groups: configuration.connectors.iter().filter_map(of_a_sink).collect(),
        status: worker.status(),
    };
    let serving = ottla_gateway::serve(gateway, around, worker.stop_token()).await?;
    worker.spawn(serving);
    Ok(())
}

/// Says that there is none to start.
#[cfg(not(feature = "gateway"))]
async fn start_gateway(worker: &mut Worker) -> Result<()> {
    match &worker.configuration().gateway {
        Some(_) => {
            Err(ottla_api::Error::config("[gateway]: this build has no gateway; build with the feature 'gateway'"))
        }
        None => Ok(()),
    }
}

/// How the run ended, and its exit code.
fn end(until: Until, interrupted: bool, code: u8) -> (End, u8) {
    match until {
        // Whoever waits for "everything is durable" must not be told so.
        Until::CaughtUp { .. } if interrupted => (End::Interrupted, code.max(EXIT_FAILED)),
        _ if code != EXIT_DONE => (End::Failed, code),
        Until::CaughtUp { .. } => (End::CaughtUp, code),
        _ => (End::Stopped, code),
    }
}

/// What `ottla topics` needs to find the topics of this worker; nothing where it looks there by itself.
fn place(worker: &WorkerConfig) -> String {
    match worker.bootstrap_servers.as_str() {
        "embedded" if worker.state_dir == Path::new(DEFAULT_STATE_DIR) => String::new(),
        "embedded" => format!(" --state-dir {}", worker.state_dir.display()),
        servers => format!(" --bootstrap {servers}"),
    }
}

/// SIGTERM and SIGINT, which are heard from the moment this is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).or_error(ErrorKind::Fatal, "listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Turns the first one into a graceful stop; a second one ends the process at once, which loses nothing.
    async fn stop(mut self, stop: CancellationToken, interrupted: Arc<AtomicBool>) {
        for times in 1.. {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            };
            if times > 1 {
                warn!(signal = name, "ending at once; what is not committed is delivered again");
                end_process(130);
            }
            info!(signal = name, "stopping; once more to end at once");
            interrupted.store(true, Relaxed);
            stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_caught_up_says_so() {
        let caught_up = Until::CaughtUp { give_up_after: Duration::ZERO };
        assert_eq!(end(caught_up, false, EXIT_DONE), (End::CaughtUp, EXIT_DONE));
        assert_eq!(end(caught_up, true, EXIT_DONE), (End::Interrupted, EXIT_FAILED));
        assert_eq!(end(caught_up, true, EXIT_CONFIG), (End::Interrupted, EXIT_CONFIG));
        assert_eq!(end(caught_up, false, EXIT_CONFIG), (End::Failed, EXIT_CONFIG));
        assert_eq!(end(Until::Stopped, true, EXIT_DONE), (End::Stopped, EXIT_DONE));
        assert_eq!(end(Until::Elapsed(Duration::ZERO), false, EXIT_FAILED), (End::Failed, EXIT_FAILED));
    }
}
