//! `ottla run`: connectors from files, until stopped or until everything has arrived.

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use ottla_api::{Error, ErrorKind, Result, error::ResultExt as _};
use ottla_runtime::plugins::Registry;
use ottla_runtime::worker::{Outcome, Until, Worker};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::logging::Logging;
use crate::{EXIT_CONFIG, exit_code, progress, report};

/// Options of `ottla run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ottla run examples/pinterest/batch.toml
  ottla run worker.properties s3-sink.properties --set connectors.s3-sink.store.url=http://127.0.0.1:9000
  ottla run pipeline.toml --until caught-up       from cron or Airflow: exit code 0 once everything is durable
  ottla run pipeline.toml --until 30s --state-dir /tmp/try")]
pub(crate) struct RunArgs {
    /// Configuration files (.toml, .properties, .json), or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// When to end: `caught-up` (bounded sources have finished and the sinks have made everything durable), or after a time
    /// such as `30s`, `5m`. Without it, `run.until` of the worker's configuration, else only when stopped.
    #[arg(long, value_name = "caught-up|DURATION")]
    until: Option<UntilArg>,
    /// With `--until caught-up`: how long something may be out of reach before the run gives up with exit code 3.
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = parse_duration)]
    give_up_after: Duration,
    /// Folder for the worker's state, instead of `state.dir`.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Sets a key over the files: `connectors.NAME.KEY=VALUE` or `worker.KEY=VALUE`. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
    overrides: Vec<(String, String)>,
}

/// The value of `--until` and of `run.until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UntilArg {
    CaughtUp,
    Elapsed(Duration),
}

impl FromStr for UntilArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "caught-up" {
            return Ok(Self::CaughtUp);
        }
        parse_duration(text)
            .map(Self::Elapsed)
            .map_err(|_| format!("must be caught-up or a duration such as 30s, found '{text}'"))
    }
}

/// Reads `500ms`, `30s`, `5m`, `2h`.
pub(crate) fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("must be a duration such as 500ms, 30s, 5m or 2h, found '{text}'");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let number: f64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let seconds = match &text[unit_at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
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
    let until = match (args.until, configuration.worker.run_until.as_deref().map(UntilArg::from_str)) {
        (Some(until), _) | (None, Some(Ok(until))) => Some(until),
        (None, Some(Err(message))) => return exit_code(Err(Error::config(format!("run.until: {message}")))),
        (None, None) => None,
    };
    let until = match until {
        Some(UntilArg::CaughtUp) => Until::CaughtUp { give_up_after: args.give_up_after },
        Some(UntilArg::Elapsed(duration)) => Until::Elapsed(duration),
        None => Until::Stopped,
    };
    let started = Instant::now();
    let worker = match Worker::start(configuration, until).await {
        Ok(worker) => worker,
        Err(error) => return exit_code(Err(error)),
    };
    let status = worker.status();
    let stopping = match stop_on_signal(worker.stop_token()) {
        Ok(stopping) => stopping,
        Err(error) => return exit_code(Err(error)),
    };
    let outcome: Outcome = tokio::select! {
        outcome = worker.run(until) => outcome,
        // Both never end by themselves.
        () = progress::show(status.clone(), logging.clone()) => Outcome::default(),
        () = stopping => Outcome::default(),
    };
    // A closed pipe (`| head`) is the reader's choice, not a failure of the run.
    let _ = std::io::stdout().write_all(report::report(&status, &outcome, started.elapsed()).as_bytes());
    outcome.exit_code()
}

/// Turns SIGTERM and SIGINT into a graceful stop; a second one ends the process at once, which loses nothing.
fn stop_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
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
            stop.cancel();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_people_write_them() {
        assert_eq!("caught-up".parse(), Ok(UntilArg::CaughtUp));
        assert_eq!("1.5s".parse(), Ok(UntilArg::Elapsed(Duration::from_millis(1500))));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "5", "s", "-1s", "caughtup", "1 parsec"] {
            assert!(wrong.parse::<UntilArg>().is_err(), "{wrong}");
        }
    }
}
