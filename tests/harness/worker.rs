//! The binary as a user starts it: arguments, environment, signals, and what it prints.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::services;
use crate::wait;

/// How many lines of the log a failure shows.
const TAIL_LINES: usize = 60;

/// A command line of the binary, not started yet.
#[derive(Debug, Clone, Default)]
pub struct Ottla {
    args: Vec<String>,
    env: Vec<(String, String)>,
    dir: Option<PathBuf>,
}

impl Ottla {
    /// `ottla ARGS`.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self { args: args.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// `ottla run FILES`.
    pub fn run<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Self {
        let files = files.into_iter().map(|file| file.as_ref().display().to_string());
        Self::new(["run".to_owned()].into_iter().chain(files))
    }

    /// `--until caught-up`.
    #[must_use]
    pub fn until_caught_up(self) -> Self {
        self.arg("--until").arg("caught-up")
    }

    /// `--set KEY=VALUE`.
    #[must_use]
    pub fn set(self, key: impl std::fmt::Display, value: impl std::fmt::Display) -> Self {
        self.arg("--set").arg(format!("{key}={value}"))
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The credentials of the S3 endpoint, where AWS's tools look for them.
    #[must_use]
    pub fn s3_credentials(self) -> Self {
        let (key, secret) = services::s3_credentials();
        self.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret)
    }

    /// The folder in which it runs; relative paths of its configuration begin there.
    #[must_use]
    pub fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let mut command = Command::new(services::binary());
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            // What the developer's shell has set for AWS, or for logs, is not part of a test; what tells a test about its
            // services is not for the binary to see.
            let name = name.to_string_lossy();
            if name.starts_with("AWS_") || name.starts_with("OTTLA_") {
                command.env_remove(name.as_ref());
            }
        }
        // Without this, missing credentials are looked for at an address that answers on Amazon's machines only.
        command.env("AWS_EC2_METADATA_DISABLED", "true").envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {self}: {error}"));
        let stdout = Captured::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Captured::of(child.stderr.take().expect("stderr is a pipe"));
        Running { line: self.to_string(), child, stdout, stderr, started: Instant::now(), ended: None }
    }

    /// Starts it and waits for its end.
    ///
    /// # Panics
    ///
    /// Where it runs longer.
    pub fn finish(&self, within: Duration) -> Finished {
        self.start().wait(within)
    }
}

/// As one would type it.
impl std::fmt::Display for Ottla {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ottla {}", self.args.join(" "))
    }
}

/// A running process. It is killed when dropped.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: Captured,
    stderr: Captured,
    started: Instant,
    ended: Option<ExitStatus>,
}

impl Running {
    /// SIGKILL, and waits until the process is gone. What it had printed so far.
    pub fn kill_9(mut self) -> Finished {
        let _ = self.child.kill();
        self.wait(wait::SOON)
    }

    /// SIGTERM, and waits for the orderly end.
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.wait(wait::SOON)
    }

    /// SIGSTOP: nothing of it runs until [`go_on`](Self::go_on).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal, to this process by its id.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("send {signal:?}: {error}; {}", self.report()));
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the process can be waited for");
        }
        self.ended.is_none()
    }

    /// How long it has been running.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// Where it runs longer.
    pub fn wait(mut self, within: Duration) -> Finished {
        let deadline = Instant::now() + within;
        while self.is_running() {
            if Instant::now() >= deadline {
                panic!("still running after {} s; {}", within.as_secs_f32(), self.report());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let code = self.ended.and_then(|status| status.code());
        let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
        Finished { line: self.line.clone(), code, stdout, stderr, took: self.started.elapsed() }
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    ///
    /// When the deadline passes or the process ends before; shows the log's tail.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> T {
        wait::until(what, within, || {
            let alive = self.is_running();
            match look(self) {
                Err(instead) if !alive => panic!("ended before {what} ({instead}); {}", self.report()),
                Err(instead) => Err(format!("{instead}; {}", self.report())),
                found => found,
            }
        })
    }

    /// Waits for a log line.
    pub fn wait_for_log(&mut self, what: &str, within: Duration, is_it: impl Fn(&LogLine) -> bool) -> LogLine {
        self.wait_until(what, within, |running| {
            log_lines(&running.stderr.so_far()).into_iter().find(&is_it).ok_or_else(|| "no such line".to_owned())
        })
    }

    /// What it printed on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// The command line and the end of the log, for a failure's message.
    pub fn report(&self) -> String {
        report(&self.line, &self.stdout.so_far(), &self.stderr.so_far())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    line: String,
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// Checks the exit code.
    ///
    /// # Panics
    ///
    /// Where it is another, with the log's tail.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code (left) is not the expected one (right); {}", self.report());
        self
    }

    /// Checks that a text stands on standard error.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "standard error does not say '{text}'; {}", self.report());
        self
    }

    /// Checks that a text stands in the table at the end of a run.
    #[track_caller]
    pub fn reports(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "standard output does not say '{text}'; {}", self.report());
        self
    }

    /// The log, where it is JSON.
    pub fn log(&self) -> Vec<LogLine> {
        log_lines(&self.stderr)
    }

    /// The command line and the end of the log, for a failure's message.
    pub fn report(&self) -> String {
        report(&self.line, &self.stdout, &self.stderr)
    }
}

/// One JSON log line.
#[derive(Debug, Clone)]
pub struct LogLine(pub Value);

impl LogLine {
    /// A field as text; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        self.field("message")
    }

    /// The level: `INFO`.
    pub fn level(&self) -> &str {
        self.field("level")
    }
}

fn log_lines(stderr: &str) -> Vec<LogLine> {
    stderr.lines().filter_map(|line| serde_json::from_str(line).ok().map(LogLine)).collect()
}

fn report(line: &str, stdout: &str, stderr: &str) -> String {
    let tail = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ")
    };
    format!("\n$ {line}\nstandard output:\n  {}\nend of standard error:\n  {}\n", tail(stdout), tail(stderr))
}

/// What a pipe has brought so far, read by a thread of its own so that the process never waits for us.
#[derive(Debug)]
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                into.lock().expect("no reader panics").extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader panics")).into_owned()
    }

    /// Everything, after the process has ended.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader never panics");
        }
        self.so_far()
    }
}

/// A GET to a listener on loopback: status and body.
pub fn http_get(address: &str, path: &str) -> Result<(u16, String), String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("GET http://{address}{path}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP answer: {answer}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("no HTTP status: {head}"))?, body.to_owned()))
}

/// The values of an embedded topic, one partition of it or all, as `ottla topics read` shows them.
pub fn topic_values(state: &Path, topic: &str, partition: Option<i32>) -> Vec<String> {
    let mut read = Ottla::new(["topics", "--state-dir", &state.display().to_string(), "read", topic]);
    if let Some(partition) = partition {
        read = read.arg("--partition").arg(partition.to_string());
    }
    read.finish(wait::SOON).exits_with(0).stdout.lines().map(str::to_owned).collect()
}
