//! Log lines on standard error: text for a person, JSON for a machine, never through a progress line.

use std::io::{self, IsTerminal as _, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Text where standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the progress display needs of the log: lines are written above the live ones.
#[derive(Debug, Clone)]
pub(crate) struct Logging {
    /// The live lines.
    pub(crate) live: MultiProgress,
    /// Whether there may be any.
    pub(crate) terminal: bool,
}

/// Starts logging.
pub(crate) fn start(format: LogFormat) -> Logging {
    let terminal = io::stderr().is_terminal();
    let logging = Logging { live: MultiProgress::new(), terminal };
    // Libraries log what they retry; what matters of that is said by the task concerned.
    let filter = EnvFilter::try_from_env("OTTLA_LOG").unwrap_or_else(|_| {
        EnvFilter::new("info,fjall=warn,lsm_tree=warn,aws_config=warn,aws_smithy_runtime=warn,sqlx=warn,hyper=warn")
    });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveLive(logging.live.clone()));
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).with_target(false).init();
    } else {
        lines.with_ansi(terminal).with_target(false).compact().init();
    }
    logging
}

/// Writes a line while the live lines are out of the way.
#[derive(Debug, Clone)]
struct AboveLive(MultiProgress);

impl Write for AboveLive {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AboveLive {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
