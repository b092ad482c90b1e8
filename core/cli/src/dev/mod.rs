//! `ottla dev`: builds the plugin in this folder, runs its example with it, and does so again at every change.
//!
//! The worker is a process of its own: a plugin is never unloaded, and one that ends its process must not end this one. While a
//! new build fails, the worker with the last good one goes on.

mod build;
mod changes;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ottla_api::error::ResultExt as _;
use ottla_api::{Error, ErrorKind, Result};
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use changes::Changes;

/// Everything that a session leaves behind, in the crate's folder: state, copies of the library, what the example writes.
const FOLDER: &str = "target/ottla-dev";
/// How long a worker has to end by itself. It gives up what it is doing after `task.shutdown.graceful.timeout.ms`.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Options of `ottla dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples, in the folder of a crate that `ottla new` has made:
  ottla dev
  ottla dev --fresh
  ottla dev --config other.toml -- --set worker.metrics.listener=127.0.0.1:9464
  ottla topics --state-dir target/ottla-dev/state tail records
      in another terminal: what is in the topic")]
pub(crate) struct DevArgs {
    /// Configuration that the worker runs.
    #[arg(long, value_name = "FILE", default_value = "example.toml")]
    config: PathBuf,
    /// Begins with nothing: removes target/ottla-dev, with the topics and whatever the example has written there.
    #[arg(long)]
    fresh: bool,
    /// Builds with optimisations.
    #[arg(long)]
    release: bool,
    /// More arguments of `ottla run`.
    #[arg(last = true, value_name = "RUN_ARGUMENT")]
    run_args: Vec<String>,
}

/// What happens next.
enum Event {
    /// A file that the build or the run depends on is another one now.
    Changed,
    /// The worker has ended by itself.
    Ended(ExitStatus),
    /// Somebody wants it all to end.
    Stop,
}

/// What ends a session: Ctrl-C, SIGTERM, and the end of the terminal, which would leave the worker behind otherwise.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stops {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).or_error(ErrorKind::Fatal, "listen for signals");
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup: listen(SignalKind::hangup())? })
    }

    /// Waits for one.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Builds and runs until it is stopped.
pub(crate) async fn run(args: DevArgs) -> Result<()> {
    for (file, way_out) in [
        (Path::new("Cargo.toml"), "run this in the folder of a plugin's crate; `ottla new sink NAME` makes one"),
        (&args.config, "write one, or name it with --config"),
    ] {
        if !file.is_file() {
            return Err(Error::config(format!("{} is not there: {way_out}", file.display())));
        }
    }
    if args.fresh && Path::new(FOLDER).exists() {
        std::fs::remove_dir_all(FOLDER).or_error(ErrorKind::Fatal, format!("remove {FOLDER}"))?;
    }
    std::fs::create_dir_all(FOLDER).or_error(ErrorKind::Fatal, format!("make {FOLDER}"))?;
    let mut worker = None;
    let outcome = session(&args, &mut worker).await;
    stop(worker).await;
    outcome
}

/// Builds and runs, again at every change, until it is stopped. The worker that runs at the end is left to the caller.
async fn session(args: &DevArgs, worker: &mut Option<Child>) -> Result<()> {
    let mut stops = Stops::listen()?;
    let mut changes = Changes::of([Path::new("Cargo.toml"), Path::new("build.rs"), Path::new("src"), &args.config]);
    for number in 1.. {
        // A change from here on is one that this build may have missed.
        changes.note();
        let begun = Instant::now();
        let built = tokio::select! {
            built = build::build(args.release) => built?,
            () = stops.any() => break,
        };
        match built {
            Some(library) => {
                say(&format!("built in {:.1} s", begun.elapsed().as_secs_f64()));
                stop(worker.take()).await;
                *worker = Some(start(args, &library, number)?);
            }
            None if worker.is_some() => say("the build failed; the worker goes on with the last one that did not"),
            None => say("the build failed; waiting for a change"),
        }
        loop {
            let event = tokio::select! {
                () = changes.wait() => Event::Changed,
                status = ended(worker) => Event::Ended(status?),
                () = stops.any() => Event::Stop,
            };
            match event {
                Event::Changed => break,
                Event::Ended(status) => {
                    *worker = None;
                    say(&format!("the worker has ended ({status}); waiting for a change"));
                }
                Event::Stop => return Ok(()),
            }
        }
        say("changed; building");
    }
    Ok(())
}

/// Starts a worker with a copy of the library: the next build writes into the original.
fn start(args: &DevArgs, library: &Path, number: usize) -> Result<Child> {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    let folder = Path::new(FOLDER).join("libraries");
    let copy = folder.join(format!("{number}-{name}"));
    let place = || -> std::io::Result<PathBuf> {
        if number == 1 && folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(library, &copy)?;
        copy.canonicalize()
    };
    let copy = place().or_error(ErrorKind::Fatal, format!("copy {} to {}", library.display(), copy.display()))?;
    let this = std::env::current_exe().or_error(ErrorKind::Fatal, "find this program")?;
    let mut command = Command::new(this);
    command.arg("run").arg(&args.config).args(["--state-dir", &format!("{FOLDER}/state")]);
    command.arg("--set").arg(format!("worker.plugin.path={}", copy.display())).args(&args.run_args);
    // In a process group of its own, so that Ctrl-C reaches this process alone, which then stops the worker in order.
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command.spawn().or_error(ErrorKind::Fatal, "start a worker")
}

/// Waits for the end of the worker; for ever where there is none.
async fn ended(worker: &mut Option<Child>) -> Result<ExitStatus> {
    match worker {
        Some(child) => child.wait().await.or_error(ErrorKind::Fatal, "wait for the worker"),
        None => std::future::pending().await,
    }
}

/// Stops a worker in order, or at once where that takes too long.
async fn stop(worker: Option<Child>) {
    let Some(mut child) = worker else { return };
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended by itself just now.
        let _ = kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(STOP_DEADLINE, child.wait()).await.is_err() {
        say("the worker does not end by itself; ending it at once");
        let _ = child.kill().await;
    }
}

/// A line about what is going on, among those of cargo and the worker.
fn say(text: &str) {
    eprintln!("ottla dev: {text}");
}
